"""Sign-offs on the national-security track: one row a topic, which waits until a person has signed it.

A row of a report's signoff.jsonl has the numbers of its topic and open fields; a person fills them in a copy. The
conclusion says why a low rate is low: low capability, mitigation, or both (card section 5). Simulated reviewers can't
sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.settings.problems import suggest
from charter.ground.text.columns import raw_rows
from charter.ground.text.judgments import HUMAN, SOURCES

SIGNOFF = "signoff.jsonl"
DIGITS = 12  # of an id that people write
COLUMNS = ("capability", "willingness")  # without whose numbers nobody signs a topic
CONCLUSIONS = ("low by capability", "low by mitigation", "both", "inconclusive", "raised")
# the fields that a person fills; `dissent` may stay empty
OPEN: Mapping[str, Any] = {
    "conclusion": None,
    "basis": [],
    "signer": "",
    "role": "",
    "date": "",
    "dissent": "",
    "source": HUMAN,
}


@dataclass(frozen=True, slots=True)
class Signoff:
    """A person's conclusion on one topic. `basis`: ids of the reports that it rests on; `role`: the signer's; `date` in
    ISO form. `conclusion` is None while nobody has signed."""

    topic: str
    conclusion: str | None
    basis: tuple[str, ...] = ()
    signer: str = ""
    role: str = ""
    date: str = ""
    dissent: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """It as a row, and as the card's settings have it."""
        row = asdict(self) | {"basis": list(self.basis)}
        return {key: value for key, value in row.items() if key != "dissent" or value}


def read_signoffs(path: Path) -> list[Signoff]:
    """The sign-offs of a file, open ones included. Raises CharterError naming file:line for a broken or half-filled
    row, and for a topic that stands twice."""
    found: dict[str, Signoff] = {}
    for place, row in raw_rows(path):
        try:
            signoff = signoff_of_row(row)
            if signoff.topic in found:
                raise CharterError(f"the topic {signoff.topic!r} stands twice; sign each once")
        except CharterError as error:
            raise CharterError(f"{place}: {error}") from None
        found[signoff.topic] = signoff
    return list(found.values())


def signoff_of_row(row: Mapping[str, Any]) -> Signoff:
    """A sign-off from a row's columns. Raises CharterError."""
    topic, conclusion = row.get("topic"), row.get("conclusion")
    if not isinstance(topic, str) or not topic:
        raise CharterError("a row without a topic; expected one of the register, as in signoff.jsonl")
    if conclusion is None:
        return Signoff(topic, None)
    if conclusion not in CONCLUSIONS:
        raise CharterError(f"conclusion is {conclusion!r}; {suggest(str(conclusion), CONCLUSIONS)}")
    if (source := row.get("source", HUMAN)) != HUMAN:
        known = f"source is {source!r}" if source in SOURCES else f"source is {source!r}, which is unknown"
        raise CharterError(f"{known}; only a person signs, so expected {HUMAN}")
    basis = row.get("basis")
    if not isinstance(basis, list) or not basis or not all(isinstance(one, str) and one for one in basis):
        raise CharterError("basis is empty; expected a list with the id of at least one report")
    texts = {key: str(row.get(key) or "").strip() for key in ("signer", "role", "date", "dissent")}
    if lacking := [key for key in ("signer", "role", "date") if not texts[key]]:
        raise CharterError(f"{lacking[0]} is empty; expected the signer's name and role, and the date")
    try:
        date.fromisoformat(texts["date"])
    except ValueError:
        raise CharterError(f"date is {texts['date']!r}; expected a day such as 2026-12-01") from None
    return Signoff(topic, conclusion, tuple(basis), **texts)


def check_basis(signoffs: Sequence[Signoff], report: Manifest, today: date, where: str) -> None:
    """Raises CharterError for a signed topic that doesn't rest on the report among others, by its id or first 12 digits
    or more; that is dated before the report, or more than a day ahead."""
    begun = date.fromisoformat(report.timing.started[:10]) if report.timing.started else None
    for one in signoffs:
        if one.conclusion is None:
            continue
        if not any(len(name) >= DIGITS and report.id.startswith(name) for name in one.basis):
            raise CharterError(
                f"{where}: the basis of {one.topic} doesn't name this report, {report.id[:DIGITS]}; sign what it shows"
            )
        day = date.fromisoformat(one.date)
        if day > today + timedelta(days=1):
            raise CharterError(f"{where}: {one.topic} is dated {one.date}, which is still to come")
        if begun and day < begun - timedelta(days=1):
            raise CharterError(f"{where}: {one.topic} is dated {one.date}, before the report of {begun}")


def without_numbers(path: Path) -> dict[str, str]:
    """Topic -> "" or the first column of a report's signoff.jsonl that has no number, in the register's order. Raises
    CharterError naming file:line."""
    rows = {signoff.topic: row for signoff, (_, row) in zip(read_signoffs(path), raw_rows(path), strict=True)}
    return {
        topic: next((name for name in COLUMNS if not _measured(row.get(name))), "")
        for topic, row in rows.items()
    }


def _measured(cells: object) -> bool:
    """Whether a column has a number, of something measured."""
    return isinstance(cells, list) and any(
        isinstance(cell, dict) and isinstance(cell.get("value"), int | float) and cell.get("n")
        for cell in cells
    )


def check_numbers(signoffs: Sequence[Signoff], report: Path, where: str) -> None:
    """Raises CharterError for a signed topic of which the report's folder measured no capability or no willingness."""
    lacking = without_numbers(report / SIGNOFF)
    for one in signoffs:
        if one.conclusion is not None and (column := lacking.get(one.topic)):
            raise CharterError(
                f"{where}: {one.topic} can't be signed without numbers: its {column} is empty; evaluate it first"
            )


def check_copy(file: Path, report: Path) -> None:
    """Raises CharterError for a filled copy whose numbers are not those of the report's folder."""
    rows = {row.get("topic"): row for _, row in raw_rows(report / SIGNOFF)}
    for place, row in raw_rows(file):
        for name in COLUMNS:
            if row.get(name) != rows.get(row.get("topic"), row).get(name):
                raise CharterError(
                    f"{place}: the {name} of {row['topic']} is not the report's; copy {report / SIGNOFF} again"
                )


def waiting(signoffs: Sequence[Signoff], topics: Sequence[str]) -> tuple[str, ...]:
    """The topics of a register that no person has signed, in its order."""
    signed = {one.topic for one in signoffs if one.conclusion is not None}
    return tuple(topic for topic in topics if topic not in signed)
