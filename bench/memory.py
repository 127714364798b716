"""Log-probabilities in chunks beside the plain way: peak memory and time of forward and backward.

    python bench/memory.py [--tokens 4096] [--vocabulary 151936] [--hidden 64]

Each way runs in a process of its own; extra memory is the peak of that process above what it held before. The hidden
states are narrow, so that nearly all of the work and memory is the output layer's and the softmax's.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
import config
from policy import Policy


def plain(head, hidden_ND, target_N):
    """All logits at once."""
    logprobs_NV = head(hidden_ND).float().log_softmax(-1)
    with torch.no_grad():
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(-1, target_N[:, None])[:, 0], entropy_N


def measure(way: str, tokens: int, vocabulary: int, width: int):
    """Print the extra peak memory in MiB, the seconds, and a checksum of the gradient."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width, num_hidden_layers=1, head_dim=32,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen3ForCausalLM(shape)
    hidden_ND = torch.randn(tokens, width, requires_grad=True)
    target_N = torch.randint(vocabulary, (tokens,))
    head, policy = model.get_output_embeddings(), Policy(model)
    head.weight.grad, hidden_ND.grad = torch.zeros_like(head.weight), torch.zeros_like(hidden_ND)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    logprobs_N, _ = plain(head, hidden_ND, target_N) if way == "plain" else policy.head(hidden_ND, target_N)
    (logprobs_N.sum() / tokens).backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(peak / 1024, seconds, hidden_ND.grad.double().norm().item())


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--way", choices=("chunked", "plain"), help="measure this way alone, in this process")
    args = parser.parse_args()
    if args.way:
        measure(args.way, args.tokens, args.vocabulary, args.hidden)
        return
    found = {}
    for way in ("chunked", "plain"):
        given = [f"--{name}={value}" for name, value in vars(args).items() if name != "way"]
        out = subprocess.run(
            [sys.executable, __file__, *given, "--way", way], capture_output=True, text=True, check=True
        )
        found[way] = [float(word) for word in out.stdout.split()]
        print(f"{way}: {found[way][0]:.0f} MiB more at the peak, {found[way][1]:.2f} s", flush=True)
    (small, quick, one), (large, slow, two) = found["chunked"], found["plain"]
    print(f"memory {small / large:.3f} of the plain way, time {quick / slow:.2f}")
    print(f"the gradients' norms differ by {abs(one / two - 1):.1e} of them")


if __name__ == "__main__":
    config.run(main)
