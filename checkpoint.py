"""A folder that survives: what a program leaves on disk, whole or not at all, and how it goes on with it.

Every program keeps the settings that its work was begun with (`begin`); going on with others is refused. Logs are JSON
lines: rows are added whole, files are replaced whole, and a last line torn by a kill is no row. A training run has

    config.json         the settings, the commit and the versions
    metrics.jsonl       one JSON object a step
    evaluations.jsonl   held-out figures, with the step after which they were taken
    trajectories.jsonl  some constructions of each step, with their parts
    rollouts.jsonl      some sampled responses of each step, right and wrong ones
    checkpoints/step-000010/
        model/                  the policy in transformers' format, float32 safetensors; with --lora instead
        adapter/                its adapter, in peft's format
        optimizer.safetensors   AdamW's moments
        state.json              the step, and checksums of every other file
    model               a link to the newest checkpoint's model, or a copy where there are no links
    adapter             with --lora the link is this one, and the last checkpoint gets a model, too: both in one
    .lock               who writes here, while it does

A checkpoint is written to a hidden folder, synced to disk and renamed: a folder called step-N is complete, whenever the
process was killed. All processes write its files and read them, of each tensor their rows (parallel.write), so their
number may change. The last good one is removed only after the next is in place. Nothing else needs keeping: what is
random in a step follows from the seed and the step's number.
"""

import atexit
import contextlib
import fcntl
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path

import tokenizers
import torch
import transformers
from tqdm import tqdm

import config
import lora
import parallel
import policy

# ----------------------------------------------------------------------------------------------------------------- logs


def read(file: Path, fields: dict[str, type] | None = None) -> list[dict]:
    """The rows of a log, none where it is absent. A last line without its end, still being written or torn by a kill,
    is left out where it is no JSON. Raises ValueError naming the file and the line of any other, and of a row that
    lacks one of `fields` or has it of another type."""
    rows, lines = [], file.read_bytes().split(b"\n") if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                if number == len(lines):
                    break
                raise ValueError(f"{file}, line {number}: no JSON") from None
            row = rows[-1] if isinstance(rows[-1], dict) else {}
            if wrong := [name for name, kind in (fields or {}).items() if not isinstance(row.get(name), kind)]:
                raise ValueError(f"{file}, line {number}: {', '.join(wrong)} missing or of another type")
    return rows


def read_object(file: Path, fields: dict[str, type]) -> dict:
    """The JSON object of a file. Raises ValueError when it is none, or lacks one of `fields`, or has it of another
    type."""
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    wrong = [name for name, kind in fields.items() if not isinstance(row, dict) or not isinstance(row.get(name), kind)]
    if wrong:
        raise ValueError(f"{file}: {', '.join(wrong)} missing or of another type; did another version write it?")
    return row


def line(row: dict) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def append(file: Path, rows: list[dict]):
    """Add rows to a log in one write, and wait for the disk."""
    with policy.writing(file), open(file, "ab") as handle:
        _to_disk(handle, "".join(map(line, rows)))


def rewrite(file: Path, rows: list[dict]):
    """Make these rows the whole of a log."""
    write(file, "".join(map(line, rows)))


def write(file: Path, text: str):
    """Write a file that appears, or is replaced, whole or not at all."""
    scratch = file.with_name(f".{file.name}.new")
    try:
        with policy.writing(file), open(scratch, "wb") as handle:
            _to_disk(handle, text)
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


def _to_disk(handle, text: str):
    handle.write(text.encode("utf-8", "replace"))  # a lone surrogate is no UTF-8
    handle.flush()
    os.fsync(handle.fileno())


# ---------------------------------------------------------------------------------------------- what was begun, and how


def begin(file: Path, settings: dict, free: Iterable[str] = (), **known):
    """Keep the `settings` of some work in `file`, with what else is `known`, the commit and the versions; or find that
    the work was begun with the same, but for those that are `free`. Raises ValueError when it was begun with others."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        versions = {p.__name__: p.__version__ for p in (torch, transformers, tokenizers)}
        kept = {"settings": settings} | known | {"commit": commit(), "python": platform.python_version()} | versions
        write(file, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
        return
    before, now = begun(file), json.loads(json.dumps(settings))  # tuples become lists
    if others := [name for name in now if now[name] != before.get(name) and name not in free]:
        others = [(name, *config.told_apart(before.get(name), now[name])) for name in others]
        others = [f"{name} {then}, not {given}" for name, then, given in others]
        raise ValueError(
            f"{file} was begun with {', '.join(others)}: give the same flags and files to go on, or name another --out"
        )


def code_digest(place: str | None) -> str | None:
    """Eight bytes, as hex, that tell versions of the file in FILE.py:NAME apart. What it imports is not looked at."""
    return place and blake2b(Path(place.rpartition(":")[0]).read_bytes(), digest_size=8).hexdigest()


_held: dict[Path, object] = {}  # locks of this process
os.register_at_fork(after_in_child=_held.clear)  # a child has none, and keeps none when its parent is gone


def lock(file: Path):
    """Keep `file` locked until `unlock`, or until this process ends, however it ends. Raises ValueError when another
    process has it; says so when one left it behind."""
    if file.resolve() in _held:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = open(file, "a+", encoding="utf-8")  # noqa: SIM115
    handle.seek(0)
    owner, what = handle.read().strip(), file.parent if file.name == ".lock" else file.with_suffix("")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{what} is being written by process {owner}: wait for it, or stop it") from None
    if owner:
        print(f"{what} was left by process {owner}, which is gone: taken over", file=sys.stderr)
    with policy.writing(file):
        handle.truncate(0)
        handle.write(f"{os.getpid()} on {platform.node()}\n")
        handle.flush()
    _held[file.resolve()] = handle
    atexit.register(unlock, file)


def unlock(file: Path):
    """Give a lock of this process back, if it has it."""
    if handle := _held.pop(file.resolve(), None):
        file.unlink(missing_ok=True)
        handle.close()


def begun(file: Path) -> dict:
    """The settings that `begin` kept in `file`. Raises ValueError when it holds none."""
    return read_object(file, {"settings": dict})["settings"]


def commit() -> str | None:
    """The commit of this code, with a + when files differ from it; None outside git."""
    here = Path(__file__).parent

    def git(*words):
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def empty(folder: Path) -> bool:
    """Whether nothing is at this place, or a folder with nothing but what a program that was killed at once leaves."""
    left = {".lock", ".config.json.new"}
    return not folder.exists() or (folder.is_dir() and all(path.name in left for path in folder.iterdir()))


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

PIECE = 2**24  # bytes with a checksum of their own


def save(folder: Path, step: int, model, tokenizer, optimizer, keep: int = 1):
    """Write the checkpoint `folder/step-N`, and remove older ones but the newest `keep`. All processes must call it
    alike, each writes its shards. Raises OSError on all of them, as when the disk is full; older checkpoints stay."""
    done = Path(folder) / f"step-{step:06d}"
    scratch = done.with_name(f".{done.name}")
    names = {p: name for name, p in model.named_parameters()}
    moments = {f"{names[p]}.{key}": value for p, state in optimizer.state.items() for key, value in state.items()}

    def begin():
        shutil.rmtree(scratch, ignore_errors=True)  # of a save that was killed
        scratch.mkdir(parents=True)

    def finish():
        state = {"step": step, "moments": len(moments), "checksums": checksums}
        (scratch / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
        for path in [*scratch.rglob("*"), scratch]:
            _sync(path)
        scratch.rename(done)
        _sync(done.parent)
        for old in _complete(folder)[:-keep]:
            shutil.rmtree(old)

    if parallel.gather(done.exists())[0]:
        return
    try:
        with policy.writing(done):
            parallel.once(begin)
            if lora.weights(model):
                _save_adapter(scratch / "adapter", model)
            else:
                policy.save(model, tokenizer, scratch / "model")
            parallel.write(scratch / "optimizer.safetensors", moments)
            checksums = _checksums(scratch)
            parallel.once(finish)
    finally:
        if parallel.rank() == 0:
            shutil.rmtree(scratch, ignore_errors=True)


class Saves:
    """When the next checkpoint of a training is due, and whether a stop leaves the time for one."""

    def __init__(self, every: int, minutes: float):
        """One is due after every so many steps, and after so many minutes."""
        self.every, self.minutes, self.last, self.warned = every, minutes, time.monotonic(), False

    def due(self, step: int) -> bool:
        """Whether one is due after `step`. All processes must call it alike."""
        return step % self.every == 0 or parallel.gather(time.monotonic() - self.last > 60 * self.minutes)[0]

    @contextlib.contextmanager
    def saving(self, update: float):
        """In this block one is written. If torchrun leaves a stopped run less time than an update, which took `update`
        seconds, and a save take, a warning says so, once."""
        begun = time.monotonic()
        yield
        self.last = time.monotonic()
        seconds = update + self.last - begun
        if parallel.rank() == 0 and not self.warned and seconds > parallel.grace():
            self.warned = True
            told = f"torchrun kills a stopped run after {parallel.grace():.0f} s, and an update and a save took"
            flag = f"start it with --shutdown-timeout {max(1800, math.ceil(4 * seconds))}"
            tqdm.write(f"warning: {told} {seconds:.0f} s, so a stop may be lost: {flag}", file=sys.stderr)


def _save_adapter(folder: Path, model):
    def begin():
        folder.mkdir()
        described = json.dumps(lora.described(model), indent=2)
        (folder / "adapter_config.json").write_text(described + "\n", encoding="utf-8")

    parallel.once(begin)
    parallel.write(folder / "adapter_model.safetensors", lora.weights(model))


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`, or None."""
    return next(reversed(_complete(folder)), None)


@torch.no_grad()
def restore(path: Path, model, optimizer) -> int:
    """Load weights and the optimiser's state of a checkpoint in place, bit for bit; returns its step. Raises ValueError
    when the checkpoint is damaged, renamed, or another model's."""
    state = read_object(path / "state.json", {"step": int, "moments": int, "checksums": dict})
    if path.name != (name := f"step-{state['step']:06d}"):  # by their names the newest is found, and old ones removed
        raise ValueError(f"{path} holds step {state['step']}: rename it to {name}")
    found = _checksums(path)
    if damaged := [name for name, value in state["checksums"].items() if value != found.get(name)]:
        raise ValueError(f"{path} is damaged ({', '.join(damaged)}): remove it to go on from an older one, if there is")
    adapter = lora.weights(model)
    if (path / "adapter").exists() != bool(adapter):
        raise ValueError(f"{path} was written {'without' if adapter else 'with'} --lora")
    if adapter:
        known = parallel.contents([path / "adapter" / "adapter_model.safetensors"])
        if {name: shape for name, (_, shape) in known.items()} != {n: tuple(p.shape) for n, p in adapter.items()}:
            raise ValueError(f"{path} holds another model's adapter than the one to go on with")
        parallel.everywhere(lambda: parallel.read(known, adapter))
    else:
        policy.fill(model, str(path / "model"))
    saved = parallel.contents([path / "optimizer.safetensors"])
    if len(saved) != state["moments"]:
        raise ValueError(f"{path / 'optimizer.safetensors'} has {len(saved)} tensors, not {state['moments']}")
    moments = {}
    for name, p in [(name, p) for name, p in model.named_parameters() if p.requires_grad]:
        room = {"step": torch.empty(()), "exp_avg": torch.empty_like(p), "exp_avg_sq": torch.empty_like(p)}
        optimizer.state[p] = {key: tensor for key, tensor in room.items() if f"{name}.{key}" in saved}
        moments |= {f"{name}.{key}": tensor for key, tensor in optimizer.state[p].items()}
    parallel.everywhere(lambda: parallel.read(saved, moments))
    return state["step"]


def _checksums(folder: Path) -> dict[str, list[int]]:
    """Of every file below a folder but the one that keeps them, piece by piece. The processes of a node share the
    work."""
    found, (number, count) = {}, parallel.local()

    def work():
        pieces = (
            (file, start)
            for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "state.json")
            for start in range(0, file.stat().st_size or 1, PIECE)
        )
        for file, start in islice(pieces, number, None, count):
            with open(file, "rb") as handle:
                handle.seek(start)
                checksum = 0
                for _ in range(0, PIECE, 2**20):  # a little at a time: all processes do this at once
                    checksum = zlib.crc32(handle.read(2**20), checksum)
                found[file.relative_to(folder).as_posix(), start] = checksum

    parallel.everywhere(work)
    every, checksums = {}, {}
    for part in parallel.gather(found):  # of several nodes, each has them all
        every |= part
    for name, start in sorted(every):
        checksums.setdefault(name, []).append(every[name, start])
    return checksums


def _complete(folder: Path) -> list[Path]:
    numbers = {path: path.name.removeprefix("step-") for path in Path(folder).glob("step-*")}
    return sorted((path for path, number in numbers.items() if number.isdecimal()), key=lambda p: int(numbers[p]))


def _sync(path: Path):
    """Have the operating system put a file or the entries of a folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ------------------------------------------------------------------------------------------------------- a training run

LOGS = ("metrics.jsonl", "evaluations.jsonl", "trajectories.jsonl", "rollouts.jsonl")


class Run:
    """The folder of one training run. The first process writes, the others only know where it is."""

    def __init__(self, folder: str | None, resume: bool = False):
        """The run will be kept in `folder`, or in a new one under runs/; with `resume` it is there already. Nothing is
        written yet. Raises ValueError with a sentence when `folder` holds something already, or does not hold what is
        to be resumed."""
        self.folder, self.settings, self.known = Path(folder) if folder else None, {}, {}
        if resume:
            if not folder or not (self.folder / "config.json").is_file():
                raise ValueError(
                    f"there is no run in {folder or '(no --out)'}: --resume needs --out with a run's folder"
                )
            if parallel.rank() == 0:
                lock(self.folder / ".lock")
            self.known = read_object(self.folder / "config.json", {"settings": dict, "problems": str})
            self.settings = self.known["settings"]
        elif folder and not empty(self.folder):
            raise ValueError(
                f"{folder} is not empty, perhaps another run is in it: name a new folder with --out, or add --resume"
            )

    def go_on(self, settings: dict, **known):
        """Keep what the run goes on with: settings that are free may be others now, and so may digests of code."""
        if parallel.rank() == 0:
            file = self.folder / "config.json"
            kept = read_object(file, {"settings": dict}) | {"settings": self.settings | settings} | known
            write(file, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")

    def start(self, name: str, settings: dict, **known):
        """Make the folder, called `name` where it has no name yet, and keep in it what is needed to repeat the run: its
        settings, and what else is `known`, such as digests of its problems."""
        if parallel.rank() == 0:
            self.folder = self.folder or free_folder(name)
            lock(self.folder / ".lock")
            begin(self.folder / "config.json", settings, **known)
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
        return read(self.folder / name, {"step": int})

    def append(self, name: str, rows: list[dict]):
        """Add rows to a log, in one write."""
        if parallel.rank() == 0:
            append(self.folder / name, rows)

    def measured(self, step: int) -> bool:
        """Whether there is an evaluation of this step."""
        return any(row["step"] == step for row in self.rows("evaluations.jsonl"))

    def save(self, step: int, model, tokenizer, optimizer, keep: int):
        """Write the checkpoint of `step`, and have `model` (with adapters `adapter`) point to its weights."""
        save(self.folder / "checkpoints", step, model, tokenizer, optimizer, keep)
        self._show()

    def export(self, model, tokenizer):
        """Give the newest checkpoint of adapters a `model` that has taken them in, unless it has one. All processes
        must call it alike."""
        if not self.exported:
            parallel.once(lambda: [shutil.rmtree(left) for left in self.newest.glob(".model.*")])  # by a kill
            policy.save(model, tokenizer, self.newest / "model", lora.merged(model))
        self._show()

    @property
    def exported(self) -> bool:
        """Whether the newest checkpoint has a `model`."""
        return parallel.gather((self.newest / "model").exists())[0]

    def _show(self):
        """Have `model` and `adapter` point to what the newest checkpoint has of them."""
        for name in ("model", "adapter") if parallel.rank() == 0 else ():
            if (self.newest / name).exists():
                _point(self.folder / name, self.newest.relative_to(self.folder) / name)
            elif (self.folder / name).is_symlink():
                (self.folder / name).unlink()  # what it points to may be gone


def _point(link: Path, target: Path):
    """Make `link` a link to `target`, a folder relative to it; where the file system has no links, a copy."""
    scratch = link.with_name(f".{link.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.unlink(missing_ok=True)
    try:
        scratch.symlink_to(target)
        scratch.replace(link)
    except OSError:
        shutil.copytree(link.parent / target, scratch)
        shutil.rmtree(link, ignore_errors=True)
        scratch.replace(link)
