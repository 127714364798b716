"""A run's folder: what is written there, so that nothing of another run is ever overwritten.

    config.json         the flags, the commit and the versions
    metrics.jsonl       one JSON object a step
    evaluation.jsonl    held-out figures before and after
    trajectories.jsonl  some constructions of each step, with their parts
    model/              the trained policy in transformers' format, at the end or when the run is stopped

So far a run that was stopped cannot be resumed.
"""

import json
import platform
import subprocess
from itertools import count
from pathlib import Path

import tokenizers
import torch
import transformers

import policy


class Run:
    """The folder of one training run."""

    def __init__(self, folder: str | None, name: str):
        """The run will be kept in `folder`, or in the first of `runs/name-1`, `runs/name-2`, ... that is free.
        Nothing is written yet. Raises ValueError when `folder` holds something already."""
        self.given, self.name = folder, name
        if folder is not None:
            self.folder = Path(folder)
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise ValueError(f"{folder} is not empty, perhaps another run is in it: name a new folder with --out")

    def start(self, flags: dict):
        """Make the folder, and keep in it what is needed to repeat the run."""
        if self.given is None:
            self.folder = _first_free(self.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        versions = {p.__name__: p.__version__ for p in (torch, transformers, tokenizers)}
        config = {"flags": flags, "commit": commit(), "python": platform.python_version()} | versions
        (self.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def append(self, file: str, rows: list[dict]):
        """Add rows to a JSON-lines file, in one write."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with open(self.folder / file, "a", encoding="utf-8") as handle:
            handle.write(lines)

    def save_model(self, model, tokenizer):
        """Write the policy to `model/`."""
        policy.save(model, tokenizer, self.folder / "model")


def _first_free(name: str) -> Path:
    """A new folder `runs/name-N`, made here and now: another run, perhaps just started, never gets the same."""
    for i in count(1):
        try:
            folder = Path("runs") / f"{name}-{i}"
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue


def commit() -> str | None:
    """The commit of this code, with a + when files differ from it; None outside git."""
    here = Path(__file__).parent

    def git(*words):
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
