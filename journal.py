"""JSON lines that survive any interruption: rows are added, never changed, and are on disk before work goes on.

A program that is killed, or meets a full disk, while it adds rows leaves at worst a last line without its end. `read`
cuts it off, so that what is there can be trusted and the program goes on behind it.
"""

import json
import os
from pathlib import Path


def read(file: Path) -> list[dict]:
    """The rows of `file`, none when it does not exist. A torn last line is removed from the file. Raises ValueError
    when another line is no JSON object: then the file is not ours, or damaged."""
    if not file.exists():
        return []
    rows, end, data = [], 0, file.read_bytes()
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            if end + len(line) < len(data):
                raise ValueError(f"{file}, line {number} is no JSON object: move the file away, or name another")
            cut(file, end)
            break
        rows.append(row)
        end += len(line)
    return rows


def append(file: Path, rows: list[dict]) -> int:
    """Add rows and wait until they are on disk. Returns the size of the file."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with open(file, "ab") as handle:
        handle.write(lines.encode("utf-8", "replace"))  # a lone surrogate is no UTF-8
        handle.flush()
        os.fsync(handle.fileno())
        return handle.tell()


def cut(file: Path, size: int):
    """Remove what `file` holds beyond `size` bytes; a file that does not exist counts as empty. Raises ValueError when
    it is shorter."""
    with open(file, "ab") as handle:
        if handle.tell() < size:
            raise ValueError(f"{file} has lost rows since it was written: begin anew in another place")
        handle.truncate(size)
