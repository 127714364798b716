"""The sampler beside transformers' generate, in one run: useful tokens a second on groups of completions.

    python bench/sampler.py                 # a tiny model on the CPU: hidden 128, 4 layers

ragged  32 prompts of 40 to 120 tokens, 8 completions each, lengths geometric with mean 100, cut at 400
even    the same prompts, every completion 100 tokens

Lengths are given, not sampled, so that both do the same work; no token ends a completion. `generate` gets what a user
would give it: batches of as many rows as the sampler has slots, left-padded, each run to its longest completion. Only
the tokens up to a completion's own length count as useful. The bound is the time of a full decode step's matrix
products.
"""

import random
import sys
import time
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
import config
from sampler import Sampler


def make_model(hidden: int, layers: int, vocab: int):
    """An untrained Qwen3 with grouped-query attention; its sampled text means nothing and costs the same."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, head_dim=32,
        num_attention_heads=hidden // 32, num_key_value_heads=max(1, hidden // 64), max_position_embeddings=1024,
        tie_word_embeddings=True, eos_token_id=None, bos_token_id=None, pad_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip
    return Qwen3ForCausalLM(shape).eval()


def work(rng: random.Random, vocab: int, even: bool):
    """Prompts [256], each repeated 8 times, and the length of each completion."""
    prompts = [[rng.randrange(1, vocab) for _ in range(rng.randint(40, 120))] for _ in range(32)]
    lengths = [100 if even else min(400, 1 + int(rng.expovariate(1 / 100))) for _ in range(256)]
    return [prompt for prompt in prompts for _ in range(8)], lengths


def ours(model, prompts, lengths, slots):
    """Seconds of the sampler, and its statistics."""
    sampler = Sampler(model, eos_ids=(), slots=slots)
    start = time.perf_counter()
    groups = sampler.sample(prompts, max_new_tokens=lengths)
    seconds = time.perf_counter() - start
    assert [len(completion.ids) for [completion] in groups] == lengths
    return seconds, sampler.stats


def generate(model, prompts, lengths, slots):
    """Seconds of transformers' generate, batch after batch."""
    start = time.perf_counter()
    for first in range(0, len(prompts), slots):
        batch, longest = prompts[first : first + slots], max(lengths[first : first + slots])
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        out = model.generate(ids, attention_mask=mask, max_new_tokens=longest, do_sample=True, top_k=0, top_p=1.0)
        assert out.shape[1] == width + longest
    return time.perf_counter() - start


@torch.no_grad()
def matrix_seconds(model, slots: int, repeats: int = 50) -> float:
    """Seconds of the matrix products of one decode step with `slots` rows: every linear layer on random inputs."""
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = [torch.randn(slots, m.in_features) for m in linears]
    for m, x in zip(linears, inputs):
        m(x)
    start = time.perf_counter()
    for _ in range(repeats):
        for m, x in zip(linears, inputs):
            m(x)
    return (time.perf_counter() - start) / repeats


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--skip-generate", action="store_true", help="only the sampler")
    args = parser.parse_args()
    model = make_model(args.hidden, args.layers, args.vocab)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.slots} slots, hidden {args.hidden}")
    for name in ("ragged", "even"):
        prompts, lengths = work(random.Random(0), args.vocab, name == "even")
        seconds, stats = ours(model, prompts, lengths, args.slots)
        mine = sum(lengths) / seconds
        print(
            f"{name}: {sum(lengths)} useful tokens; sampler {mine:.0f} tokens/s, occupancy {stats.occupancy:.2f}",
            end="",
        )
        if not args.skip_generate:
            theirs = sum(lengths) / generate(model, prompts, lengths, args.slots)
            print(f"; generate {theirs:.0f} tokens/s; ratio {mine / theirs:.2f}", end="")
        step = stats.decode_seconds / stats.steps
        bound = matrix_seconds(model, args.slots)
        print(f"; decode step {1e3 * step:.2f} ms, its matrix products {1e3 * bound:.2f} ms ({step / bound:.1f} times)")


if __name__ == "__main__":
    config.run(main)
