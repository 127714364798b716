"""How far the sampler's and the trainer's log-probabilities are apart, by position and precision, on a real model.

    python bench/precision.py --model PATH_OR_HUB_ID             # 4 responses of 2,000 tokens

`gap_max` of a run should be rounding noise. What that is depends on the precision that rollouts are computed in:
float32 on CPUs, bfloat16 on GPUs, where the trainer computes in bfloat16, too, but in other shapes and orders. Tokens
are sampled at temperature 1, and nothing ends them.
"""

import copy
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import itertools

import config
import data
import policy
from rollouts import prompting_of
from sampler import Sampler

QUESTIONS = (
    "Explain how a bill becomes a law, at length.",
    "Write a long story about a lighthouse keeper.",
    "Prove in detail that there are infinitely many primes.",
    "Describe the history of the bicycle, decade by decade.",
)


def in_bfloat16(model):
    """A copy as `parallel.WholeWeights` makes it on a GPU: parameters only, not the rotary frequencies."""
    model = copy.deepcopy(model)
    for p in model.parameters():
        p.data = p.data.to(torch.bfloat16)
    return model


@torch.no_grad()
def trainer(model, prompts, completions) -> torch.Tensor:
    """What the trainer gives, [B, T], a row at a time."""
    network = policy.Policy(model)
    return torch.stack([network([p], [c.ids])[0].float() for p, c in zip(prompts, completions)])


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", type=int, default=2000)
    args = parser.parse_args()
    model, tokenizer = policy.load(args.model)
    _, chat = prompting_of(tokenizer, config.Prompting())
    prompts, half = data.prompt_ids(tokenizer, [*QUESTIONS], **chat), in_bfloat16(model)
    gaps = {}
    for name, sampled_with, pairs in (
        ("float32 sampler", model, {"float32 trainer": model}),
        ("bfloat16 sampler", half, {"bfloat16 trainer": half, "float32 trainer": model}),
    ):
        sampler = Sampler(sampled_with, eos_ids=())
        groups = sampler.sample(prompts, max_new_tokens=args.tokens, progress=name)
        completions = [completion for [completion] in groups]
        mine = torch.tensor([completion.logprobs for completion in completions])
        for other, network in pairs.items():
            gaps[f"{name}, {other}"] = (mine - trainer(network, prompts, completions)).abs()
    bounds = [0, *(args.tokens * share // 8 for share in (1, 2, 4, 6, 8))]
    print("| mean, and largest, by position |", *(f"{a} to {b} |" for a, b in itertools.pairwise(bounds)))
    print("|" + " --- |" * len(bounds))
    for name, gap_BT in gaps.items():
        parts = [gap_BT[:, a:b] for a, b in itertools.pairwise(bounds)]
        print(f"| {name} |", *(f"{part.mean():.1e}, {part.max():.1e} |" for part in parts))


if __name__ == "__main__":
    config.run(main)
