"""A folder that survives: what a program leaves on disk, whole or not at all, and how it goes on with it.

Every program keeps the settings that its work was begun with (`begin`); going on with others is refused. Logs are JSON
lines: rows are added whole, files are replaced whole, and a last line torn by a kill is no row. A training run has

    config.json         the settings, the commit and the versions
    metrics.jsonl       one JSON object a step
    evaluations.jsonl   held-out figures, with the step after which they were taken
    trajectories.jsonl  some constructions of each step, with their parts
    checkpoints/step-000010/
        model/                  the policy in transformers' format, float32 safetensors
        optimizer.safetensors   AdamW's moments, whole: the number of processes may change
        state.json              the step
    model               a link to the newest checkpoint's model

A checkpoint is written to a hidden folder, synced to disk and renamed: a folder called step-N is complete, whenever the
process was killed. The last good one is removed only after the next is in place. Nothing else needs keeping: what is
random in a step follows from the seed and the step's number.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

import config
import parallel
import policy

# ----------------------------------------------------------------------------------------------------------------- logs


def read(file: Path) -> list[dict]:
    """The rows of a log, none where it is absent. A last line still being written, or torn by a kill, is left out; so
    is what stands after a line that is no JSON."""
    rows = []
    for line in file.read_bytes().split(b"\n") if file.is_file() else ():
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                break
    return rows


def line(row: dict) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def append(file: Path, rows: list[dict]):
    """Add rows to a log in one write, and wait for the disk."""
    with open(file, "ab") as handle:
        _to_disk(handle, "".join(map(line, rows)))


def rewrite(file: Path, rows: list[dict]):
    """Make these rows the whole of a log."""
    write(file, "".join(map(line, rows)))


def write(file: Path, text: str):
    """Write a file that appears, or is replaced, whole or not at all."""
    scratch = file.with_name(f".{file.name}.new")
    with open(scratch, "wb") as handle:
        _to_disk(handle, text)
    scratch.replace(file)


def _to_disk(handle, text: str):
    handle.write(text.encode("utf-8", "replace"))  # a lone surrogate is no UTF-8
    handle.flush()
    os.fsync(handle.fileno())


# ---------------------------------------------------------------------------------------------- what was begun, and how


def begin(file: Path, settings: dict, free: Iterable[str] = ()):
    """Keep the `settings` of some work in `file`, with the commit and the versions; or find that the work was begun
    with the same, but for those that are `free`. Raises ValueError when it was begun with others."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        versions = {p.__name__: p.__version__ for p in (torch, transformers, tokenizers)}
        kept = {"settings": settings, "commit": commit(), "python": platform.python_version()} | versions
        write(file, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        return
    before, now = begun(file), json.loads(json.dumps(settings))  # tuples become lists
    if others := [name for name in now if now[name] != before.get(name) and name not in free]:
        others = [f"{name} {config.shown(before.get(name))}, not {config.shown(now[name])}" for name in others]
        raise ValueError(
            f"{file} was begun with {', '.join(others)}: give the same flags to go on, or name another --out"
        )


def begun(file: Path) -> dict:
    """The settings that `begin` kept in `file`. Raises ValueError when it holds none."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
        if isinstance(settings, dict):
            return settings
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{file} holds no settings of this version of the library")


def commit() -> str | None:
    """The commit of this code, with a + when files differ from it; None outside git."""
    here = Path(__file__).parent

    def git(*words):
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def free_folder(name: str) -> Path:
    """A new folder `runs/name-N`, made here and now: another run, perhaps just started, never gets the same."""
    for folder in numbered(name):
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue


def numbered(name: str) -> Iterator[Path]:
    """runs/name-1, runs/name-2, ..."""
    return (Path("runs") / f"{name}-{i}" for i in count(1))


# ---------------------------------------------------------------------------------------------------------- checkpoints


def save(folder: Path, step: int, model, tokenizer, optimizer, keep: int = 1):
    """Write the checkpoint `folder/step-N`, and remove older ones but the newest `keep`. Every process calls it (the
    weights may be sharded), the first one writes. Raises OSError on a full disk; older checkpoints stay."""
    tensors = {t: name for name, t in reversed(model.state_dict(keep_vars=True).items())}  # tied ones once
    weights = {name: _to_cpu(t) for t, name in tensors.items()}
    names = {p: name for name, p in model.named_parameters()}
    moments = {f"{names[p]}.{key}": _to_cpu(v) for p, state in optimizer.state.items() for key, v in state.items()}
    done = Path(folder) / f"step-{step:06d}"
    if parallel.rank() == 0 and not done.exists():
        scratch = done.with_name(f".{done.name}")
        shutil.rmtree(scratch, ignore_errors=True)  # of a save that was killed
        scratch.mkdir(parents=True)
        try:
            policy.save(model, tokenizer, scratch / "model", weights)
            save_file(moments, scratch / "optimizer.safetensors")
            (scratch / "state.json").write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")
            for path in [*scratch.rglob("*"), scratch]:
                _sync(path)
            scratch.rename(done)
            _sync(done.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        for old in _complete(folder)[:-keep]:
            shutil.rmtree(old)


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`, or None."""
    return next(reversed(_complete(folder)), None)


@torch.no_grad()
def restore(path: Path, model, optimizer) -> int:
    """Load weights and the optimiser's state of a checkpoint in place, bit for bit; returns its step. Raises ValueError
    when the checkpoint is another model's."""
    saved = policy.load_model(str(path / "model"))
    mine, theirs = (dict(m.named_parameters()) for m in (model, saved))
    if {n: p.shape for n, p in mine.items()} != {n: p.shape for n, p in theirs.items()}:
        raise ValueError(f"{path} holds another model than the one to go on with")
    moments = load_file(path / "optimizer.safetensors")
    for name, p in mine.items():
        p.copy_(parallel.like(theirs[name], p))
        keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in moments]
        state = {key: moments[f"{name}.{key}"] for key in keys}
        optimizer.state[p] = {key: parallel.like(v, p) if v.ndim else v for key, v in state.items()}
    return json.loads((path / "state.json").read_text(encoding="utf-8"))["step"]


def _to_cpu(tensor: torch.Tensor) -> torch.Tensor | None:
    """The whole tensor on the first process, which writes; None on the others, which only take part."""
    tensor = parallel.whole(tensor)
    return tensor.detach().cpu().contiguous() if parallel.rank() == 0 else None


def _complete(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _sync(path: Path):
    """Have the operating system put a file or the entries of a folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ------------------------------------------------------------------------------------------------------- a training run

LOGS = ("metrics.jsonl", "evaluations.jsonl", "trajectories.jsonl")


class Run:
    """The folder of one training run. The first process writes, the others only know where it is."""

    def __init__(self, folder: str | None, resume: bool = False):
        """The run will be kept in `folder`, or in a new one under runs/; with `resume` it is there already. Nothing is
        written yet. Raises ValueError with a sentence when `folder` holds something already, or does not hold what is
        to be resumed."""
        self.folder, self.settings = Path(folder) if folder else None, {}
        if resume:
            if not folder or not (self.folder / "config.json").is_file():
                raise ValueError(
                    f"there is no run in {folder or '(no --out)'}: --resume needs --out with a run's folder"
                )
            self.settings = begun(self.folder / "config.json")
        elif folder and self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ValueError(
                f"{folder} is not empty, perhaps another run is in it: name a new folder with --out, or add --resume"
            )

    def start(self, name: str, settings: dict):
        """Make the folder, called `name` where it has no name yet, and keep in it what is needed to repeat the run."""
        if parallel.rank() == 0:
            self.folder = self.folder or free_folder(name)
            begin(self.folder / "config.json", settings)
        self.folder = parallel.gather(self.folder or Path())[0]

    @property
    def newest(self) -> Path | None:
        """The checkpoint to resume from."""
        return newest(self.folder / "checkpoints")

    def cut(self, step: int):
        """Drop what was logged after `step`, which is about to happen again, and a line torn by a crash."""
        for name in LOGS if parallel.rank() == 0 else ():
            rows = [row for row in self.rows(name) if row["step"] <= step]
            rewrite(self.folder / name, rows)

    def rows(self, name: str) -> list[dict]:
        """The rows of a log."""
        return read(self.folder / name)

    def append(self, name: str, rows: list[dict]):
        """Add rows to a log, in one write."""
        if parallel.rank() == 0:
            append(self.folder / name, rows)

    def measured(self, step: int) -> bool:
        """Whether there is an evaluation of this step."""
        return any(row["step"] == step for row in self.rows("evaluations.jsonl"))

    def save(self, step: int, model, tokenizer, optimizer, keep: int):
        """Write the checkpoint of `step`, and have `model` point to its weights."""
        save(self.folder / "checkpoints", step, model, tokenizer, optimizer, keep)
        if parallel.rank() == 0:
            link = self.folder / ".model"
            link.unlink(missing_ok=True)
            link.symlink_to(self.newest.relative_to(self.folder) / "model")
            link.replace(self.folder / "model")
