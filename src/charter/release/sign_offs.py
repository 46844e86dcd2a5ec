"""Which sign-offs count: those of named people, on this checkpoint to the byte, that are not too old and, where the
rules ask for it, rest on an artifact that was made from the checkpoint."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import seal_of, seal_problem, walk
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.release import LEAST_DIGITS
from charter.ground.artifact.store import verify_files
from charter.ground.artifact.verdict import unfit_verdict
from charter.ground.moderation.spelling import person_key
from charter.ground.reports.signoff import (
    REFUSED,
    SIGNOFF,
    SignOff,
    check_basis,
    check_numbers,
    read_topic,
    read_topics,
    waiting,
)
from charter.ground.reports.stages import JUDGMENTS
from charter.ground.settings.problems import validate
from charter.ground.text.judgments import SIMULATED, read_judgments
from charter.release.rules import AUDITED, SignOffRule, day_of, names

Found = tuple[Manifest, Path]
# Where it is latest, a day begins 14 hours before UTC's.
EARLIEST = datetime.timedelta(hours=14)
UNFIT = ("inconclusive", "raised")
Outcome = tuple[str, tuple[str, ...], datetime.datetime | None]


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
    sign_offs: Iterable[SignOff],
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
    for sign_off in sign_offs:
        name = person_key(sign_off.name)
        subject, far = _signed(sign_off, rule, on, ancestors)
        if sign_off.simulated:
            reasons.append(f"that of {sign_off.name} is simulated")
        elif not person_key(sign_off.party):
            reasons.append(f"that of {sign_off.name} names no party")
        elif subject is None:
            reasons.append(f"that of {sign_off.name} {far}")
        elif day_of(sign_off.date) > now + EARLIEST:
            reasons.append(f"that of {sign_off.name} is dated {sign_off.date}, which is still to come")
        elif name not in latest or latest[name].date <= sign_off.date:
            latest[name], signed[name] = sign_off, subject
    if refusal := next((sign_off for sign_off in latest.values() if sign_off.decision == REFUSED), None):
        return Approval("", f"refused by {refusal.name} ({refusal.party}) on {refusal.date}")
    approvals, rests_on, expires = list[SignOff](), list[Found](), list[datetime.datetime]()
    for sign_off in latest.values():
        end = day_of(sign_off.date) + datetime.timedelta(days=rule.days or days)
        why, named, until = _evidence(sign_off, rule, signed[person_key(sign_off.name)], artifacts, now)
        why = f"expired on {end.date()}" if now >= end else why
        end = min(end, until or end)
        if why:
            reasons.append(f"that of {sign_off.name} {why}")
            continue
        approvals.append(sign_off)
        expires.append(end)
        rests_on += named
    parties = min(
        len({person_key(sign_off.name) for sign_off in approvals}),
        len({person_key(sign_off.party) for sign_off in approvals}),
    )
    if parties < rule.parties:
        approved = f"{parties} of {rule.parties} named parties approved" if rule.parties > 1 else "nobody approved"
        hint = "; ".join(reasons) or f"give a sign-off with of: {on.digest[:LEAST_DIGITS]}"
        return Approval("", f"{'missing: ' if not reasons else ''}{approved}; {hint}")
    words = ", ".join(
        f"{sign_off.name} ({sign_off.party}) {sign_off.decision} on {sign_off.date}" for sign_off in approvals
    )
    return Approval(words, "", min(expires), tuple(rests_on))


def _signed(
    sign_off: SignOff, rule: SignOffRule, on: Subject, ancestors: Sequence[Older]
) -> tuple[Subject | None, str]:
    """(the checkpoint that a sign-off is of, "") or (None, why it doesn't count)."""
    if sign_off.of is None:
        return None, "names no checkpoint"
    if on.digest.startswith(sign_off.of):
        return on, ""
    older = next((o for o in ancestors if o.subject.digest.startswith(sign_off.of)), None)
    if rule.compute is None or older is None:
        return None, f"is of another checkpoint, {sign_off.of[:LEAST_DIGITS]}"
    why = older.too_far(rule.compute)
    return (None, why) if why else (older.subject, "")


def _evidence(
    sign_off: SignOff, rule: SignOffRule, on: Subject, artifacts: Sequence[Found], now: datetime.datetime
) -> tuple[str, list[Found], datetime.datetime | None]:
    """Why a sign-off doesn't rest on what it must, "" if it does; the artifacts that it names; until when they hold."""
    verdict = rule.verdict or names(sign_off.subject, AUDITED)
    if not sign_off.evidence and verdict:
        return "names no closed verdict; charter audit verdict makes one", [], None
    if not sign_off.evidence:
        return "names no evidence" if rule.evidence else "", [], None
    named = list[Found]()
    for digits in sign_off.evidence:
        evidence = next((artifact for artifact in artifacts if artifact[0].id.startswith(digits)), None)
        if evidence is None:
            return (f"rests on {digits[:LEAST_DIGITS]}, which is not here: name its folder with --evidence", [], None)
        if why := _unproven(evidence, on):
            return why, [], None
        named.append(evidence)
    if not verdict:
        return "", named, None
    closed = [_unclosed(evidence, now) for evidence in named]
    ends = [until for why, until in closed if not why]
    return ("", named, max(ends)) if ends else (closed[0][0], [], None)


def _unproven(evidence: Found, on: Subject) -> str:
    """Why an artifact proves nothing of a checkpoint; "" if it does."""
    manifest, folder = evidence
    if manifest.status != "done" or verify_files(folder, manifest):
        return f"rests on {manifest.step}, which is unfinished or was changed"
    try:
        behind = walk(folder)
    except CharterError as error:
        return f"rests on {manifest.step}, whose ancestors are gone: {error}"
    made_of = {identity for m, _ in behind for ids in m.inputs.values() for identity in ids}
    if on.id not in made_of:
        return f"rests on {manifest.step}, which was not made from this checkpoint"
    if broken := seal_problem(folder):
        return f"rests on {manifest.step}: {broken}"
    if on.seal and any(m.id == on.id and seal_of(m) != on.seal for m, _ in behind):
        return f"rests on {manifest.step}, which was made from other bytes under the id of this checkpoint"
    if any(_simulated(m, f) for m, f in behind if m.id not in on.ancestry):
        return f"rests on {manifest.step}, where people were simulated"
    return ""


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


def topics_signed(
    card: Manifest, reports: Sequence[tuple[Manifest, Path]], days: int, now: datetime.datetime
) -> Outcome:
    """(why not, "" if all are signed; by whom; until when that counts). The card's setting `oversight.security` holds
    the signatures; `reports` are those of its final stage, of which one evaluated `security`."""
    asking = [report for report in reports if (report[1] / SIGNOFF).is_file()]
    if not asking:
        return "no report on the checkpoint evaluated `security`; evaluate it, then charter signoff", (), None
    try:
        signed = card_signoffs(card, "security")
        topics = [sign_off.subject for sign_off in signed]
        if twice := next((topic for topic in topics if topics.count(topic) > 1), None):
            raise CharterError(f"the card signs {twice} twice; sign each topic once")
        for manifest, folder in asking:
            _check_topics(signed, manifest, folder, now)
    except CharterError as error:
        return str(error), (), None
    ends = {sign_off: day_of(sign_off.date) + datetime.timedelta(days=days) for sign_off in signed}
    late = next((sign_off for sign_off, end in ends.items() if now >= end), None)
    if late is not None:
        return f"{late.subject}, signed by {late.name} on {late.date}, has expired", (), None
    people = ", ".join(dict.fromkeys(sign_off.name for sign_off in signed))
    return "", (f"{len(signed)} topics signed by {people}",), min(ends.values())


def card_signoffs(card: Manifest, kind: str) -> list[SignOff]:
    """The sign-offs in a card's settings, those on its version (`signoffs`) or on topics (`security`). Raises
    CharterError for a broken one."""
    oversight = card.resolved.get("oversight")
    rows = oversight.get(kind, []) if isinstance(oversight, dict) else []
    if kind == "security":
        return [sign_off for row in rows if (sign_off := read_topic(row, "the card")) is not None]
    return [validate(SignOff, row, "the card") for row in rows]


def _check_topics(signed: Sequence[SignOff], manifest: Manifest, folder: Path, now: datetime.datetime) -> None:
    """Raises CharterError unless every topic of a report is signed on it, by a person, as low and on numbers."""
    if problems := verify_files(folder, manifest):
        raise CharterError(f"the report {manifest.step} was changed: {problems[0]}")
    topics = list(read_topics(folder / SIGNOFF))
    on_report = [sign_off for sign_off in signed if sign_off.subject in topics]
    if awaited := waiting(on_report, topics):
        raise CharterError(
            f"nobody signed {', '.join(awaited)}: charter signoff prints the card's setting once people have"
        )
    check_basis(on_report, manifest, now.date(), "the card")
    check_numbers(on_report, folder, "the card")
    for sign_off in on_report:
        if sign_off.decision in UNFIT:
            raise CharterError(
                f"{sign_off.subject} is signed as {sign_off.decision} by {sign_off.name} on {sign_off.date}"
            )
