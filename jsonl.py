"""JSON lines on disk, as logs: rows are added whole, files are replaced whole, and a torn last line is no row."""

import json
import os
from pathlib import Path


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
