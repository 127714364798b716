"""The machine's memory that one node needs to load a model, train two steps, save, and resume; and the time of it.

    python bench/host.py [--processes 1 2 4 8] [--layers 17] [--kl 0.1]
    python bench/host.py --processes 2 --beside CHECKOUT [--times 3]    # loading alone, beside another commit's

A random Qwen3 of about 300 M parameters with the toy's tokeniser, made on the spot, in processes on CPUs. Memory is the
sum of the processes' proportional set sizes (what they share counts once), sampled ten times a second, above what they
take before they load anything; freed memory is given back at once, so that only what is in use counts. Of it the shards
are known: a float32 model of weights, two more of moments once a step was done, one of gradients in a step, one more
with --kl. In a step each process also gathers layers, as a GPU would in its own memory.
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


def make(folder: Path, layers: int) -> int:
    """Write a random model; returns its size in bytes."""
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=2**15, hidden_size=1024, intermediate_size=3072, num_hidden_layers=layers, head_dim=128,
        num_attention_heads=16, num_key_value_heads=8, tie_word_embeddings=True, eos_token_id=1, pad_token_id=0,
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
    begin("ready")
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
                if line in {*SHARDS, "ready", "end"}:
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


def told(count: int, size: int, phase: str, most: int, base: int, seconds: float, shards: float) -> str:
    """A line: what a phase took, in float32 models."""
    models = (most - base) / size
    beside = f"{models:.2f} models, {models - shards:.2f} beside the shards ({base / 1e9:.2f} GB before)"
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
        model, out = Path(scratch) / "model", Path(scratch) / "run"
        size = make(model, args.layers)
        print(f"a model of {size / 4e6:.0f} M parameters, {size / 1e9:.2f} GB in float32; torch {torch.__version__}")
        for count in args.processes:
            shutil.rmtree(out, ignore_errors=True)
            given = [str(model), str(out), "--kl", str(args.kl)]
            if args.beside:
                for name, checkout in [("here", HERE), (f"in {args.beside.name}", args.beside.resolve())] * args.times:
                    found = watch(count, [*given, "--only-load"], checkout)
                    shutil.rmtree(out)
                    line = told(count, size, f"load {name}", found["load"][0], found["ready"][0], found["load"][1], 1)
                    print(line, flush=True)
                continue
            for found in (watch(count, given), watch(count, given)):
                base = found.pop("ready")[0]
                for phase, (most, seconds) in found.items():
                    shards = SHARDS[phase] + bool(args.kl)
                    print(told(count, size, phase, most, base, seconds, shards), flush=True)


if __name__ == "__main__":
    config.run(main)
