"""The form of card.json, as types and as JSON Schema, which lies beside it as card.schema.json.

A section without words, a use, a limit or a stage that is missing, and a number without a source break it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charter.rooms.card.layout import REQUIRED
from charter.rooms.card.page import FORMAT

SCHEMA = "card.schema.json"
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
LEAST_WORDS = 3


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
        Field(
            json_schema_extra={
                "allOf": [{"contains": {"properties": {"key": {"const": key}}}} for key in REQUIRED]
            }
        ),
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
    whole: Any = record
    while isinstance(whole, dict) and "update_of" in whole:
        whole = whole.get("base")
    written = whole.get("format") if isinstance(whole, dict) else None
    if isinstance(written, int) and written != FORMAT:
        return [
            f"format {written}, and this charter writes format {FORMAT}, which says more: make the card's step again, "
            "or verify it with the charter that made it"
        ]
    try:
        card = Card.model_validate(whole)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    present = {section.key for section in card.sections}
    return [f"sections: {key} is missing" for key in REQUIRED if key not in present]
