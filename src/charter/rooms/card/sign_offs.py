"""Which sign-offs count: those of named people, on this checkpoint to the byte, that are not too old and, where the
rules ask for it, rest on an artifact that was made from the checkpoint."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import walk
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.release import LEAST_DIGITS
from charter.ground.artifact.store import verify_files
from charter.ground.artifact.verdict import unfit_verdict
from charter.ground.text.judgments import SIMULATED, read_judgments
from charter.rooms.card.gather import JUDGMENTS
from charter.rooms.card.release_rules import AUDITED, SignOff, SignOffRule, day_of

Found = tuple[Manifest, Path]
# Where it is latest, a day begins 14 hours before UTC's.
EARLIEST = datetime.timedelta(hours=14)


@dataclass(frozen=True)
class Subject:
    """The checkpoint that is signed off: its id, the digest of its files, and the ids of its ancestors and its own."""

    id: str
    digest: str
    ancestry: frozenset[str]


@dataclass(frozen=True)
class Approval:
    """What the sign-offs on one subject come to: who approved and until when that counts, or `why` not; `rests_on` are
    the artifacts that they name."""

    words: str
    why: str
    expires: datetime.datetime | None = None
    rests_on: tuple[Found, ...] = ()


def approve(
    rule: SignOffRule,
    given: Iterable[SignOff],
    on: Subject,
    days: int,
    now: datetime.datetime,
    artifacts: Sequence[Found],
) -> Approval:
    """What sign-offs on one subject come to at a time; `artifacts`: those that may be named as evidence."""
    latest: dict[str, SignOff] = {}
    reasons = []
    for one in given:
        name = one.name.casefold()
        if one.simulated:
            reasons.append(f"that of {one.name} is simulated")
        elif not on.digest.startswith(one.of):
            reasons.append(f"that of {one.name} is of another checkpoint, {one.of[:LEAST_DIGITS]}")
        elif day_of(one.date) > now + EARLIEST:
            reasons.append(f"that of {one.name} is dated {one.date}, which is still to come")
        elif name not in latest or latest[name].date <= one.date:
            latest[name] = one
    if refusal := next((one for one in latest.values() if one.decision == "refused"), None):
        return Approval("", f"refused by {refusal.name} ({refusal.party}) on {refusal.date}")
    counted, rests_on, expires = [], [], []
    for one in latest.values():
        end = day_of(one.date) + datetime.timedelta(days=rule.days or days)
        evidence = _find(one.evidence, artifacts) if one.evidence else None
        why = f"expired on {end.date()}" if now >= end else _unproven(one, rule, evidence, on)
        if not why and evidence is not None and _needs_verdict(one, rule):
            why, until = _unclosed(evidence, now)
            end = min(end, until)
        if why:
            reasons.append(f"that of {one.name} {why}")
            continue
        counted.append(one)
        expires.append(end)
        rests_on += [evidence] if evidence else []
    parties = min(
        len({one.name.casefold() for one in counted}), len({one.party.casefold() for one in counted})
    )
    if parties < rule.parties:
        asked = (
            f"{parties} of {rule.parties} named parties approved" if rule.parties > 1 else "nobody approved"
        )
        hint = "; ".join(reasons) or f"give a sign-off with of: {on.digest[:LEAST_DIGITS]}"
        return Approval("", f"{'missing: ' if not reasons else ''}{asked}; {hint}")
    words = ", ".join(f"{one.name} ({one.party}) {one.decision} on {one.date}" for one in counted)
    return Approval(words, "", min(expires), tuple(rests_on))


def _find(digits: str, artifacts: Sequence[Found]) -> Found | None:
    """The artifact whose id begins with these digits."""
    return next((one for one in artifacts if one[0].id.startswith(digits)), None)


def _unproven(one: SignOff, rule: SignOffRule, evidence: Found | None, on: Subject) -> str:
    """Why a sign-off doesn't rest on what it must; "" if it does."""
    if one.evidence is None:
        if _needs_verdict(one, rule):
            return "names no closed verdict; charter audit verdict makes one"
        return "names no evidence" if rule.evidence else ""
    if evidence is None:
        return f"rests on {one.evidence[:LEAST_DIGITS]}, which is not here: name its folder with --evidence"
    manifest, folder = evidence
    if manifest.status != "done" or verify_files(folder, manifest):
        return f"rests on {manifest.step}, which is unfinished or was changed"
    try:
        behind = walk(folder)
    except CharterError as error:
        return f"rests on {manifest.step}, whose ancestors are gone: {error}"
    made_of = {one for m, _ in behind for ids in m.inputs.values() for one in ids}
    if on.id not in made_of:
        return f"rests on {manifest.step}, which was not made from this checkpoint"
    if any(_simulated(m, f) for m, f in behind if m.id not in on.ancestry):
        return f"rests on {manifest.step}, where people were simulated"
    return ""


def _needs_verdict(one: SignOff, rule: SignOffRule) -> bool:
    return rule.verdict or AUDITED in one.subject.casefold()


def _unclosed(evidence: Found, now: datetime.datetime) -> tuple[str, datetime.datetime]:
    """Why an artifact is no closed verdict by which one may approve, "" if it is; and until when it holds."""
    manifest, folder = evidence
    if manifest.kind != "verdict":
        why = f"rests on {manifest.step}, a {manifest.kind}, not on a closed verdict; charter audit verdict makes one"
        return why, now
    try:
        why, until = unfit_verdict(folder, now)
    except CharterError as error:
        return f"rests on {manifest.step}: {error}", now
    return (f"rests on {manifest.step}, which {why}" if why else ""), until


def _simulated(manifest: Manifest, folder: Path) -> bool:
    """Whether an artifact holds verdicts of simulated people."""
    file = folder / JUDGMENTS
    rows = read_judgments(file) if manifest.kind == "judgments" and file.is_file() else []
    return bool(manifest.resolved.get("simulated")) or any(row.source == SIMULATED for row in rows)
