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
from charter.ground.artifact.seal import seal_of, seal_problem
from charter.ground.artifact.store import verify_files
from charter.ground.artifact.verdict import unfit_verdict
from charter.ground.moderation.persons import person_key
from charter.ground.text.judgments import SIMULATED, read_judgments
from charter.rooms.card.gather import JUDGMENTS
from charter.rooms.card.release_rules import AUDITED, SignOff, SignOffRule, day_of, names

Found = tuple[Manifest, Path]
# Where it is latest, a day begins 14 hours before UTC's.
EARLIEST = datetime.timedelta(hours=14)


@dataclass(frozen=True)
class Subject:
    """The checkpoint that is signed off: its id, the digest of its files, the ids of its ancestors and its own, and its
    seal ("" for one that no run made)."""

    id: str
    digest: str
    ancestry: frozenset[str]
    seal: str = ""


@dataclass(frozen=True)
class Older:
    """An ancestor of the checkpoint: how many times its compute the checkpoint has, or `why` that isn't known."""

    step: str
    subject: Subject
    times: float = 0.0
    why: str = ""

    def too_far(self, most: float) -> str:
        """Why a sign-off on it doesn't count for the checkpoint; "" if it does."""
        if self.why:
            return f"is of {self.step}, and how much compute lies between isn't known: {self.why}"
        if self.times > most:
            return f"is of {self.step}: this checkpoint has {self.times:.3g} times its compute, {most:g} are allowed"
        return ""


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
    ancestors: Sequence[Older] = (),
) -> Approval:
    """What sign-offs on one subject come to at a time; `artifacts`: those that may be named as evidence. `ancestors`:
    those that may be signed in the checkpoint's place, if the rule allows it."""
    latest: dict[str, SignOff] = {}
    reasons = []
    signed: dict[str, Subject] = {}
    for one in given:
        name = person_key(one.name)
        subject, far = _signed(one, rule, on, ancestors)
        if one.simulated:
            reasons.append(f"that of {one.name} is simulated")
        elif subject is None:
            reasons.append(f"that of {one.name} {far}")
        elif day_of(one.date) > now + EARLIEST:
            reasons.append(f"that of {one.name} is dated {one.date}, which is still to come")
        elif name not in latest or latest[name].date <= one.date:
            latest[name], signed[name] = one, subject
    if refusal := next((one for one in latest.values() if one.decision == "refused"), None):
        return Approval("", f"refused by {refusal.name} ({refusal.party}) on {refusal.date}")
    counted, rests_on, expires = [], [], []
    for one in latest.values():
        end = day_of(one.date) + datetime.timedelta(days=rule.days or days)
        evidence = _find(one.evidence, artifacts) if one.evidence else None
        why = (
            f"expired on {end.date()}"
            if now >= end
            else _unproven(one, rule, evidence, signed[person_key(one.name)])
        )
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
        len({person_key(one.name) for one in counted}), len({person_key(one.party) for one in counted})
    )
    if parties < rule.parties:
        asked = (
            f"{parties} of {rule.parties} named parties approved" if rule.parties > 1 else "nobody approved"
        )
        hint = "; ".join(reasons) or f"give a sign-off with of: {on.digest[:LEAST_DIGITS]}"
        return Approval("", f"{'missing: ' if not reasons else ''}{asked}; {hint}")
    words = ", ".join(f"{one.name} ({one.party}) {one.decision} on {one.date}" for one in counted)
    return Approval(words, "", min(expires), tuple(rests_on))


def _signed(
    one: SignOff, rule: SignOffRule, on: Subject, ancestors: Sequence[Older]
) -> tuple[Subject | None, str]:
    """(the checkpoint that a sign-off is of, "") or (None, why it doesn't count)."""
    if on.digest.startswith(one.of):
        return on, ""
    older = next((o for o in ancestors if o.subject.digest.startswith(one.of)), None)
    if rule.compute is None or older is None:
        return None, f"is of another checkpoint, {one.of[:LEAST_DIGITS]}"
    why = older.too_far(rule.compute)
    return (None, why) if why else (older.subject, "")


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
    if broken := seal_problem(folder):
        return f"rests on {manifest.step}: {broken}"
    if on.seal and any(m.id == on.id and seal_of(m) != on.seal for m, _ in behind):
        return f"rests on {manifest.step}, which was made from other bytes under the id of this checkpoint"
    if any(_simulated(m, f) for m, f in behind if m.id not in on.ancestry):
        return f"rests on {manifest.step}, where people were simulated"
    return ""


def _needs_verdict(one: SignOff, rule: SignOffRule) -> bool:
    return rule.verdict or names(one.subject, AUDITED)


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
