"""Safe reading of foreign files: checkpoints, tokenizers and data come from strangers, so reading must be bounded.

Only regular files are read: a pipe may block, and a device never ends. A link may not lead out of its folder. JSON is
bounded before it is parsed: three bytes of it may take seventy in memory.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

LONGEST_JSON = 40 * 2**20  # bytes; the largest tokenizer.json in use has some 34 million
MOST_VALUES = 2**22  # of one JSON text, by its commas and brackets
# errors that parsing such a file may raise, beside CharterError
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)


def regular(path: Path) -> Path:
    """The path itself. Raises OSError if it is no regular file, FileNotFoundError if there is none."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path.name} is no regular file; put a file there")
    return path


def inside(folder: Path, name: str) -> Path:
    """The regular file of that name in a folder. Raises OSError, also for a link that leads out of the folder.

    In the cache of the hub's client a snapshot is a folder of links into the folder `blobs` beside it; these are
    allowed.
    """
    path, home = folder / name, Path(os.path.realpath(folder))
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    if not any(Path(os.path.realpath(path)).is_relative_to(root) for root in homes):
        raise OSError(f"{name} is a link out of its folder; put the file itself there")
    return regular(path)


def parse_json(data: bytes, constants: bool = True) -> Any:
    """The value of a JSON text; without `constants` NaN and Infinity are refused. Raises ValueError if it is malformed,
    too large or too deep."""
    if len(data) > LONGEST_JSON:
        raise ValueError(f"it has over {LONGEST_JSON // 2**20} MiB, the most of a JSON text here")
    check_values(data, MOST_VALUES)
    try:
        return json.loads(data, parse_constant=None if constants else _refuse)
    except RecursionError:
        raise ValueError("its brackets stand too deep") from None


def check_values(data: bytes, most: int) -> None:
    """Raises ValueError for a JSON text that may have more than `most` values."""
    if sum(map(data.count, (b",", b"[", b"{"))) > most:
        raise ValueError(f"it has over {most:,} values, the most of a JSON text here")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_json_file(path: Path) -> Any:
    """The value of a JSON file that `regular` or `inside` has checked. Raises OSError; ValueError as `parse_json`."""
    if path.stat().st_size > LONGEST_JSON:
        raise ValueError(f"it has over {LONGEST_JSON // 2**20} MiB, the most of a JSON file here")
    return parse_json(path.read_bytes())


def line_of(error: BaseException, longest: int = 200) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
