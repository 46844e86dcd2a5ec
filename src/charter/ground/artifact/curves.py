"""Reading the JSON files of an artifact: one object, rows of objects, and the curve of a training run.

Every error is one line that names file and line. Metrics that come from a log are the values of its last line.
"""

import json
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import LOG


def read_object(path: Path) -> dict[str, Any]:
    """The one JSON object of a file. Raises CharterError with file and line if it is damaged."""
    return _object(path.read_bytes(), path, 1)


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line. Raises CharterError with file and line if one is damaged."""
    # not splitlines(): a reply may hold U+2028, which is no end of a JSON line
    content = path.read_bytes().removesuffix(b"\n")
    return [_object(line, path, n) for n, line in enumerate(content.split(b"\n") if content else [], 1)]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of folder/log.jsonl, oldest first; [] without a file."""
    path = folder / LOG
    return read_objects(path) if path.exists() else []


def last_logged(folder: Path, key: str) -> float | None:
    """The last logged value of `key`, or None. Rows of a refused step, which have a `spike`, don't count, nor do those
    after the round that became the product (`kept_round`)."""
    rows = [row for row in read_log(folder) if "spike" not in row]
    last_step = next((row["kept_round"] for row in reversed(rows) if row.get("kept_round") is not None), None)
    rows = rows if last_step is None else [row for row in rows if row["step"] <= last_step]
    return next((row[key] for row in reversed(rows) if row.get(key) is not None), None)


def _object(data: bytes, path: Path, first: int) -> dict[str, Any]:
    """The JSON object in bytes that begin on line `first` of a file."""
    line, problem = first, ""
    try:
        value = json.loads(data)
    except UnicodeDecodeError as error:
        line, problem = first + data[: error.start].count(b"\n"), " (not UTF-8)"
    except json.JSONDecodeError as error:
        line, problem = first + error.lineno - 1, f" ({error})"
    except (ValueError, RecursionError) as error:
        problem = f" ({error})"
    else:
        if isinstance(value, dict):
            return value
    raise CharterError(
        f"{path}:{line}: not a JSON object{problem}; the file is damaged, make its step again with charter run"
    )
