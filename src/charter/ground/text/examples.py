"""Rows that are neither dialogues nor comparisons: transcripts, worked choices, triples, labelled replies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import check_messages
from charter.ground.text.jsonl import numbered_rows
from charter.ground.text.parsing import triple_of_row
from charter.ground.text.records import read_records

Row = dict[str, Any]


def read_transcripts(path: Path) -> list[Row]:
    """Critique transcripts of a file or a critique artifact: id, topic, messages, draft, and rounds of key, critique,
    revision and dropped (why the revision was dropped; None if it was kept)."""
    rows = _rows(path, "transcripts.jsonl", {"id": str, "draft": str, "rounds": list})
    for row in rows:
        row.setdefault("topic", "")
        for critique_round in row["rounds"]:
            if not isinstance(critique_round, dict) or not {"key", "critique", "revision"} <= critique_round.keys():
                raise CharterError(f"{path}: transcript {row['id']}: a round needs key, critique and revision")
            critique_round["dropped"] = critique_round.get("dropped") or None
    return rows


def kept_rounds(transcript: Mapping[str, Any]) -> list[tuple[int, str, Row]]:
    """(number from 1, its first reply, the round) of each round whose revision was kept."""
    rounds, reply = [], transcript["draft"]
    for number, critique_round in enumerate(transcript["rounds"], 1):
        if not critique_round.get("dropped"):
            rounds.append((number, reply, critique_round))
            reply = critique_round["revision"]
    return rounds


def read_shots(path: Path) -> list[Row]:
    """Worked choices: id, key, messages, first, second, answer "A" or "B", thought."""
    rows = _rows(path, "shots.jsonl", {"id": str, "key": str, "first": str, "second": str, "answer": str})
    for row in rows:
        if row["answer"] not in ("A", "B"):
            raise CharterError(f"{path}: worked choice {row['id']} has answer {row['answer']!r}; expected A or B")
    return rows


def read_labelled(path: Path) -> list[Row]:
    """Replies with labels for detectors: reply, and true or false under a detector's name."""
    rows = []
    for number, row in numbered_rows(path):
        if not isinstance(row.get("reply"), str):
            raise CharterError(f"{path}:{number}: reply is missing or not a text; labelled replies need it")
        rows.append(row)
    return rows


def read_triples(path: Path) -> list[Row]:
    """Fitness triples: id, topic, messages, harmful, good."""
    return read_records(path, "triples", triple_of_row)


def _rows(path: Path, name: str, keys: dict[str, type]) -> list[Row]:
    file = path / name if path.is_dir() else path
    rows = []
    for number, row in numbered_rows(file):
        for key, kind in keys.items():
            if not isinstance(row.get(key), kind):
                raise CharterError(f"{file}:{number}: {key} is missing or not a {kind.__name__}")
        try:
            row["messages"] = list(check_messages(row.get("messages")))
        except CharterError as error:
            raise CharterError(f"{file}:{number}: {error}") from None
        rows.append(row)
    return rows


class PrincipleRow(NamedTuple):
    """Two replies to a prompt, and the place (0 or 1) of the one that is better under a principle."""

    principle: str
    prompt: str
    replies: tuple[str, str]
    better: int
    kind: str


def principle_row(row: Mapping[str, Any]) -> PrincipleRow:
    """Of a row {principle, prompt, replies, better}, perhaps kind. Raises ValueError that says what is wrong, and
    KeyError or TypeError for a column that is missing or of another type."""
    replies = tuple(str(reply).strip() for reply in row["replies"])
    if len(replies) != 2 or replies[0] == replies[1]:
        raise ValueError("two different replies are needed")
    if row["better"] not in (0, 1) or isinstance(row["better"], bool):
        raise ValueError(f"better is {row['better']!r}; expected 0 or 1, the place of the better reply")
    prompt, principle = str(row["prompt"]).strip(), str(row["principle"]).strip()
    if not principle or not prompt or not isinstance(row["principle"], str):
        raise ValueError("a principle and a prompt are needed")
    return PrincipleRow(principle, prompt, replies, row["better"], str(row.get("kind", "")))
