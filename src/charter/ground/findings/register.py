"""Findings as the log tells them: how severe two reviewers call each, how far it has come, and on what evidence.

    new -> reproduced -> mitigated -> re-tested -> closed;  from any but closed also -> won't-fix
    re-tested, closed, won't-fix -> reproduced              it is back: a note says why

A mitigation names the artifact that was changed. A re-test names a report on a model made with it, in which this very
finding was asked again. Severity is 0 to 4: two reviewers give it without knowing each other's; if they differ, a third
does, and the middle one holds.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import SUPERSEDED, walk
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.findings.form import Finding, parse_day
from charter.ground.measure.agreement import Agreement, agreement
from charter.ground.settings.problems import suggest
from charter.ground.text.shingles import Near

SHORTEST = 8  # digits of an id that is cut
Status = Literal["new", "reproduced", "mitigated", "re-tested", "closed", "wont-fix"]
NEW, REPRODUCED, MITIGATED, RETESTED, CLOSED, WONT_FIX = STATUSES = (
    *("new", "reproduced", "mitigated", "re-tested", "closed", "wont-fix"),
)
NEXT: Mapping[str, tuple[str, ...]] = {
    NEW: (REPRODUCED, WONT_FIX),
    REPRODUCED: (MITIGATED, WONT_FIX),
    MITIGATED: (RETESTED, WONT_FIX),
    RETESTED: (CLOSED, REPRODUCED, WONT_FIX),
    CLOSED: (REPRODUCED,),
    WONT_FIX: (REPRODUCED,),
}
LEVELS = 5  # of severity: 0 none, 1 low, 2 medium, 3 high, 4 critical
REVIEWERS = 2
IMPORTED, REVIEWED, MOVED, EMBARGOED = "imported", "reviewed", "moved", "embargoed"
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """An artifact that was whole when it was named. Of a report: the artifacts that it rests on, and the finding's
    replies in it, `flagged` of `asked`."""

    id: str
    kind: str
    step: str
    room: str
    ancestors: tuple[str, ...] = ()
    flagged: int = 0
    asked: int = 0

    @property
    def row(self) -> dict[str, Any]:
        """The JSON object that `of_row` reads back."""
        return {
            "id": self.id,
            "kind": self.kind,
            "step": self.step,
            "room": self.room,
            "ancestors": list(self.ancestors),
            "flagged": self.flagged,
            "asked": self.asked,
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Evidence:
        """The evidence of a row. Raises TypeError for other columns."""
        return cls(**{**row, "ancestors": tuple(row["ancestors"])})


def find_evidence(place: str, runs: Path, finding: str) -> Evidence:
    """The finished artifact at a path, or of an id in a run below `runs`.

    Raises CharterError if there is none, if it isn't done or whole, if its id isn't that of its content, or if it isn't
    the only one that the id's beginning fits.
    """
    folder = Path(place) if (Path(place) / MANIFEST).is_file() else _by_id(place, runs)
    manifest = read_manifest(folder)
    if manifest.status != "done":
        raise CharterError(f"{folder} is {manifest.status}, not done; finish its run first")
    if manifest.derived_id != manifest.id:
        raise CharterError(f"{folder} has the id {manifest.id[:12]}, which isn't that of its content; make it again")
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} is damaged: {problems[0]}; make it again")
    facts = (manifest.id, manifest.kind, manifest.step, manifest.room)
    if manifest.kind != "report":
        return Evidence(*facts)
    ancestors = tuple(parent.id for parent, _ in walk(folder) if parent.id != manifest.id)
    return Evidence(*facts, ancestors, *_count(folder, finding))


def _by_id(place: str, runs: Path) -> Path:
    if len(place) < SHORTEST or not all(digit in "0123456789abcdef" for digit in place):
        raise CharterError(f"there is no artifact {place}; give its folder, or {SHORTEST} digits of its id or more")
    folders = [
        path.parent
        for pattern in (f"*/*/{MANIFEST}", f"*/{SUPERSEDED}/*/{MANIFEST}")
        for path in sorted(runs.glob(pattern))
        if read_manifest(path.parent).id.startswith(place)
    ]
    if len({read_manifest(folder).id for folder in folders}) != 1:
        raise CharterError(
            f"{len(folders) or 'no'} artifacts below {runs} have an id that begins with {place}; give the folder"
        )
    return folders[0]


def _count(folder: Path, finding: str) -> tuple[int, int]:
    """A finding's harmful replies and all its graded ones, in the rows of a report."""
    flags = [
        flag
        for path in sorted((folder / "samples").glob("*.jsonl"))
        for row in read_objects(path)
        if row.get("id") == finding and (flag := is_harmful(row)) is not None
    ]
    return sum(flags), len(flags)


def is_harmful(row: Mapping[str, Any]) -> bool | None:
    """Whether a reply of a report is harmful: its mark, else whether the grader scores it below the fixed reply; None
    if it was not graded."""
    if isinstance(row.get("harmful"), bool):
        return bool(row["harmful"])
    score, fixed = row.get("grader"), row.get("grader_fixed")
    if isinstance(score, int | float) and isinstance(fixed, int | float):
        return bool(score < fixed)
    return None


@dataclass(frozen=True, slots=True)
class Review:
    """A reviewer's severity."""

    by: str
    severity: int
    at: str


@dataclass(frozen=True, slots=True)
class Move:
    """A change of status: to what, by whom and when (UTC), on what evidence."""

    to: str
    by: str
    at: str
    note: str = ""
    evidence: Evidence | None = None


@dataclass(slots=True)
class Case:
    """A finding with all that was done about it. `near`: the known attack that it resembles. `masked`: placeholders of
    personal data by kind."""

    finding: Finding
    at: str
    by: str
    near: Near | None = None
    masked: Mapping[str, int] = field(default_factory=dict)
    embargo: str = ""
    reviews: list[Review] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The finding's id."""
        return self.finding.id

    @property
    def status(self) -> str:
        """How far it has come."""
        return self.moves[-1].to if self.moves else NEW

    @property
    def severity(self) -> int | None:
        """The severity that two reviewers agree on, or the middle one of three; None before."""
        severities = sorted(review.severity for review in self.reviews)
        if len(severities) > REVIEWERS:
            return severities[1]
        return severities[0] if len(severities) == REVIEWERS and severities[0] == severities[1] else None

    def is_embargoed(self, today: str) -> bool:
        """Whether it must not be published on that day; on the embargo's last day it may."""
        return today < self.embargo

    def last(self, to: str) -> Move | None:
        """The newest move to a status since the finding was last reproduced."""
        start = max((n for n, move in enumerate(self.moves) if move.to == REPRODUCED), default=0)
        return next((move for move in reversed(self.moves[start:]) if move.to == to), None)


class Register:
    """All findings by id, in the order of their import."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """Raises CharterError for an event that the rules don't allow, such as of a log that was written by hand."""
        self.cases: dict[str, Case] = {}
        for number, event in enumerate(events, 1):
            try:
                self.apply(event)
            except (CharterError, LookupError, TypeError, ValueError) as error:
                raise CharterError(f"event {number} of the log can't be: {error}; restore a copy") from None

    def case(self, id: str) -> Case:
        """The case of that id. Raises CharterError with the nearest id."""
        if id not in self.cases:
            raise CharterError(f"there is no finding {id}; {suggest(id, list(self.cases)[-20:])}")
        return self.cases[id]

    def apply(self, event: Event) -> Case:
        """Does what an event says. Raises CharterError if the rules don't allow it; then nothing changes."""
        kind, by, at = event["what"], check_name(event["by"]), str(event["at"])
        if kind == IMPORTED:
            return self._add(event, by, at)
        case = self.case(event["finding"])
        if kind == REVIEWED:
            check_review(case, by, event["severity"])
            case.reviews.append(Review(by, event["severity"], at))
        elif kind == MOVED:
            evidence = event.get("evidence")
            move = Move(event["to"], by, at, event.get("note", ""), Evidence.of_row(evidence) if evidence else None)
            check_move(case, move)
            case.moves.append(move)
        elif kind == EMBARGOED:
            case.embargo = parse_day(event["until"])
        else:
            raise CharterError(f"{kind!r} is nothing that can be done")
        return case

    def _add(self, event: Event, by: str, at: str) -> Case:
        finding = Finding.model_validate(event["finding"])
        if finding.id in self.cases:
            raise CharterError(f"the finding {finding.id} is there already")
        near = Near(*event["near"]) if event.get("near") else None
        case = Case(finding, at, by, near, event.get("masked") or {}, finding.embargo_until or "")
        self.cases[finding.id] = case
        return case


def check_name(name: str) -> str:
    """A person's name without blanks around it. Raises CharterError if it is empty, or no line."""
    plain = unicodedata.normalize("NFKC", name).strip()
    if not plain or len(plain) > 100 or not plain.isprintable():
        raise CharterError(f"{name[:100]!r} is no name; give one by --by, of at most 100 characters")
    return plain


def check_review(case: Case, by: str, severity: object) -> None:
    """Raises CharterError for a severity beside the scale, a reviewer's second one, and one too many."""
    if not isinstance(severity, int) or isinstance(severity, bool) or not 0 <= severity < LEVELS:
        raise CharterError(f"severity is {severity!r}, expected a whole number from 0 to {LEVELS - 1}")
    if any(review.by.casefold() == by.casefold() for review in case.reviews):
        raise CharterError(f"{by} has given {case.id} a severity already; another person must give the next")
    if case.severity is not None:
        raise CharterError(f"{case.id} has the severity {case.severity} already, by {len(case.reviews)} reviewers")


def check_move(case: Case, move: Move) -> None:
    """Raises CharterError for a move that isn't allowed from here, or lacks what it needs."""
    start, to, evidence = case.status, move.to, move.evidence
    if to not in STATUSES:
        raise CharterError(f"{to!r} is no status; {suggest(to, STATUSES)}")
    if to not in NEXT[start]:
        raise CharterError(f"{case.id} is {start}; from there it can become {' or '.join(NEXT[start])}, not {to}")
    back = to == REPRODUCED and start != NEW
    if (back or to == WONT_FIX) and not move.note.strip():
        raise CharterError(f"{case.id}: {start} to {to} needs a --note that says why")
    if to == MITIGATED and (evidence is None or evidence.kind in ("report", "card")):
        raise CharterError(f"{case.id}: mitigated needs --artifact, the checkpoint or data that was changed")
    if to == RETESTED:
        mitigation = case.last(MITIGATED)
        changed = mitigation.evidence.id if mitigation and mitigation.evidence else ""
        if evidence is None or evidence.kind != "report" or not evidence.asked:
            raise CharterError(f"{case.id}: re-tested needs --report, in which this finding was asked")
        if changed not in evidence.ancestors:
            raise CharterError(
                f"{case.id}: the report {evidence.id[:12]} is not on a model made with the mitigation {changed[:12]}"
            )
    if to == CLOSED:
        _check_closing(case, move)


def _check_closing(case: Case, move: Move) -> None:
    if case.severity is None:
        raise CharterError(f"{case.id}: closing needs a severity by {REVIEWERS} reviewers who agree, or three")
    retest = case.last(RETESTED)
    if retest and retest.evidence and retest.evidence.flagged and not move.note.strip():
        flagged, asked = retest.evidence.flagged, retest.evidence.asked
        raise CharterError(f"{case.id}: {flagged} of {asked} replies of the re-test were harmful; say why by --note")


def severity_agreement(cases: Iterable[Case]) -> Agreement | None:
    """Agreement of the first two reviewers of each finding, who didn't know of each other; None without such ones."""
    return agree_on([[review.severity for review in case.reviews] for case in cases])


def agree_on(ratings: Iterable[Sequence[int]]) -> Agreement | None:
    """Agreement of the first two severities of each finding."""
    pairs = (Counter(severities[:REVIEWERS]) for severities in ratings if len(severities) >= REVIEWERS)
    return agreement([[pair[level] for level in range(LEVELS)] for pair in pairs])
