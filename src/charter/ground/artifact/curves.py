"""Reading a training curve back: metrics that come from a log are the values of its last line."""

import json
from pathlib import Path

from charter.ground.artifact.workspace import LOG


def read_log(folder: Path) -> list[dict[str, float]]:
    """All lines of folder/log.jsonl, oldest first; an empty list where there is none."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def last_logged(folder: Path, key: str) -> float | None:
    """The last value logged under `key`, or None."""
    found = [row[key] for row in read_log(folder) if row.get(key) is not None]
    return found[-1] if found else None
