"""The machine's memory that one node needs to load a model, train two steps, save, and resume; and the time of it.

    python bench/host.py [--processes 1 2 4 8] [--layers 17] [--kl 0.1]
    python bench/host.py --processes 2 --beside CHECKOUT [--times 3]    # loading alone, beside another commit's

A random Qwen3 of about 300 M parameters with the toy's tokeniser, made on the spot, in processes on CPUs. Memory is the
sum of the processes' proportional set sizes (what they share counts once), sampled ten times a second, above what the
same phase takes with a model of next to no parameters, which is code; freed memory is given back at once, so that only
what is in use counts. Of it the shards are known: a float32 model of weights, two more of moments once a step was done,
one of gradients in a step, one more with --kl. In a step each process also gathers layers, as a GPU would in its own
memory.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, os.environ.get("CHECKOUT") or str(Path(__file__).parents[1]))
import config
import parallel
import policy
import toy
import train

HERE = Path(__file__).parents[1]
SIZES = {"queries": 1, "k": 2, "n_pos": 1, "n_neg": 1, "max_new_tokens": 2, "algo": "grpo", "steps": 2, "slots": 2}
SHARDS = {"load": 1, "step 1": 4, "step 2": 4, "save": 3, "resume": 3}  # float32 models


def make(folder: Path, layers: int, width: int = 1024) -> int:
    """Write a random model; returns its size in bytes."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=32 * width, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, head_dim=128,
        num_attention_heads=width // 64, num_key_value_heads=width // 128, tie_word_embeddings=True, eos_token_id=1,
        pad_token_id=0,
    )  # fmt: skip
    model = Qwen3ForCausalLM(shape)
    policy.save(model, toy.tokenizer(), folder)
    return sum(p.nbytes for p in model.parameters())


def work(model: str, out: str, kl: float, only_load: bool):
    """In one of the processes: each phase in turn, announced by the first."""

    def begin(phase: str):
        parallel.gather(phase)
        if parallel.rank() == 0:
            print(phase, flush=True)
        time.sleep(1)

    parallel.start()
    resume = Path(out).exists()
    begin("resume" if resume else "load")
    given = {"out": out, "resume": True, "steps": 3} if resume else {"model": model, "data": "toy", "out": out}
    trainer, run, _, _ = train.set_up(given if resume else given | SIZES | {"kl": kl})
    if not resume and not only_load:
        for number in (0, 1):
            begin(f"step {number + 1}")
            trainer.step(number)
        begin("save")
        run.save(2, trainer.model, trainer.tokenizer, trainer.optimizer, 1)
    begin("end")
    parallel.stop()


def held(pid: int) -> int:
    """The proportional set size of a process in bytes, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def watch(count: int, arguments: list[str], checkout: Path = HERE) -> dict[str, tuple[int, float]]:
    """Run `work` in `count` processes, by the code in `checkout`; of each phase the most memory in bytes, and the
    seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    env |= {"MALLOC_MMAP_THRESHOLD_": str(2**18), "CHECKOUT": str(checkout)}
    env |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    command = [sys.executable, __file__, "--work", *arguments]
    started = [
        subprocess.Popen(command, env=env | {"RANK": str(i), "LOCAL_RANK": str(i)}, stdout=subprocess.PIPE)
        for i in range(count)
    ]
    found, phase, since = {}, None, 0.0
    os.set_blocking(started[0].stdout.fileno(), False)
    try:
        while phase != "end":
            assert all(process.poll() in (None, 0) for process in started)
            for line in (started[0].stdout.read() or b"").decode().splitlines():
                if line in {*SHARDS, "end"}:
                    if phase in SHARDS:
                        found[phase] = (found[phase][0], time.monotonic() - since - 1)
                    phase, since = line, time.monotonic()
            now = sum(held(process.pid) for process in started)
            if phase and phase != "end":
                found[phase] = (max(now, found.get(phase, (0, 0))[0]), 0.0)
            time.sleep(0.1)
    finally:
        for process in started:
            process.kill()
            process.wait()
    return found


def phases(model: Path, out: Path, count: int, checkout: Path, given: list[str], only_load: bool) -> dict:
    """What `watch` finds of a run, and unless it only loads, of the one that resumes it."""
    shutil.rmtree(out, ignore_errors=True)
    arguments = [str(model), str(out), *given]
    if only_load:
        return watch(count, [*arguments, "--only-load"], checkout)
    return watch(count, arguments, checkout) | watch(count, arguments, checkout)


def told(count: int, size: int, phase: str, most: int, code: int, seconds: float, shards: float) -> str:
    """A line: what a phase took, in float32 models."""
    models = (most - code) / size
    beside = f"{models:.2f} models, {models - shards:.2f} beside the shards (and {code / 1e9:.2f} GB of code)"
    return f"{count} processes, {phase}: {beside}, {seconds:.1f} s"


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--layers", type=int, default=17)
    parser.add_argument("--kl", type=float, default=0.0)
    parser.add_argument("--beside", type=Path, help="another checkout of the library, to load by in alternation")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--work", nargs=2, help="a model and a folder: be one of the processes")
    parser.add_argument("--only-load", action="store_true")
    args = parser.parse_args()
    if args.work:
        work(*args.work, args.kl, args.only_load)
        return
    with tempfile.TemporaryDirectory() as scratch:
        model, none, out = (Path(scratch) / name for name in ("model", "none", "run"))
        size = make(model, args.layers)
        make(none, 1, 128)
        print(f"a model of {size / 4e6:.0f} M parameters, {size / 1e9:.2f} GB in float32; torch {torch.__version__}")
        for count in args.processes:
            checkouts = [("", HERE)]
            if args.beside:
                checkouts = [(" here", HERE), (f" in {args.beside.name}", args.beside.resolve())] * args.times
            for name, checkout in checkouts:
                given = out, count, checkout, ["--kl", str(args.kl)], bool(args.beside)
                code = phases(none, *given)
                for phase, (most, seconds) in phases(model, *given).items():
                    shards = SHARDS[phase] + bool(args.kl)
                    print(told(count, size, phase + name, most, code[phase][0], seconds, shards), flush=True)


if __name__ == "__main__":
    config.run(main)
