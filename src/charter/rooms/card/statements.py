"""What people say of the model: its uses and limits, audits, topics and sign-offs, with the numbers that they name.

What is absent is said too, and follows from the settings: a subject that no audit names was not audited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.release import LEAST_DIGITS
from charter.ground.moderation.limits import LIMITS
from charter.ground.reports.number import Number
from charter.ground.reports.signoff import SIGNOFF, SignOff, read_topics, rests_on, without_numbers
from charter.rooms.card.free_text import parts_of
from charter.rooms.card.gather import Run
from charter.rooms.card.settings import Examination, Settings

# A sentence, cut at the numbers that it names.
Parts = tuple[str | Number, ...]
STATEMENTS = ("intended_use", "unintended_use", "limitations")
# What the Claude 2 card reports an audit on (section 2), and words of a subject that tell it.
SECURITY, AUTONOMY = "national security", "autonomous replication"
SUBJECTS = {SECURITY: ("national", "security"), AUTONOMY: ("autonom",)}


@dataclass(frozen=True, slots=True)
class Examined:
    """An audit or a topic as it is printed."""

    subject: Parts
    by: str
    date: str
    conclusion: Parts
    evidence: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A sign-off as it is printed."""

    name: str
    role: str
    date: str
    decision: str
    words: Parts


@dataclass(frozen=True, slots=True)
class Audits:
    """Audits, topics and sign-offs; `absent` says which were not made, `missing` are the subjects of `SUBJECTS` that no
    audit names and no report measures, `unsigned` the topics of national security that were evaluated and that no
    person signed."""

    audits: tuple[Examined, ...]
    topics: tuple[Examined, ...]
    signoffs: tuple[Signed, ...]
    missing: tuple[str, ...]
    security: tuple[Examined, ...] = ()
    unsigned: tuple[str, ...] = ()

    @property
    def absent(self) -> str:
        """What was not made, in sentences; empty if nothing is missing."""
        words = [f"No audit of {' or of '.join(self.missing)} was made."] if self.missing else []
        if self.unsigned:
            topics = ", ".join(topic.replace("_", " ") for topic in self.unsigned)
            words.append(f"No person signed the topics of national security: {topics}.")
        if not self.topics:
            words.append("No topic was examined by outside experts.")
        if not self.signoffs:
            words.append("Nobody signed this version off.")
        return " ".join(words)


def statements(settings: Settings, run: Run) -> dict[str, tuple[Parts, ...]]:
    """Intended use, unintended use and limitations with their numbers. Raises CharterError for an unknown key."""
    return {name: tuple(resolve(run, text, name) for text in getattr(settings, name)) for name in STATEMENTS}


def audits(settings: Settings, run: Run) -> Audits:
    """What was examined and signed off. Raises CharterError for an unknown key."""
    signed = settings.oversight.security
    reports = [r for r in (run.final, *run.final.beside) if (r.path / SIGNOFF).is_file()]
    # topic -> id of the report of the final stage that asks for a signature, and the column without a number
    asked = {t: r.manifest.id for r in reports for t in read_topics(r.path / SIGNOFF)}
    lacking = {t: c for r in reports for t, c in without_numbers(r.path / SIGNOFF).items()}
    for one in signed:
        if one.subject not in asked:
            raise CharterError(
                f"oversight.security signs {one.subject!r}, which no report of the final stage evaluated by "
                "`security`; leave it out"
            )
        report = asked[one.subject]
        if not rests_on(one, report):
            raise CharterError(
                f"oversight.security: the basis of {one.subject} names other reports than "
                f"{report[:LEAST_DIGITS]}, which this card shows; sign that one with charter signoff"
            )
        if column := lacking.get(one.subject):
            raise CharterError(
                f"oversight.security: {one.subject} can't be signed without numbers: its {column} is empty; "
                "evaluate it first"
            )
    known = {*([SECURITY] if asked else []), *([AUTONOMY] if run.audits else [])}
    told = [audit.subject.casefold() for audit in settings.oversight.audits]
    return Audits(
        tuple(_examined(run, entry, "audits") for entry in settings.oversight.audits),
        tuple(_examined(run, entry, "topics") for entry in settings.oversight.topics),
        tuple(
            Signed(one.name, one.role, one.date, one.decision, resolve(run, one.words, "signoffs"))
            for one in settings.oversight.signoffs
        ),
        tuple(
            subject
            for subject, words in SUBJECTS.items()
            if subject not in known and not any(all(word in one for word in words) for one in told)
        ),
        tuple(_signed_topic(one) for one in signed),
        tuple(topic for topic in asked if topic not in {one.subject for one in signed}),
    )


def _signed_topic(one: SignOff) -> Examined:
    words = one.decision + (f"; dissent: {one.words}" if one.words else "")
    return Examined(
        (one.subject.replace("_", " "),), f"{one.name} ({one.role})", one.date, (words,), ", ".join(one.evidence)
    )


def _examined(run: Run, entry: Examination, setting: str) -> Examined:
    subject, conclusion = (resolve(run, text, setting) for text in (entry.subject, entry.conclusion))
    return Examined(subject, entry.by, entry.date, conclusion, entry.evidence)


def resolve(run: Run, text: str, setting: str) -> Parts:
    """A free text with the numbers that it names. Raises CharterError for a key that the run doesn't have."""
    return tuple(_find(run, piece, setting) if is_key else piece for piece, is_key in parts_of(text))


def _find(run: Run, key: str, setting: str) -> Number:
    """The number {STEP/NAME} of an artifact, or {NAME} of the final stage."""
    known: dict[str, Number] = dict(run.final.numbers)
    if "/" in key:
        artifacts = (*run.lineage, *run.stages, *(other for stage in run.stages for other in stage.beside))
        known = {number.key: number for artifact in artifacts for number in artifact.own.values()}
    if key in known:
        return known[key]
    near = get_close_matches(key, known, n=1)
    hint = f"did you mean {{{near[0]}}}?" if near else "card.json lists the keys of an earlier card"
    raise CharterError(f"{setting} names the number {{{key}}}, which this run doesn't have; {hint}")


def record(told: Mapping[str, Sequence[Parts]], examined: Audits) -> dict[str, Any]:
    """The entry of card.json: each sentence as written, and the keys of its numbers."""

    def entry(parts: Parts) -> dict[str, Any]:
        keys = [part.key for part in parts if isinstance(part, Number)]
        words = "".join(f"{{{part.key}}}" if isinstance(part, Number) else part for part in parts)
        return {"text": words, "numbers": keys}

    def row(examination: Examined) -> dict[str, Any]:
        return {
            "subject": entry(examination.subject)["text"],
            "by": examination.by,
            "date": examination.date,
            "conclusion": entry(examination.conclusion),
            "evidence": examination.evidence,
        }

    return {name: [entry(parts) for parts in told[name]] for name in STATEMENTS} | {
        "limits": [limit.id for limit in LIMITS],
        "audits": [row(one) for one in examined.audits],
        "topics": [row(one) for one in examined.topics],
        "signoffs": [
            {"name": s.name, "role": s.role, "date": s.date, "decision": s.decision, "words": entry(s.words)["text"]}
            for s in examined.signoffs
        ],
        "not_made": list(examined.missing)
        + [f"security: {topic}" for topic in examined.unsigned]
        + [name for name, rows in (("topics", examined.topics), ("signoffs", examined.signoffs)) if not rows],
    }
