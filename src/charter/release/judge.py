"""Judges whether a checkpoint may be released: each requirement is a row that says what met it and until when, or why
not.

The checkpoint is that of the last stage of a card. What the numbers rest on must be younger than the rules say, and
the limits of `gate` hold as they are.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import check_seals, run_of, seal_of
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.release import LEAST_DIGITS, SKEW, read_time
from charter.ground.artifact.store import read_manifest
from charter.ground.moderation.spelling import person_key
from charter.ground.reports.signoff import REFUSED, SignOff
from charter.ground.reports.stages import final_stage
from charter.release.checkpoint import Checkpoint, ancestors, find_checkpoint
from charter.release.gate import gate
from charter.release.rules import SECURITY, ReleaseRules, Row, names
from charter.release.sign_offs import Found, approve, card_signoffs, topics_signed

REPORTS, CARD, BASELINE, EVIDENCE = ROLES = ("reports", "card", "baseline", "evidence")


@dataclass(frozen=True)
class Request:
    """What a release is asked on: the card, the rules, people's sign-offs, facts on lists of findings, and folders of
    artifacts in other runs that sign-offs may rest on."""

    card: Path
    rules: ReleaseRules
    sign_offs: tuple[SignOff, ...] = ()
    findings: tuple[dict[str, Any], ...] = ()
    elsewhere: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The checkpoint, all requirements as rows, and the artifacts that they rest on, by role."""

    checkpoint: Checkpoint
    rows: list[Row]
    rests_on: dict[str, list[Found]] = field(default_factory=dict)

    @property
    def seal(self) -> str:
        """The seal of the card."""
        return seal_of(self.rests_on[CARD][0][0])

    @property
    def failed(self) -> list[Row]:
        """The requirements that are not met."""
        return [row for row in self.rows if row.why]


def find_card(place: Path) -> Path:
    """The card at a place, or the newest of a run. Raises CharterError if there is none, or if there are several."""
    inside = [path.parent for path in sorted(place.glob(f"*/{MANIFEST}"))]
    folders = [place] if (place / MANIFEST).is_file() else [f for f in inside if not f.name.startswith(".")]
    cards = {folder: m for folder in folders if (m := read_manifest(folder)).kind == CARD}
    older = {parent.id for manifest in cards.values() for parent in manifest.parents}
    newest = [folder for folder, manifest in cards.items() if manifest.id not in older]
    if not newest:
        raise CharterError(f"{place} has no card, and a release rests on one; run a step of the card room")
    if len(newest) > 1:
        raise CharterError(f"{place} has {len(newest)} cards; name one: {', '.join(map(str, newest))}")
    return newest[0]


def judge(request: Request, now: datetime.datetime, problems: Sequence[str] = ()) -> Verdict:
    """Judges all requirements at a time. `problems`: what `charter card verify` finds wrong. Raises CharterError if the
    card or its checkpoint can't be read, and for rules that make no sense."""
    rules = request.rules
    stage = final_stage(request.card)
    checkpoint = find_checkpoint((stage, *stage.beside))
    rests_on: dict[str, list[Found]] = {
        REPORTS: [(report.manifest, report.path) for report in (stage, *stage.beside)],
        CARD: [(read_manifest(request.card), request.card)],
        BASELINE: [],
        EVIDENCE: [],
    }
    if rules.baseline:
        before = final_stage(Path(rules.baseline))
        rests_on[BASELINE] = [(report.manifest, report.path) for report in (before, *before.beside)]
    verified = f"all evidence holds{', samples drawn again agree' if rules.deep else ''}"
    rows = [Row("verified", problem) for problem in problems] or [Row("verified", "", (verified,))]
    rows.append(_sealed(request.card, rules))
    rows += gate(request.card, rules)
    rows += [_age(*artifact, rules.days, now) for role in (REPORTS, CARD) for artifact in rests_on[role]]
    older = ancestors(checkpoint, rules) if any(rule.compute for rule in rules.sign_offs.values()) else ()
    artifacts = [*_artifacts(run_of(request.card)), *_artifacts_at(request.elsewhere)]
    for subject, rule in rules.sign_offs.items():
        sign_offs = [sign_off for sign_off in request.sign_offs if sign_off.subject.casefold() == subject.casefold()]
        approval = approve(rule, sign_offs, checkpoint.subject, rules.days, now, artifacts, older)
        rows.append(Row(subject, approval.why, (approval.words,), approval.expires))
        if rule.topics or names(subject, SECURITY):
            topics = topics_signed(rests_on[CARD][0][0], rests_on[REPORTS], rule.days or rules.days, now)
            rows.append(Row(f"{subject}: topics", *topics))
        rests_on[EVIDENCE] += [artifact for artifact in approval.rests_on if artifact not in rests_on[EVIDENCE]]
    rows += _refusals(rests_on[CARD][0][0])
    if rules.findings:
        rows.append(_closed(request.findings, rules.findings))
    return Verdict(checkpoint, rows, rests_on)


def _sealed(card: Path, rules: ReleaseRules) -> Row:
    """The row on what was changed together with its hashes: the seals that each step kept of its parents, and that of
    the card."""
    name, seal = "sealed", seal_of(read_manifest(card))
    changed, unsealed = check_seals(card)
    if changed:
        return Row(name, changed[0])
    if rules.seal is not None and not seal.startswith(rules.seal):
        return Row(
            name, f"the card has the seal {seal[:LEAST_DIGITS]}, not {rules.seal[:LEAST_DIGITS]}: it was changed"
        )
    if rules.deep:
        return Row(name, "", ("samples drawn again agree",))
    if rules.seal is not None and not unsealed:
        return Row(name, "", (f"all is as when the seal {rules.seal[:LEAST_DIGITS]} was noted",))
    if rules.sealed and unsealed:
        return Row(name, f"{unsealed[0]} is of an older charter, which kept no seals; make it again, or use --deep")
    if rules.sealed:
        return Row(name, "missing: give the seal that charter run printed with --seal, or use --deep")
    return Row(name, "", ("by hashes alone, which whoever may write the run can make anew: --seal or --deep",))


def _refusals(card: Manifest) -> Iterator[Row]:
    """A row for each person who, as the card itself says, refused this version and didn't approve it later."""
    latest = {
        person_key(sign_off.name): sign_off
        for sign_off in sorted(card_signoffs(card, "signoffs"), key=lambda sign_off: sign_off.date)
    }
    for sign_off in latest.values():
        if sign_off.decision == REFUSED:
            yield Row("oversight", f"the card says: refused by {sign_off.name} on {sign_off.date}")


def made_at(manifest: Manifest) -> datetime.datetime:
    """When an artifact was begun. Raises CharterError if its manifest doesn't say."""
    return read_time(manifest.timing.started)


def _age(manifest: Manifest, folder: Path, days: int, now: datetime.datetime) -> Row:
    """The row on how old a report or a card is."""
    name = f"age of {manifest.step}"
    try:
        began = made_at(manifest)
    except CharterError as error:
        return Row(name, f"its manifest has no date: {error}")
    end = began + datetime.timedelta(days=days)
    if began > now + SKEW:
        return Row(name, f"it was made at {manifest.timing.started}, which is still to come; check the clock")
    if now >= end:
        return Row(name, f"expired: made on {began.date()}, and {days} days are allowed; make it again")
    return Row(name, "", (f"made on {began.date()}",), end)


def _closed(findings: Sequence[dict[str, Any]], closed: Sequence[str]) -> Row:
    """The row on the findings of others, which must have one of these statuses."""
    by_status = [pair for listing in findings for pair in listing["by_status"].items()]
    still_open = [name for status, names in by_status if status not in closed for name in names]
    empty = next((str(listing["file"]) for listing in findings if not listing["rows"]), None)
    count = sum(int(listing["rows"]) for listing in findings)
    if not findings:
        return Row("findings", "missing: give their list with --findings FILE")
    if empty is not None:
        return Row("findings", f"{empty} has no row, which doesn't show that there are none; leave the rule out")
    if still_open:
        more = " ..." if len(still_open) > 5 else ""
        return Row(
            "findings", f"{len(still_open)} of {count} are not {' or '.join(closed)}: {', '.join(still_open[:5])}{more}"
        )
    return Row("findings", "", (f"all {count} {' or '.join(closed)}",))


def _artifacts(run: Path) -> Iterator[Found]:
    """The artifacts of a run directory that can be read."""
    yield from _artifacts_at(sorted(path.parent for path in run.glob(f"*/{MANIFEST}")))


def _artifacts_at(folders: Sequence[Path]) -> Iterator[Found]:
    for folder in folders:
        try:
            yield read_manifest(folder), folder
        except CharterError:
            # a sign-off that rests on it is refused: it is not here
            continue
