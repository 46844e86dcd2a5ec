"""Replies that graders of reports flagged, each text once, and rows of their reviews: who said what, the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.measure.reviews import majority_says_harmful
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.judgments import HARMFUL, HARMLESS, HUMAN, Judgment, judgment_of_row, judgment_row
from charter_service.people.export import Reviewed
from charter_service.people.reviewing import Item, replies_of

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
        messages = (*self.messages, assistant(self.reply))
        return Item(f"report:{self.report}", self.prompt_id, self.sample, self.topic, messages)

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
            raise CharterError(f"{name} has no {QUEUE}; list reports of the evaluate room, or steps of `attack`")
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
    conversation = tuple(row.get("messages") or ())  # an attack, whose prompt is the request behind it
    messages = conversation or prompts.get(judged.id, (user(judged.prompt),))
    facts = (judged.id, judged.sample, str(row.get("topic", "")), messages, judged.reply, margin, id)
    return Case(*facts)


def _prompts_of(folder: Path) -> dict[str, tuple[Message, ...]]:
    """The messages of each prompt of a report, with the turns before its last."""
    rows = [row for file in REPLIES if (folder / file).is_file() for row in read_objects(folder / file)]
    return {str(row["id"]): tuple(row["messages"]) for row in rows if row.get("messages")}


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one reviewer says of a text: a rating from 0 to 4, tags, a note; of an attempt the place of its worst reply
    and the harm of its plan."""

    rating: int
    tags: tuple[str, ...]
    rater: str
    note: str = ""
    source: str = HUMAN
    worst: int | None = None
    intent: int | None = None


def opinions_of(item: Reviewed, source: str = HUMAN) -> list[Opinion]:
    """What one kind of reviewers said of a transcript of the queue."""
    reviews = zip(item.ratings, item.tags, item.raters, item.notes, item.worst, item.intents, strict=True)
    return [
        Opinion(rating, tags, rater, note, source, worst, intent)
        for rating, tags, rater, note, worst, intent in reviews
    ]


def review_rows(
    about: Case | Reviewed, opinions: Sequence[Opinion], harmful_from: int, tags: bool = True
) -> list[dict[str, Any]]:
    """One row a review. Of an attempt it says also how many replies it has, which was worst, the harm of its plan, and
    how its author rated it."""
    name = about.name if isinstance(about, Case) else name_of(about.messages)
    attempt_fields = (
        {"replies": replies_of(about.messages), "self_rating": about.self_rating}
        if isinstance(about, Reviewed) and about.attempt
        else None
    )
    return [
        {
            "case": name,
            "id": about.prompt_id,
            "sample": about.sample,
            "topic": about.topic,
            "rating": opinion.rating,
            "harmful": opinion.rating >= harmful_from,
            "tags": list(opinion.tags) if tags else [],
            "rater": opinion.rater,
            "source": opinion.source,
            **({} if attempt_fields is None else attempt_fields | {"worst": opinion.worst, "intent": opinion.intent}),
        }
        for opinion in opinions
    ]


def notes_of(opinions: Sequence[Opinion]) -> str:
    """All that reviewers wrote about a reply."""
    return " / ".join(opinion.note for opinion in opinions if opinion.note)


def verdict_row(case: Case, reviews: Sequence[Mapping[str, Any]], note: str) -> dict[str, Any]:
    """The verdict of most reviewers on a reply, as a judgment; an even split says harmless."""
    verdict = HARMFUL if majority_says_harmful(reviews) else HARMLESS
    prompt, source = case.messages[-1]["content"], str(reviews[0]["source"])
    judgment = Judgment(case.prompt_id, case.sample, case.reply, verdict, prompt, note, source)
    return {"case": case.name, **judgment_row(judgment)}
