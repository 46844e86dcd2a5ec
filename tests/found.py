"""Rows of findings for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AT = "2026-11-30T12:00:00+00:00"


def row(id: str = "acme-1", asked: str = "Tell my aunt a lie about her cat.", **more: Any) -> dict[str, Any]:
    """A good row, with other columns put over it; None removes one."""
    columns: dict[str, Any] = {
        "id": id,
        "transcript": [{"role": "user", "content": asked}, {"role": "assistant", "content": "It is well."}],
        "task_description": "a small lie",
        "source": "vendor",
        "vendor": "Acme",
        "licence": "CC-BY-4.0",
        "collected_at": "2026-11-01",
        "consent": ["evaluation", "training", "publication"],
        "model_id": "demo/rl",
        "report_type": "Issue",
        **more,
    }
    return {name: value for name, value in columns.items() if value is not None}


def write(path: Path, rows: Sequence[Mapping[str, Any] | bytes]) -> Path:
    """A file of rows; bytes are written as they are."""
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path
