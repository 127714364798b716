"""kill -9 at random moments: does a run that was killed again and again end in the very weights of one that was not?

python bench/kill.py [--kills 20] [--steps 60]      # on the toy, a checkpoint after every step
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import config
import toy

ROOT = Path(__file__).parents[1]
RUN = "--algo tapo --queries 16 --n-pos 1 --n-neg 1 --eval-samples 1 --save-every 1 --keep-trajectories 1".split()


def train(folder: Path, steps: int) -> subprocess.Popen:
    """Start a run, or go on with what is there of it: quietly, on one thread."""
    resume = ["--resume"] if (folder / "config.json").exists() else []
    command = [sys.executable, "train.py", *RUN, "--steps", str(steps), "--out", str(folder), *resume]
    env, nowhere = os.environ | {"OMP_NUM_THREADS": "1"}, subprocess.DEVNULL
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=nowhere, stderr=nowhere)


def steps_of(folder: Path) -> int:
    """How many steps a run has logged."""
    log = folder / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (ROOT / toy.COLD_START).exists():
        config.fail(f"the toy's cold start is not there: python coldstart.py makes it, in {toy.COLD_START}")
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        straight, killed = Path(scratch) / "straight", Path(scratch) / "killed"
        start, begun = time.monotonic(), train(straight, args.steps)
        while not (straight / "config.json").exists() and begun.poll() is None:
            time.sleep(0.1)
        startup = time.monotonic() - start
        assert begun.wait() == 0
        work = time.monotonic() - start - startup
        for kill in range(args.kills):
            begun = train(killed, args.steps)
            time.sleep(startup + rng.uniform(0, 2 * work / (args.kills + 1)))
            begun.kill()
            begun.wait()
            left = sorted(p.name for p in (killed / "checkpoints").glob(".*")) if killed.exists() else []
            print(f"kill {kill + 1}: after {steps_of(killed)} steps; half-written: {left or 'nothing'}", flush=True)
        assert train(killed, args.steps).wait() in (0, 2)  # 2: it had ended
        names = ("model/model.safetensors", "metrics.jsonl")
        same = (straight / names[0]).read_bytes() == (killed / names[0]).read_bytes()
        print(
            f"{args.kills} kills; {steps_of(killed)} steps logged; the weights are {'the same' if same else 'OTHERS'}"
        )
        raise SystemExit(not same)


if __name__ == "__main__":
    config.run(main)
