"""Where a run's figures go beside its own logs: TensorBoard, Weights & Biases (train.py --log). Both are optional."""

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm


class TensorBoard:
    """Event files in the run's folder tensorboard/. What was logged after step `done` counts no more."""

    mark = "tensorboard"  # in the run's folder, when it was tracked before

    def __init__(self, folder: Path, settings: dict, done: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
        self.close = self.writer.close

    def add(self, numbers: dict[str, float], step: int):
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


class WeightsAndBiases:
    """A run of Weights & Biases; its id is kept in the run's folder wandb/, so that a resumed run goes on in it."""

    mark = "wandb/id"

    def __init__(self, folder: Path, settings: dict, done: int):
        import wandb

        mark, project = folder / self.mark, os.environ.get("WANDB_PROJECT", "tapo")
        known = {"id": mark.read_text() if mark.exists() else secrets.token_hex(4), "name": folder.name}
        known |= {"dir": str(folder.resolve()), "config": settings}
        quiet = wandb.Settings(console="off")  # it would put itself between the program and its output
        self.run = wandb.init(project=project, resume="allow", settings=quiet, **known)
        self.run.define_metric("*", step_metric="step")
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(known["id"])
        self.close = self.run.finish

    def add(self, numbers: dict[str, float], step: int):
        self.run.log(numbers | {"step": step})


class Trackers:
    """Where a run's figures go beside its own logs. A tracker never stops the run: its first error is told on stderr,
    and from then on it is left alone."""

    def __init__(self, names: Iterable[str], run, settings: dict, done: int):
        """Begin, or go on after step `done` of a checkpoint.Run."""
        self.open = {}
        for name in dict.fromkeys(names):
            self._safely(name, self._start, name, run, settings, done)

    def _start(self, name: str, run, settings: dict, done: int):
        kind = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}[name]
        known = (run.folder / kind.mark).exists()
        self.open[name] = kind(run.folder, settings, done)
        for log in ("metrics.jsonl", "evaluations.jsonl") if not known else ():  # what the run has logged without it
            for row in run.rows(log):
                self.open[name].add(*numbers_of(log, row))

    def add(self, log: str, row: dict):
        """A row that was added to metrics.jsonl or evaluations.jsonl."""
        for name, tracker in [*self.open.items()]:
            self._safely(name, tracker.add, *numbers_of(log, row))

    def close(self):
        """Nothing more will come."""
        for name, tracker in [*self.open.items()]:
            self._safely(name, tracker.close)

    def _safely(self, name: str, do: Callable, *given):
        try:
            do(*given)
        except Exception as error:
            self.open.pop(name, None)
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            with contextlib.suppress(OSError, ValueError):  # an output that is closed
                tqdm.write(f"--log {name} ends here, and the run goes on: {said}", file=sys.stderr)


def numbers_of(log: str, row: dict) -> tuple[dict[str, float], int]:
    """Every number in a row of a log, by its name, and the row's step; not those that are named by a model's tokens."""
    kind = {"metrics.jsonl": "training", "evaluations.jsonl": "held-out"}[log]
    flat = {f"{kind}/{name}": value for name, value in row.items() if name not in ("step", "floor_tokens")}
    for name in [name for name, value in flat.items() if isinstance(value, dict)]:
        flat |= {f"{name}/{inner}": value for inner, value in flat.pop(name).items()}
    return {name: value for name, value in flat.items() if type(value) in (int, float)}, row["step"]
