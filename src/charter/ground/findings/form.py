"""The form of a finding of an outside red team: the ten published columns of Ganguli 2022, provenance, a report type.

One JSON object a line. Personal data is masked before anything is kept, and a member's id becomes a digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.problems import validate
from charter.ground.text.dialogue import Message, check_text, check_user_turns
from charter.ground.text.heldout import key_of
from charter.ground.text.jsonl import numbered_rows
from charter.ground.text.parsing import prompt_messages
from charter.ground.text.privacy import scrub

LONGEST = 2**20  # characters of a finding's texts
LINE = 1_000  # characters of its names
# who a finding comes from; what its finder lets us do; report types of the AI Vulnerability Database (AVID)
Source = Literal["vendor", "crowd", "researcher", "bounty", "user", "internal"]
Use = Literal["evaluation", "training", "publication"]
ReportType = Literal["Issue", "Advisory", "Measurement", "Detection"]
_SHA256 = r"^[0-9a-f]{64}$"


def parse_day(text: str) -> str:
    """The day. Raises ValueError for another text than YYYY-MM-DD."""
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a day; write it as 2026-11-30")


Day = Annotated[str, AfterValidator(parse_day)]
Line = Annotated[str, Field(max_length=LINE)]
Name = Annotated[str, Field(min_length=1, max_length=LINE)]
Severity = Annotated[int, Field(strict=True, ge=0, le=4)]
Digest = Annotated[str, Field(pattern=_SHA256)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Finding(Frozen):
    """One finding, as it is kept. `transcript`: the whole conversation."""

    id: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$", description="empty: of its words")
    transcript: tuple[dict[str, str], ...]
    task_description: str
    rating: Number | None = Field(None, ge=0, le=4, description="success, as the attacker saw it")
    tags: tuple[Line, ...] | None = None
    model_type: Line = ""
    num_params: Line | Number | None = None
    min_harmlessness_score_transcript: Number | None = None
    task_description_harmlessness_score: Number | None = None
    is_upworker: bool | None = None
    source: Source
    vendor: Name
    platform: Line = ""
    licence: Name
    collected_at: Day
    consent: tuple[Use, ...] = Field(description="uses that the finder allows")
    attacker_id_hash: Digest | None = None
    model_id: Name
    claimed_severity: Severity | None = None
    attachments_sha256: tuple[Digest, ...] = ()
    report_type: ReportType
    embargo_until: Day | None = None
    topic: Line = ""
    family: Line = Field("", description="kind of attack, such as persona")
    language: str = Field("", pattern=r"^([a-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$")

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript."""
        return cast("tuple[Message, ...]", self.transcript)

    @property
    def asked(self) -> str:
        """The user's turns, as near duplicates are compared."""
        return "\n".join(m["content"] for m in self.transcript if m["role"] == "user")

    @property
    def fingerprint(self) -> str:
        """Equal for the same words to and from the same model, up to case and blanks."""
        turns = [[m["role"], key_of(m["content"])] for m in self.transcript]
        return digest_text(canonical_json([self.model_id, turns]))[:32]

    @property
    def row(self) -> dict[str, Any]:
        """The JSON object that `Finding` reads back."""
        return self.model_dump(mode="json")


def read_findings(path: Path) -> tuple[list[tuple[str, Finding, Counter[str]]], list[str]]:
    """(place, finding, placeholders by kind) of each good row of a file, and an error naming file:line of each bad one.

    Raises CharterError if the file can't be read at all.
    """
    findings: list[tuple[str, Finding, Counter[str]]] = []
    faults: list[str] = []
    places: dict[str, str] = {}
    for number, row in numbered_rows(path, faults):
        place = f"{path}:{number}"
        try:
            finding, masked = finding_of_row(row)
            if (first := places.setdefault(finding.id, place)) != place:
                raise CharterError(f"the id {finding.id!r} stands at {first} already; ids must differ")
        except RecursionError:
            faults.append(f"{place}: its brackets stand too deep; a finding is one flat object")
        except CharterError as error:
            faults.append(f"{place}: {error}")
        else:
            findings.append((place, finding, masked))
    return findings, faults


def finding_of_row(row: Mapping[str, Any]) -> tuple[Finding, Counter[str]]:
    """A finding without personal data, and its placeholders by kind. Raises CharterError."""
    columns = dict(row)
    for text in _texts(columns):
        check_text(text, "a text")
    if (length := sum(map(len, _texts(columns)))) > LONGEST:
        raise CharterError(
            f"{length:,} characters, of which a finding may have {LONGEST:,}; keep the rest as a file and give its "
            "digest under attachments_sha256"
        )
    if "transcript" not in columns:
        raise CharterError("there is no transcript; give the messages, or text with \\n\\nHuman: turns")
    columns["transcript"] = check_user_turns(prompt_messages(columns["transcript"]))
    member = columns.pop("red_team_member_id", None)
    if member is not None and not columns.get("attacker_id_hash"):
        columns["attacker_id_hash"] = digest_text(canonical_json([columns.get("vendor"), member]))
    finding, masked = _mask(validate(Finding, columns, "a finding"))
    return (finding if finding.id else finding.model_copy(update={"id": finding.fingerprint[:16]})), masked


def _mask(finding: Finding) -> tuple[Finding, Counter[str]]:
    masked: Counter[str] = Counter()

    def clean(text: str) -> str:
        plain, counts = scrub(text)
        masked.update(counts)
        return plain

    turns = tuple({"role": m["role"], "content": clean(m["content"])} for m in finding.transcript)
    changed: dict[str, Any] = {"transcript": turns}
    for name in ("task_description", "model_type", "vendor", "platform", "licence", "topic", "family"):
        changed[name] = clean(getattr(finding, name))
    if finding.tags is not None:
        changed["tags"] = tuple(map(clean, finding.tags))
    return finding.model_copy(update=changed), masked


def _texts(value: object) -> Iterator[str]:
    """All texts of a JSON value at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield str(name)
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
