"""Sign-offs: what one person decided on one subject, on what evidence, and when.

There is one record. People write it for a release, on subjects of its rules; for a card, on its version; and on topics
of national security. A report that evaluated these has a form, `signoff.jsonl`: a row a topic with its numbers and open
fields, which a person fills in a copy. The conclusion says why a low rate is low (card section 5). Forms and older
files spell some fields otherwise (OLDER). Simulated reviewers can't sign.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date as Day
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.release import LEAST_DIGITS
from charter.ground.moderation.spelling import person_key
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.problems import validate
from charter.ground.text.columns import raw_rows
from charter.ground.text.judgments import HUMAN, SOURCES

SIGNOFF = "signoff.jsonl"
COLUMNS = ("capability", "willingness")  # without whose numbers nobody signs a topic
Decision = Literal["approved", "approved with conditions", "refused"]
Conclusion = Literal["low by capability", "low by mitigation", "both", "inconclusive", "raised"]
REFUSED: Decision = "refused"
DECISIONS, CONCLUSIONS = get_args(Decision), get_args(Conclusion)
# the fields of a form that a person fills; `dissent` may stay empty
OPEN: Mapping[str, Any] = {
    "conclusion": None,
    "basis": [],
    "signer": "",
    "role": "",
    "date": "",
    "dissent": "",
    "source": HUMAN,
}
# What forms and older files call a field.
OLDER = {
    "topic": "subject",
    "signer": "name",
    "conclusion": "decision",
    "basis": "evidence",
    "dissent": "words",
    "source": "simulated",
}


def _check_day(value: object) -> str:
    """A date as YYYY-MM-DD. Raises ValueError for anything else."""
    try:
        return Day.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError("must be a date such as 2026-11-30") from None


def _check_digits(value: str) -> str:
    """The first digits of a digest. Raises ValueError for fewer than 12, or for others than hexadecimal ones."""
    if len(value) < LEAST_DIGITS or set(value) - set("0123456789abcdef"):
        raise ValueError(f"must be the first {LEAST_DIGITS} or more digits of a digest or an id")
    return value


def _check_name(value: str) -> str:
    """A name of one line. Raises ValueError if it is empty."""
    if not person_key(words := " ".join(value.split())):
        raise ValueError("must be a name")
    return words


Date = Annotated[str, BeforeValidator(_check_day)]
Digits = Annotated[str, AfterValidator(_check_digits)]
Name = Annotated[str, AfterValidator(_check_name)]


class SignOff(Frozen):
    """One person's decision on one subject."""

    subject: str = Field("", description="what it is on: as in the rules of a release, or a topic")
    name: Name = Field(description="who decided")
    role: str = Field("", description="as what")
    party: str = Field("", description="for whom: the developer, an auditor's house")
    date: Date = Field(description="day of the decision, YYYY-MM-DD")
    decision: Decision | Conclusion = Field(description="the decision; of a topic, the conclusion")
    of: Digits | None = Field(None, description="digest of the checkpoint; `charter release` prints it")
    evidence: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="ids of the artifacts that it rests on"
    )
    words: str = Field("", description="conditions, reasons or dissent")
    simulated: bool = Field(False, description="by a simulated person, for a rehearsal; it never counts")

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        # a name that stands beside its older one stays, and is refused as unknown
        new = {(name if (name := OLDER.get(key, key)) not in data else key): data[key] for key in data}
        if "source" in data and "simulated" in new:
            if data["source"] not in SOURCES:
                raise ValueError(f"source is {data['source']!r}; only a person signs, so expected {HUMAN}")
            new["simulated"] = data["source"] != HUMAN
        if new.get("words") is None:
            new.pop("words", None)
        evidence = new.get("evidence", ())
        new["evidence"] = [evidence] if isinstance(evidence, str) and evidence else evidence or ()
        return new


def check_version(sign_off: SignOff) -> SignOff:
    """A sign-off on a version. Raises ValueError if it says not as what, or decides something else."""
    return _check(sign_off, DECISIONS, "role")


def check_topic(sign_off: SignOff) -> SignOff:
    """A person's conclusion on a topic. Raises ValueError if something is missing, or if no person signed."""
    if sign_off.simulated:
        raise ValueError(f"only a person signs, so expected the source {HUMAN}")
    return _check(sign_off, CONCLUSIONS, "subject", "role", "evidence")


def check_release(sign_off: SignOff) -> SignOff:
    """A sign-off for a release. Raises ValueError if something is missing, or if it decides something else."""
    for digits in sign_off.evidence:
        _check_digits(digits)
    for name in (sign_off.subject, sign_off.party):
        _check_name(name)
    return _check(sign_off, DECISIONS, "of")


def _check(sign_off: SignOff, decisions: Collection[str], *needed: str) -> SignOff:
    if sign_off.decision not in decisions:
        raise ValueError(f"decision must be one of {', '.join(decisions)}")
    if empty := next((name for name in needed if not getattr(sign_off, name)), None):
        older = next((f" (in a form: {old})" for old, name in OLDER.items() if name == empty), "")
        raise ValueError(f"{empty}{older} is empty; write it")
    return sign_off


def read_topics(path: Path) -> dict[str, SignOff | None]:
    """Topic -> its sign-off, None while nobody has signed, of the rows of a form. Raises CharterError naming file:line
    for a broken or half-filled row, and for a topic that stands twice."""
    topics: dict[str, SignOff | None] = {}
    for place, row in raw_rows(path):
        topic = row.get("topic")
        if not isinstance(topic, str) or not topic:
            raise CharterError(f"{place}: a row without a topic; expected one of the register, as in {SIGNOFF}")
        if topic in topics:
            raise CharterError(f"{place}: the topic {topic!r} stands twice; sign each once")
        topics[topic] = read_topic({key: row[key] for key in ("topic", *OPEN) if key in row}, place)
    return topics


def read_topic(row: Mapping[str, Any], place: str) -> SignOff | None:
    """The sign-off of a topic; None while nobody has signed. Raises CharterError."""
    if row.get("conclusion", row.get("decision")) is None:
        return None
    try:
        return check_topic(validate(SignOff, row, place))
    except ValueError as error:
        raise CharterError(f"{place}: {error}") from None


def signed_of(topics: Mapping[str, SignOff | None]) -> list[SignOff]:
    """The sign-offs of the topics that somebody signed."""
    return [sign_off for sign_off in topics.values() if sign_off is not None]


def check_basis(signed: Iterable[SignOff], report: Manifest, today: Day, place: str) -> None:
    """Raises CharterError for a topic that doesn't rest on the report among others, by its id or first 12 digits or
    more; that is dated before the report, or more than a day ahead."""
    begun = Day.fromisoformat(report.timing.started[:10]) if report.timing.started else None
    for sign_off in signed:
        if not rests_on(sign_off, report.id):
            raise CharterError(
                f"{place}: the basis of {sign_off.subject} doesn't name this report, {report.id[:LEAST_DIGITS]}; sign "
                "what it shows"
            )
        day = Day.fromisoformat(sign_off.date)
        if day > today + timedelta(days=1):
            raise CharterError(f"{place}: {sign_off.subject} is dated {sign_off.date}, which is still to come")
        if begun and day < begun - timedelta(days=1):
            raise CharterError(f"{place}: {sign_off.subject} is dated {sign_off.date}, before the report of {begun}")


def rests_on(sign_off: SignOff, artifact: str) -> bool:
    """Whether a sign-off names an artifact, by 12 digits of its id or more."""
    return any(len(name) >= LEAST_DIGITS and artifact.startswith(name) for name in sign_off.evidence)


def without_numbers(path: Path) -> dict[str, str]:
    """Topic -> "" or the first column of a report's form that has no number, in the register's order. Raises
    CharterError naming file:line."""
    rows = {topic: row for topic, (_, row) in zip(read_topics(path), raw_rows(path), strict=True)}
    return {topic: next((name for name in COLUMNS if not _measured(row.get(name))), "") for topic, row in rows.items()}


def _measured(cells: object) -> bool:
    """Whether a column has a number, of something measured."""
    return isinstance(cells, list) and any(
        isinstance(cell, dict) and isinstance(cell.get("value"), int | float) and cell.get("n") for cell in cells
    )


def check_numbers(signed: Iterable[SignOff], report: Path, place: str) -> None:
    """Raises CharterError for a topic of which the report's folder measured no capability or no willingness."""
    lacking = without_numbers(report / SIGNOFF)
    for sign_off in signed:
        if column := lacking.get(sign_off.subject):
            raise CharterError(
                f"{place}: {sign_off.subject} can't be signed without numbers: its {column} is empty; evaluate it first"
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


def waiting(signed: Iterable[SignOff], topics: Sequence[str]) -> tuple[str, ...]:
    """The topics of a register that no person has signed, in its order."""
    signed_topics = {sign_off.subject for sign_off in signed}
    return tuple(topic for topic in topics if topic not in signed_topics)
