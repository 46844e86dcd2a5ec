"""Rows that are neither dialogues nor comparisons: transcripts, worked choices, triples, labelled replies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import check_messages
from charter.ground.text.jsonl import numbered_rows
from charter.ground.text.parsing import triple_of_row
from charter.ground.text.records import read_records

Row = dict[str, Any]


def read_transcripts(path: Path) -> list[Row]:
    """Critique transcripts, of a file or a critique artifact: id, topic, messages, draft, and rounds of key, critique,
    revision and dropped (why the revision was, None where it was kept)."""
    rows = _rows(path, "transcripts.jsonl", {"id": str, "draft": str, "rounds": list})
    for row in rows:
        row.setdefault("topic", "")
        for made in row["rounds"]:
            if not isinstance(made, dict) or not {"key", "critique", "revision"} <= made.keys():
                raise CharterError(
                    f"{path}: transcript {row['id']}: a round needs key, critique and revision"
                )
            made["dropped"] = made.get("dropped") or None
    return rows


def kept_rounds(transcript: Mapping[str, Any]) -> list[tuple[int, str, Row]]:
    """(number from 1, the reply that it started with, the round) of each round whose revision was kept."""
    found, reply = [], transcript["draft"]
    for number, made in enumerate(transcript["rounds"], 1):
        if not made.get("dropped"):
            found.append((number, reply, made))
            reply = made["revision"]
    return found


def read_shots(path: Path) -> list[Row]:
    """Worked choices: id, key, messages, first, second, answer "A" or "B", thought."""
    rows = _rows(path, "shots.jsonl", {"id": str, "key": str, "first": str, "second": str, "answer": str})
    for row in rows:
        if row["answer"] not in ("A", "B"):
            raise CharterError(
                f"{path}: worked choice {row['id']} has answer {row['answer']!r}; expected A or B"
            )
    return rows


def read_labelled(path: Path) -> list[Row]:
    """Replies with labels of detectors: reply, and true or false by a detector's name."""
    found = []
    for number, row in numbered_rows(path):
        if not isinstance(row.get("reply"), str):
            raise CharterError(f"{path}:{number}: reply is missing or no text; labelled replies need it")
        found.append(row)
    return found


def read_triples(path: Path) -> list[Row]:
    """Fitness triples: id, topic, messages, harmful, good."""
    return read_records(path, "triples", triple_of_row)


def _rows(path: Path, name: str, keys: dict[str, type]) -> list[Row]:
    file = path / name if path.is_dir() else path
    found = []
    for number, row in numbered_rows(file):
        for key, kind in keys.items():
            if not isinstance(row.get(key), kind):
                raise CharterError(f"{file}:{number}: {key} is missing or no {kind.__name__}")
        try:
            row["messages"] = list(check_messages(row.get("messages")))
        except CharterError as error:
            raise CharterError(f"{file}:{number}: {error}") from None
        found.append(row)
    return found
