"""What a release needs: the limits of the gate, and people's sign-offs, closed findings and the age of evidence.

A sign-off names the digest of the checkpoint that it is on, so that one on another version can't be taken along.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, field_validator

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import digest_file
from charter.ground.moderation.spelling import person_key
from charter.ground.reports.signoff import Digits, Name, SignOff, check_release
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_settings


class Row(NamedTuple):
    """A requirement, as gate and release judge it: `why` it isn't met ("" if it is), what met it, until when that
    counts, and the numbers that decided."""

    name: str
    why: str
    words: tuple[str, ...] = ()
    expires: datetime.datetime | None = None
    facts: Mapping[str, object] = MappingProxyType({})


FINDINGS = "findings.jsonl"


class SignOffRule(Frozen):
    """What a required sign-off must have."""

    parties: int = Field(1, ge=1, le=2, description="named persons of as many different parties who must approve")
    evidence: bool = Field(False, description="each must name an artifact that was made from the checkpoint")
    days: int | None = Field(None, ge=1, description="days for which it counts; empty: those of all")
    compute: float | None = Field(
        None,
        ge=1,
        description="it may be on an ancestor of which the checkpoint has at most so many times the compute, such as 4",
    )
    verdict: bool = Field(
        False,
        description="each must name a closed verdict (`charter audit verdict`) on the checkpoint; always so "
        "for a subject that names autonomy",
    )
    topics: bool = Field(
        False,
        description="the card must have a person's conclusion on every topic of national security "
        "(`charter signoff`); always so for a subject that names national security",
    )


# Words of the subjects whose sign-off must rest on a closed verdict, and on the topics of national security.
AUDITED, SECURITY = ("autonom",), ("national", "security")


def names(subject: str, words: tuple[str, ...]) -> bool:
    """Whether a subject has all these words, in any spelling that a reader takes for theirs."""
    return all(word in person_key(subject) for word in words)


class Rules(Frozen):
    """The rules of a release. `require` is a list of metrics, or maps metrics to margins of their own."""

    baseline: str = Field("", description="run, card or report that the release is compared with; empty: none")
    require: dict[str, float | None] = Field(default_factory=dict, description="metric: its margin, or null")
    margin: float = Field(0.0, ge=0, description="how much worse a metric without its own margin may be")
    max: dict[str, float] = Field(default_factory=dict, description="metric: the most that it may be")
    min: dict[str, float] = Field(default_factory=dict, description="metric: the least that it must be")
    strict: bool = Field(False, description="pass only metrics shown not to be worse than the margin")
    require_only: bool = Field(False, description="pass metrics that are present, though nothing judges them")

    @field_validator("require", mode="before")
    @classmethod
    def _accept_list(cls, value: object) -> object:
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return dict.fromkeys(value) if names else value  # type: ignore[call-overload]


class ReleaseRules(Rules):
    """release.yaml: the rules of `charter gate`, and what no number gives."""

    days: int = Field(90, ge=1, le=3650, description="days for which a report or a sign-off counts")
    deep: bool = Field(False, description="samples of all reports must be drawn again and agree")
    seal: Digits | None = Field(
        None, description="the card's seal, kept where nobody who may write the run can change it"
    )
    sealed: bool = Field(False, description="a kept seal, or samples drawn again, must show that nothing was changed")
    compute_before: float = Field(
        0.0, ge=0, description="FLOPs behind the model that all was trained from, if they are known"
    )
    sign_offs: dict[Name, SignOffRule] = Field(
        default_factory=dict, description="required sign-offs by subject, such as autonomy audit"
    )
    findings: tuple[str, ...] = Field(
        (), description="statuses that all outside findings must have, such as closed; empty: none are asked for"
    )


class SignOffs(Frozen):
    """A file of sign-offs."""

    sign_offs: tuple[Annotated[SignOff, AfterValidator(check_release)], ...] = Field(
        description="one entry a person and subject"
    )


def read_rules(path: Path) -> ReleaseRules:
    """Reads the rules of a release or of the gate. Raises CharterError of one line if the file is missing, damaged or
    has an unknown rule."""
    return read_settings(path, ReleaseRules, "file of rules", "require: [METRIC, ...]")


def read_sign_offs(path: Path) -> tuple[SignOff, ...]:
    """Reads a file of sign-offs. Raises CharterError of one line."""
    return read_settings(path, SignOffs, "file of sign-offs", "sign_offs: [{subject: ...}]").sign_offs


def read_findings(path: Path) -> dict[str, Any]:
    """Facts on a list of findings, one JSON object a line with `id` and `status`, or on that of an intake step: file,
    digest, rows, and ids by status. Raises CharterError naming file and line."""
    path = path / FINDINGS if path.is_dir() else path
    if not path.is_file():
        raise CharterError(f"there is no list of findings {path}; name a JSONL file with id and status")
    identities = set[str]()
    by_status: dict[str, list[str]] = {}
    for number, row in enumerate(read_objects(path), 1):
        name, status = row.get("id"), row.get("status")
        if not isinstance(name, str) or not name or not isinstance(status, str):
            raise CharterError(f"{path}:{number}: expected a finding with id and status, two texts")
        if name in identities:
            raise CharterError(f"{path}:{number}: the finding {name} stands here twice; keep one row of it")
        identities.add(name)
        by_status.setdefault(status, []).append(name)
    return {"file": path.name, "digest": digest_file(path), "rows": len(identities), "by_status": by_status}


def day_of(text: str) -> datetime.datetime:
    """The start of a sign-off's day, in UTC."""
    return datetime.datetime.combine(datetime.date.fromisoformat(text), datetime.time(), datetime.UTC)
