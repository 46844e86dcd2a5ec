"""The form of a card: the order of its page, and card.json as types and as JSON Schema, which lies beside it as
card.schema.json.

On the page stand a front and five parts behind it; a section that has nothing to say is left out. A section without
words, a use, a limit or a stage that is missing, and a number without a source break the schema.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Goes up when the page says other things of the same run; a card of another format is made anew, not verified.
FORMAT = 2

SUMMARY, STAGES, SAMPLES, LIMITS = "summary", "stages", "samples", "limits"
FRONT = (
    (SUMMARY, "Summary"),
    (STAGES, "What each stage changed"),
    (SAMPLES, "The same prompts before and after"),
    (LIMITS, "Intended use and limits"),
)
PARTS = (
    (
        "results",
        "Results",
        (
            ("whats-new", "What’s new"),
            ("replies", "Replies of every stage"),
            ("red-team", "Evaluations and red teaming"),
            ("attacks", "Red teaming by machine"),
            ("audit", "Autonomy audit"),
            ("elo", "Elo by axis"),
            ("alignment", "Alignment evaluations"),
            ("capability", "Capability evaluations"),
            ("published", "Beside the Claude 2 card"),
            ("improved", "Use-case improvements"),
            ("tradeoffs", "Mitigations and trade-offs"),
            ("improve", "Areas for improvement"),
            ("deltas", "All changes from start to final"),
            ("matrix", "Every evaluation at every stage"),
        ),
    ),
    ("judges", "Graders", (("graders", "Can the graders be trusted?"),)),
    ("sources", "Data", (("data", "Training data"),)),
    (
        "method",
        "Method",
        (
            ("details", "Model details"),
            ("plots", "Pictures of the run"),
            ("ethics", "Ethical considerations"),
            ("references", "References"),
        ),
    ),
    ("proof", "Lineage", (("lineage", "Artifacts"), ("reproduce", "Reproduce and verify"))),
)
FOLDED = frozenset(key for key, _, _ in PARTS)
# Heading -> id, in the order of the page.
IDS = {title: key for key, title in FRONT} | {
    title: key for part, name, sections in PARTS for key, title in ((part, name), *sections)
}
TITLES = {key: title for title, key in IDS.items()}
# Sections that every card has.
REQUIRED = (
    *(key for key, _ in FRONT),
    *("red-team", "published", "improved", "tradeoffs", "improve", "matrix", "graders", "data"),
    *("details", "ethics", "references", "lineage", "reproduce"),
)
SCHEMA = "card.schema.json"
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
LEAST_WORDS = 3


def front_of(page: str) -> str:
    """The page without its folded parts and without the links to them; a page that has none as it is."""
    folded = [at for key in FOLDED if (at := page.find(f'<section id="{key}"')) >= 0]
    end = page.find("</main>")
    front = page[: min(folded)] + page[end:] if folded and end > 0 else page
    before, nav, tail = front.partition("<nav ")
    return before + tail.partition("</nav>")[2] if nav else front


class Part(BaseModel):
    """A part of card.json; it has no other keys."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SourceEntry(Part):
    """Where a number comes from."""

    step: Text
    artifact: Text
    file: Text


class NumberEntry(Part):
    """A number that the page shows."""

    key: Text
    name: Text
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    clusters: int | None
    version: int
    unit: str
    stage: str
    change: bool
    sources: list[SourceEntry] = Field(min_length=1)
    p: float | None
    p_holm: float | None


class StageEntry(Part):
    """A stage, and the model that its report is on."""

    stage: Text
    step: Text
    id: Text
    model: dict[str, Any] | None


class SectionEntry(Part):
    """A section of the page, and how many words it has."""

    key: Text
    title: Text
    words: int = Field(ge=LEAST_WORDS)


class StatementEntry(Part):
    """A sentence with {KEY} in place of each number that it names."""

    text: Text
    numbers: list[Text]


class ExaminationEntry(Part):
    """An audit or a topic."""

    subject: Text
    by: Text
    date: Text
    conclusion: StatementEntry
    evidence: str


class SignOffEntry(Part):
    """A decision on this version."""

    name: Text
    role: Text
    date: Text
    decision: Text
    words: str


class Statements(Part):
    """What people say of the model."""

    intended_use: list[StatementEntry] = Field(min_length=1)
    unintended_use: list[StatementEntry] = Field(min_length=1)
    limitations: list[StatementEntry] = Field(min_length=1)
    limits: list[Text] = Field(min_length=1, description="ids of the limits of any model, as at /v1/limits")
    audits: list[ExaminationEntry]
    topics: list[ExaminationEntry]
    signoffs: list[SignOffEntry]
    not_made: list[Text] = Field(description="audits, topics and sign-offs that are absent")


class Begun(Part):
    """What a card and an update of one share."""

    format: int
    title: Text
    model: dict[str, Any] | None
    settings: dict[str, Any]
    stages: list[StageEntry] = Field(min_length=1)
    numbers: list[NumberEntry] = Field(min_length=1)
    drawn_with: dict[str, str]


class Card(Begun, Statements):
    """card.json."""

    grader: dict[str, Any] | None
    unfit: list[str] = []  # metrics whose grader is unfit; cards of before have no such list
    decoding: str
    at_protocol: list[StageEntry]
    sections: Annotated[
        list[SectionEntry],
        Field(json_schema_extra={"allOf": [{"contains": {"properties": {"key": {"const": key}}}} for key in REQUIRED]}),
    ]
    refused: list[dict[str, str]]
    figures: list[dict[str, Any]]
    samples: dict[str, list[str]]
    lineage: list[dict[str, Any]] = Field(min_length=1)
    environment: dict[str, str] = Field(min_length=1)


@lru_cache
def schema() -> str:
    """The JSON Schema of card.json."""
    return json.dumps(Card.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def schema_problems(record: dict[str, Any]) -> list[str]:
    """How a card.json breaks the schema, a line each. An update of a card has a form of its own, and its base is held
    against the schema. A card of another format is named alone: this charter writes other words."""
    page_record: Any = record
    while isinstance(page_record, dict) and "update_of" in page_record:
        page_record = page_record.get("base")
    written = page_record.get("format") if isinstance(page_record, dict) else None
    if isinstance(written, int) and written != FORMAT:
        return [
            f"format {written}, and this charter writes format {FORMAT}, which says more: make the card's step again, "
            "or verify it with the charter that made it"
        ]
    try:
        card = Card.model_validate(page_record)
    except ValidationError as error:
        return [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
    present = {section.key for section in card.sections}
    return [f"sections: {key} is missing" for key in REQUIRED if key not in present]
