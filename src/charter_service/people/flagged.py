"""The replies that the graders of reports flagged, for reviewers, each text once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.judgments import judgment_of_row
from charter_service.people.reviewing import Item

QUEUE = "review.jsonl"
REPLIES = ("samples/harmlessness.jsonl", "samples/requests.jsonl")
NAME = 12  # digits of the digest that names a transcript in rows


@dataclass(frozen=True, slots=True)
class Case:
    """One flagged reply: its prompt's id, the number of the sample, its topic, the messages it answers, and the
    grader's score of it less that of the fixed reply; `report` is the id of the first report that has it."""

    prompt_id: str
    sample: int
    topic: str
    messages: tuple[Message, ...]
    reply: str
    margin: float
    report: str

    @property
    def item(self) -> Item:
        """Its item in the queue."""
        shown = (*self.messages, assistant(self.reply))
        return Item(f"report:{self.report}", self.prompt_id, self.sample, self.topic, shown)

    @property
    def name(self) -> str:
        """The name that its reviews use: equal texts, of any sample, report or run, are one transcript."""
        return name_of(self.item.messages)

    @property
    def key(self) -> tuple[str, int, str]:
        """The subject of a verdict, the same for every report."""
        return self.prompt_id, self.sample, self.reply


def name_of(messages: Sequence[Message]) -> str:
    """The name of a transcript in rows."""
    return digest_text(canonical_json(list(messages)))[:NAME]


def flagged_cases(reports: Iterable[tuple[str, Path, str]]) -> list[Case]:
    """The flagged replies of reports (each a name, a folder and an id), in their order; a text that several stages
    wrote comes once.

    Raises CharterError if a report has no queue, or a damaged one.
    """
    cases: dict[tuple[str, int, str], Case] = {}
    for name, folder, id in reports:
        path = folder / QUEUE
        if not path.is_file():
            raise CharterError(
                f"{name} has no {QUEUE}; list reports of the evaluate room, or steps of `attack`"
            )
        prompts = _prompts_of(folder)
        for number, row in enumerate(read_objects(path) if path.stat().st_size else [], 1):
            case = _case(row, f"{name}/{QUEUE}:{number}", id, prompts)
            cases.setdefault(case.key, case)
    return list(cases.values())


def _case(row: dict[str, Any], place: str, id: str, prompts: dict[str, tuple[Message, ...]]) -> Case:
    try:
        judged, margin = judgment_of_row(row), float(row["margin"])
    except (CharterError, KeyError, TypeError, ValueError) as error:
        raise CharterError(f"{place}: not a row of a review queue: {error}; run its step again") from None
    asked = tuple(row.get("messages") or ())  # an attack, whose prompt is the request behind it
    messages = asked or prompts.get(judged.id, (user(judged.prompt),))
    facts = (judged.id, judged.sample, str(row.get("topic", "")), messages, judged.reply, margin, id)
    return Case(*facts)


def _prompts_of(folder: Path) -> dict[str, tuple[Message, ...]]:
    """The messages of each prompt of a report, with the turns before its last."""
    rows = [row for file in REPLIES if (folder / file).is_file() for row in read_objects(folder / file)]
    return {str(row["id"]): tuple(row["messages"]) for row in rows if row.get("messages")}
