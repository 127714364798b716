"""A real model on real problems, greedy: our responses beside generate's, our verdicts beside Math-Verify's.

    python bench/agree.py --model PATH_OR_HUB_ID --data gsm8k -n 100       # pip install math-verify, for the verdicts

`generate` takes one problem at a time, so nothing is padded. Where two ids differ, the gap between their logits under
one forward tells a different model (large) from rounding (1e-5). Verdicts are compared on our responses.
"""

import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
import config
import data
import policy
from rollouts import evaluate, exact, prompting_of
from sampler import Sampler


@torch.no_grad()
def generated(model, prompt: list[int], limit: int, eos_ids: set[int]) -> list[int]:
    """The ids that transformers' generate gives, greedily."""
    ids = torch.tensor([prompt], device=model.device)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, eos_token_id=sorted(eos_ids),
        pad_token_id=min(eos_ids), repetition_penalty=1.0,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


@torch.no_grad()
def gap(model, prompt: list[int], ours: list[int], theirs: list[int]) -> float:
    """Between the logits of the first two ids that differ, after what is the same."""
    at = next(i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b)
    logits = model(input_ids=torch.tensor([prompt + ours[:at]], device=model.device)).logits[0, -1].float()
    return (logits[ours[at]] - logits[theirs[at]]).abs().item()


def math_verify(text: str, gold: str) -> bool:
    """Math-Verify's verdict, as its own grader asks for it."""
    from math_verify import parse, verify

    return verify(parse(f"\\boxed{{{gold}}}"), parse(text))


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="gsm8k")
    parser.add_argument("-n", type=int, default=100, help="the first so many problems (default 100)")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    args = parser.parse_args()
    model, tokenizer = policy.load(args.model)
    problems, eos_ids = data.load(args.data)[: args.n], policy.eos_ids(model, tokenizer)
    templates, chat = prompting_of(tokenizer, config.Prompting())
    prompts = [*data.prompts_of(problems, tokenizer, templates, **chat)]
    sampler = Sampler(model, eos_ids=eos_ids)
    start = time.perf_counter()
    how = {"max_new_tokens": args.max_new_tokens, "temperature": 0.0, "progress": "responses"}
    responses = evaluate(sampler, tokenizer, problems, prompts, 1, exact, **how)
    seconds, start = time.perf_counter() - start, time.perf_counter()
    theirs = [generated(model, prompt, args.max_new_tokens, eos_ids) for prompt in tqdm(prompts, desc="generate")]
    print(f"sampler {seconds:.0f} s, generate, one at a time, {time.perf_counter() - start:.0f} s")
    for i, (response, ids) in enumerate(zip(responses, theirs)):
        if response.ids != ids:
            print(f"problem {i}: ids differ, logits by {gap(model, prompts[i], response.ids, ids):.1e}")
    same = sum(response.ids == ids for response, ids in zip(responses, theirs))
    tokens, cut = sum(len(r.ids) for r in responses), sum(not r.finished for r in responses)
    print(f"{same} of {len(problems)} responses equal generate's, {tokens} tokens, {cut} responses cut")
    # A cut response counts as wrong, so the checkers are compared on what ended.
    ended = [(r, p) for r, p in zip(responses, problems) if r.finished]
    verdicts = [(r.correct, math_verify(r.text, p.answer)) for r, p in ended]
    ours, other = (100 * sum(column) / max(1, len(problems)) for column in zip(*verdicts))
    print(f"pass@1: verifier.py {ours:.1f} %, Math-Verify {other:.1f} %")
    for (response, problem), (mine, its) in zip(ended, verdicts):
        if mine != its:
            print(f"verifier.py {mine}, Math-Verify {its}, gold {problem.answer}: ...{response.text[-200:]!r}")


if __name__ == "__main__":
    config.run(main)
