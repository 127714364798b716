"""kill -9 at random moments: does a run that was killed again and again end in the very weights of one that was not?

    python bench/kill.py [--kills 20] [--steps 60]      # on the toy, a checkpoint after every step
    python bench/kill.py --processes 2 --kills 10       # under torchrun: all processes at once, or one of them

Kills come as often as steps do, so that all parts of the run see some: every second when a save has begun, within the
time that one takes; the others by turns at any moment of a step, and while the run starts.
"""

import os
import random
import signal
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


def train(folder: Path, steps: int, processes: int) -> subprocess.Popen:
    """Start a run, or go on with what is there of it: quietly, on one thread a process."""
    resume = ["--resume"] if (folder / "config.json").exists() else []
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "train.py", *RUN]
    command += ["--steps", str(steps), "--out", str(folder), *resume]
    env, nowhere = os.environ | {"OMP_NUM_THREADS": "1"}, subprocess.DEVNULL
    return subprocess.Popen(command, env=env, cwd=ROOT, stdout=nowhere, stderr=nowhere, start_new_session=True)


def steps_of(folder: Path) -> int:
    """How many steps a run has logged."""
    log = folder / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def half_written(folder: Path) -> list[str]:
    """The checkpoints that are not complete."""
    return sorted(path.name for path in folder.glob("checkpoints/.step-*"))


def kill(begun: subprocess.Popen, one: int | None):
    """kill -9 of all processes of a run, or of the `one` of that number, after which torchrun ends the others."""
    ranks = Path(f"/proc/{begun.pid}/task/{begun.pid}/children").read_text().split()
    if one is None or one >= len(ranks):
        for rank in ranks:
            os.kill(int(rank), signal.SIGKILL)
        begun.kill()
    else:
        os.kill(int(ranks[one]), signal.SIGKILL)
    begun.wait()


def main():
    """The program; see the module's docstring."""
    parser = config.Parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (ROOT / toy.COLD_START).exists():
        config.fail(f"the toy's cold start is not there: python coldstart.py makes it, in {toy.COLD_START}")
    rng, given = random.Random(args.seed), (args.steps, args.processes)
    with tempfile.TemporaryDirectory() as scratch:
        straight, killed = Path(scratch) / "straight", Path(scratch) / "killed"
        weights, start, begun, saves = "model/model.safetensors", time.monotonic(), train(straight, *given), []
        while not (straight / "config.json").exists() and begun.poll() is None:
            time.sleep(0.1)
        startup = time.monotonic() - start
        while begun.poll() is None:  # how long a save takes, as seen from here
            if half_written(straight):
                since = time.monotonic()
                while half_written(straight):
                    time.sleep(0.001)
                saves.append(time.monotonic() - since)
            time.sleep(0.001)
        assert begun.returncode == 0
        step, save = (time.monotonic() - start - startup) / args.steps, sorted(saves)[len(saves) // 2]
        inside = 0
        for number in range(args.kills):
            begun, which = train(killed, *given), rng.choice([None, *range(args.processes)])
            which = which if args.processes > 1 else None
            if number % 4 == 3:
                time.sleep(rng.uniform(0, startup))
            else:
                while begun.poll() is None and steps_of(killed) < args.steps * (number + 1) // (args.kills + 1):
                    time.sleep(0.01)
                while begun.poll() is None and number % 2 == 0 and not half_written(killed):
                    time.sleep(0.001)
                time.sleep(rng.uniform(0, step if number % 2 else save))
            assert begun.poll() is None, "it ended before it was killed"
            kill(begun, which)
            left = half_written(killed)
            inside += bool(left)
            what = "all" if which is None else f"process {which}"
            told = f"after {steps_of(killed)} steps; half-written: {left or 'nothing'}"
            print(f"kill {number + 1} ({what}): {told}", flush=True)
        assert train(killed, *given).wait() == 0
        same = (straight / weights).read_bytes() == (killed / weights).read_bytes()
        told = f"{args.kills} kills, {inside} in a save; {steps_of(killed)} steps logged"
        print(f"{told}; the weights are {'the same' if same else 'OTHERS'}")
        raise SystemExit(not same)


if __name__ == "__main__":
    config.run(main)
