"""What a GPU is worth here, in at most ten minutes on one card: is it right, how fast, how much memory.

    python bench/gpu.py                # on a GPU; prints a table and writes gpu.json (--out)
    python bench/gpu.py                # on a CPU: a small version of itself, whose figures mean nothing

greedy      the sampler's greedy completions beside those of transformers' generate, in bfloat16 and in float32; at the
            first difference, how far our token's logit is below the highest by the model's own forward
graphs      the same completions by recorded steps and without; the time of a step
gap         log-probabilities of the sampler beside the trainer's, in bfloat16
bytes       what a decode step reads: at least (weights, and each row's own positions, once), by the sampler's pages,
            and under a mask over whole buckets, as it was before it had pages; from the lengths, not measured
speed       useful tokens a second: 12 prompts of 100 to 300 tokens, 8 completions each, lengths geometric with mean
            512, cut at 2,048, 64 side by side; generate on the first 64 of them; transformers' continuous batching.
            A step's time beside that of reading its bytes once, at the rate at which the card reads a large tensor
rows        a step's time, and tokens a second, of so many rows side by side, which see some 200 positions each
update      an update of train.py at 8,192 tokens a card, gradient checkpointing on, float32 master weights: seconds,
            peak memory and what tools.plan says of it, model FLOPs utilisation (of the rate of a large product of
            bfloat16 matrices on this card); of 8 B with --lora 32, whose weights need no products for gradients
fsdp        the same on every card there is, sampling included

Weights are random, of Qwen3's shapes. A section that fails or does not fit is named with its reason, and the rest goes
on; one for which no time is left is named, too.
"""

import gc
import json
import random
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen3Config

sys.path.insert(0, str(Path(__file__).parents[1]))
import checkpoint
import config
import parallel
import policy
import toy
from data import Problem
from rollouts import Batch, Response
from sampler import PAGE, Sampler
from tools.continuous import ContinuousBatching
from tools.memory import Plan
from train import Trainer

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
SHAPES = {  # hidden, intermediate, layers, heads, key heads, head_dim, vocabulary, tied
    "0.6B": (1024, 3072, 28, 16, 8, 128, 151_936, True),
    "8B": (4096, 12_288, 36, 32, 8, 128, 151_936, False),
    "tiny": (64, 128, 2, 4, 2, 16, 512, True),
    "small": (96, 192, 2, 6, 2, 16, 512, False),
}
SIZES = ("0.6B", "8B") if GPU else ("tiny", "small")
RAGGED = 2048, 64, 12  # the longest completion, how many side by side, prompts
MOST, SLOTS, PROMPTS = RAGGED if GPU else (24, 4, 3)
ROW = 2048 if GPU else 32  # tokens of a row of an update, of which each card gets four
LIMIT = 480.0  # seconds, after which no section begins


def make_model(size: str, dtype=torch.bfloat16):
    """Random weights, made where they are needed."""
    hidden, wide, layers, heads, kv_heads, head_dim, vocabulary, tied = SHAPES[size]
    shape = Qwen3Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=wide, num_hidden_layers=layers, head_dim=head_dim,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=8192, tie_word_embeddings=tied,
        eos_token_id=None, bos_token_id=None, pad_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(parallel.device()):
        return AutoModelForCausalLM.from_config(shape, dtype=dtype).eval()


def work(vocabulary: int, most: int = MOST, count: int = PROMPTS) -> tuple[list[list[int]], list[int]]:
    """Prompts, each eight times, and the length of each completion."""
    rng = random.Random(0)
    prompts = [[rng.randrange(1, vocabulary) for _ in range(rng.randint(most // 20, most // 7))] for _ in range(count)]
    lengths = [min(most, 1 + int(rng.expovariate(4 / most))) for _ in range(8 * count)]
    return [prompt for prompt in prompts for _ in range(8)], lengths


def eight(model) -> list[list[int]]:
    """The first eight different prompts of that work."""
    return work(model.config.vocab_size)[0][::8][:8]


def generate(model, prompts, limit: int, **how) -> torch.Tensor:
    """What transformers' generate makes of one batch: [B, limit]."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    return model.generate(ids, attention_mask=mask, max_new_tokens=limit, pad_token_id=0, **how)[:, width:]


def timed(call) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rate(amount: float, call) -> float:
    """So much a second, of the fastest of a few calls."""
    return amount / min(timed(call) for _ in range(5))


# ------------------------------------------------------------------------------------------------------------- sections


def greedy(size: str, dtype: torch.dtype) -> dict:
    """How many of some greedy completions are those of generate, how long they agree, and what a difference costs."""
    model = make_model(size, dtype)
    prompts, limit = eight(model), 96 if GPU else 8
    theirs = generate(model, prompts, limit, do_sample=False).tolist()
    sampler = Sampler(model, eos_ids=())
    ours = [group[0].ids for group in sampler.sample(prompts, max_new_tokens=limit, temperature=0)]
    agree = [next((i for i, (a, b) in enumerate(zip(*pair)) if a != b), limit) for pair in zip(ours, theirs)]
    below = [0.0]
    for prompt, ids, same in zip(prompts, ours, agree):
        if same < limit:
            with torch.no_grad():
                logits_V = model(torch.tensor([prompt + ids[:same]], device=DEVICE)).logits[0, -1].float()
            below.append((logits_V.max() - logits_V[ids[same]]).item())
    found = {"equal": f"{agree.count(limit)} of {len(agree)}", "agreeing_tokens": sum(agree) / len(agree)}
    return found | {"below_highest": max(below)}


def graphs(size: str) -> dict:
    """Recorded steps beside unrecorded ones."""
    model, found = make_model(size), {}
    prompts, limit = eight(model), 64 if GPU else 8
    for way in (True, False):
        sampler = Sampler(model, eos_ids=(), slots=SLOTS)
        sampler.by_graph = sampler.by_graph and way
        for _ in range(2):  # the first is a warm-up
            groups = sampler.sample(prompts, max(1, SLOTS // 8), max_new_tokens=limit)
        stats = sampler.stats
        found[way] = sum(groups, []), 1e3 * stats.decode_seconds / stats.steps, sampler.by_graph
    (recorded, fast, by_graph), (eager, slow, _) = found[True], found[False]
    same = sum(one.ids == other.ids for one, other in zip(recorded, eager))
    return {
        "recorded": by_graph, "by_kernel": sampler.by_kernel, "equal": f"{same} of {len(eager)}",
        "step_ms_recorded": fast, "step_ms_eager": slow,
    }  # fmt: skip


def gap(size: str) -> dict:
    """Of log-probabilities under temperature 1."""
    model = make_model(size)
    prompts = eight(model)
    groups = Sampler(model, eos_ids=()).sample(prompts, 2, max_new_tokens=MOST // 8)
    rows = [(prompt, one) for prompt, group in zip(prompts, groups) for one in group]
    network, gaps = policy.Policy(model), []
    with torch.no_grad():
        for prompt, one in rows:
            trained, _ = network([prompt], [one.ids])
            gaps.append((trained.cpu() - torch.tensor(one.logprobs)).abs())
    gaps = torch.cat(gaps)
    return {"tokens": len(gaps), "gap_mean": gaps.mean().item(), "gap_max": gaps.max().item()}


def steps_of(prompts, lengths, slots: int) -> list[list[int]]:
    """How many positions each row sees in each step, where rows are refilled as they end and none is put back."""
    waiting, rows, steps = list(zip(prompts, lengths))[::-1], [], []
    while waiting or rows:
        while waiting and len(rows) < slots:
            prompt, length = waiting.pop()
            rows.append([len(prompt), length])
        steps.append([seen for seen, _ in rows])
        rows = [[seen + 1, left - 1] for seen, left in rows if left > 1]
    return steps


def step_bytes(steps: list[list[int]], position: int, weights: int, longest: int, slots: int) -> dict[str, float]:
    """Mean bytes that a decode step reads, and bytes that the cache takes: at least, now, and before there were pages.
    `position`: bytes of a position of the cache; `longest`: positions of the longest possible row."""

    def before(rows: list[int]) -> int:
        padded = min(slots, 1 << (len(rows) - 1).bit_length())
        return padded * min(longest, -(-max(rows) // 512) * 512)

    count, pages = len(steps), max(sum(-(-seen // PAGE) for seen in rows) for rows in steps)
    least = weights + position * sum(map(sum, steps)) / count
    return {
        "least": least,
        "now": least + 4 * sum(-(-seen // PAGE) for rows in steps for seen in rows) / count,  # and where the pages are
        "before": weights + position * sum(map(before, steps)) / count,
        "cache_now": position * PAGE * pages,
        "cache_before": position * slots * longest,
    }


def parameters(size: str) -> int:
    """How many weights a token is multiplied by: all but the norms', and the embedding's, of which it reads a row."""
    hidden, wide, layers, heads, kv_heads, head_dim, vocabulary, _ = SHAPES[size]
    return layers * hidden * (2 * (heads + kv_heads) * head_dim + 3 * wide) + vocabulary * hidden


def bytes_of(size: str, most: int, slots: int, count: int) -> dict:
    """Of a decode step of the ragged work in bfloat16, in MB, by the lengths."""
    _, _, layers, _, kv_heads, head_dim, vocabulary, _ = SHAPES[size]
    prompts, lengths = work(vocabulary, most, count)
    steps, longest = steps_of(prompts, lengths, slots), max(map(len, prompts)) + most - 1
    read = step_bytes(steps, 4 * layers * kv_heads * head_dim, 2 * parameters(size), longest, slots)
    return {f"{name}_mb": amount / 1e6 for name, amount in ({"weights": 2 * parameters(size)} | read).items()}


def speed(size: str, way: str) -> dict:
    """Useful tokens a second of the ragged work."""
    model = make_model(size)
    prompts, lengths = work(model.config.vocab_size)
    if way == "generate":
        limit, useful, how = max(lengths[:SLOTS]), sum(lengths[:SLOTS]), {"do_sample": True, "top_k": 0}
        generate(model, prompts[:SLOTS], 4, **how)
        return {"tokens_a_second": useful / timed(lambda: generate(model, prompts[:SLOTS], limit, **how))}
    if way == "continuous":
        fits = {} if GPU else {"num_blocks": 32, "page_size": 32, "max_batch_tokens": 64}
        engine = ContinuousBatching(model, eos_ids=(), slots=SLOTS, **fits)
        return {"tokens_a_second": sum(lengths) / timed(lambda: engine.sample(prompts, max_new_tokens=lengths))}
    sampler = Sampler(model, eos_ids=(), slots=SLOTS)
    sampler.sample(prompts[:SLOTS], max_new_tokens=4)
    seconds, stats = timed(lambda: sampler.sample(prompts, max_new_tokens=lengths)), sampler.stats
    tensor = torch.empty(2**30 if GPU else 2**20, dtype=torch.uint8, device=DEVICE)
    once = bytes_of(size, MOST, SLOTS, PROMPTS)["least_mb"] * 1e6 / rate(2 * len(tensor), tensor.clone)
    return {
        "tokens_a_second": sum(lengths) / seconds, "occupancy": stats.occupancy, "put_back": stats.put_back,
        "step_ms": 1e3 * stats.decode_seconds / stats.steps, "reading_once_ms": 1e3 * once,
        "cache_gb": stats.cache_bytes / 1e9, "by_kernel": sampler.by_kernel,
    }  # fmt: skip


def rows(size: str) -> dict:
    """Steps of more and more rows: the difference of a longer and a shorter call, so that recording does not count."""
    model, found = make_model(size), {}
    prompts, (few, many) = eight(model), (8, 40) if GPU else (2, 4)
    for count in (8, 64, 256, 512) if GPU else (3, 6):
        sampler = Sampler(model, eos_ids=(), slots=count)
        seconds = []
        for most in (few, many):
            sampler.sample(prompts, count // len(prompts), max_new_tokens=most)
            seconds.append(sampler.stats.decode_seconds)
        step = (seconds[1] - seconds[0]) / (many - few)
        found |= {f"step_ms_{count}": 1e3 * step, f"tokens_a_second_{count}": count / step}
    return found


def step_of_training(size: str, rank: int = 0) -> dict:
    """What train.py does in a step, in each process of the group: sampling with whole weights, an update of rows with
    made-up responses, sharded, and new weights to sample with. `rank`: that of --lora."""
    cards, rng = parallel.size(), random.Random(0)
    given = {"algo": "grpo", "queries": 4 * cards, "k": 2, "max_new_tokens": 64 if GPU else 4, "kl": 0.0, "lora": rank}
    given |= {"micro_batch_tokens": 4 * ROW, "gradient_checkpointing": True}
    settings = config.settle(config.Training, given)
    model = make_model(size, parallel.precision() if rank else torch.float32)
    plan = Plan(model.config, settings, cards, parallel.memory()[1], 8, gpu=GPU)
    model.generation_config.eos_token_id = 1
    problems = [Problem(question, "0") for question in ("1+1=?", "2+2=?", "3+3=?", "4+4=?")]
    trainer = Trainer(settings, model, toy.tokenizer(), problems, parallel.device())
    sampling = timed(lambda: trainer.actor.sample([0, 1, 2, 3], 0))
    rows = []
    for query in range(4 * cards):
        ids = [rng.randrange(2, SHAPES[size][6]) for _ in range(ROW)]
        made_up = {"query": query, "prompt": ids[:8], "text": "", "reward": 1.0, "reflects": False}
        rows.append(Response(ids[8:], [0.0] * (ROW - 8), True, **made_up))
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    figures = []

    def update():
        figures.append(trainer.update(Batch(rows, [], [], [1.0, -1.0] * (2 * cards)), 0))

    seconds = [timed(update) for _ in range(3)]
    tokens, (_, _, layers, heads, _, head_dim, _, _) = 4 * ROW * cards, SHAPES[size]
    attention = 2 * layers * heads * head_dim * ROW  # a token's products in a forward; causal: half of 4
    # A backward takes two products for each of a forward's; where a weight is frozen, one.
    work_done = tokens * ((4 if rank else 6) * parameters(size) + 3 * attention)
    edge = 8192 if GPU else 256
    matrix = torch.randn(edge, edge, dtype=torch.bfloat16, device=DEVICE)
    product = rate(2 * edge**3, lambda: matrix @ matrix)
    found = {"cards": cards, "sampling_s": sampling, "update_s": min(seconds[1:]), "grad_norm": figures[0]["grad_norm"]}
    found |= {"tflops_a_card": work_done / cards / min(seconds[1:]) / 1e12, "product_tflops": product / 1e12}
    found |= {"mfu": found["tflops_a_card"] / found["product_tflops"], "plan_gb": plan.peak / 1e9}
    return found | ({"peak_gb": torch.cuda.max_memory_allocated() / 1e9} if GPU else {})


def update(size: str, cards: int, rank: int = 0) -> dict:
    """`step_of_training`, in processes of its own, one a card; on a CPU in this one."""
    if not GPU:
        return step_of_training(size, rank)
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={cards}", __file__, "--update", size]
    command += ["--lora", str(rank)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=240)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "Error" in line]
        raise RuntimeError((errors or done.stderr.splitlines() or ["it failed"])[0].strip())
    return json.loads(done.stdout.splitlines()[-1])


# -------------------------------------------------------------------------------------------------------------- program


def sections() -> list[tuple]:
    """Names, functions, arguments, the most telling first."""
    cards, (quick, large) = torch.cuda.device_count() if GPU else 1, SIZES
    found = [
        (f"greedy {quick} float32", greedy, quick, torch.float32),
        (f"greedy {quick} bfloat16", greedy, quick, torch.bfloat16),
        (f"graphs {quick}", graphs, quick),
        (f"gap {quick}", gap, quick),
        *[(f"bytes {size}", bytes_of, size, *RAGGED) for size in ("0.6B", "8B")],
        ("bytes 8B, to 8,192", bytes_of, "8B", 8192, 64, 64),
        *[(f"speed {size} sampler", speed, size, "sampler") for size in SIZES],
        (f"rows {large}", rows, large),
        (f"update {quick}", update, quick, 1),
        (f"update {large} --lora 32", update, large, 1, 32 if GPU else 2),
        (f"fsdp {large if cards > 1 else quick}, {cards} cards", update, large if cards > 1 else quick, cards),
        *[(f"speed {size} {way}", speed, size, way) for size in SIZES for way in ("generate", "continuous")],
    ]
    return found if cards > 1 else [one for one in found if not one[0].startswith("fsdp")]


def shown(value) -> str:
    """A figure in the table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--out", default="gpu.json", help="where the figures go")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS", help="after them no section begins")
    parser.add_argument("--update", metavar="SIZE", help="only this update, in a process that torchrun started")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="of that update's adapters; 0 for none")
    args = parser.parse_args()
    if args.update:
        parallel.start()
        found = step_of_training(args.update, args.lora)
        if parallel.rank() == 0:
            print(json.dumps(found), flush=True)
        parallel.stop()
        return
    start, cards = time.perf_counter(), torch.cuda.device_count() if GPU else 0
    if GPU:
        torch.backends.cuda.enable_cudnn_sdp(False)  # as parallel.start does
    card = f"{cards} x {torch.cuda.get_device_name()}" if GPU else "no GPU: a small version, whose figures mean nothing"
    about = {"card": card, "torch": torch.__version__, "transformers": transformers.__version__}
    about |= {"date": date.today().isoformat(), "commit": checkpoint.commit()}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    found = {}
    for name, section, *given in sections():
        if GPU:
            gc.collect()
            torch.cuda.empty_cache()
        begun = time.perf_counter()
        if begun - start > args.limit:
            found[name] = {"failed": "no time was left"}
        else:
            try:
                found[name] = section(*given)
            except Exception as error:  # of any kind: the other sections have something to say
                found[name] = {"failed": (str(error).strip() or type(error).__name__).splitlines()[0]}
        found[name]["seconds"] = round(time.perf_counter() - begun, 1)
        for figure, value in found[name].items():
            print(f"{name:24} {figure:18} {shown(value)}", flush=True)
        Path(args.out).write_text(json.dumps(about | {"sections": found}, indent=1) + "\n")
    print(f"{args.out} written after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    config.run(main)
