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
    report_ids = {t: r.manifest.id for r in reports for t in read_topics(r.path / SIGNOFF)}
    lacking = {t: c for r in reports for t, c in without_numbers(r.path / SIGNOFF).items()}
    for sign_off in signed:
        if sign_off.subject not in report_ids:
            raise CharterError(
                f"oversight.security signs {sign_off.subject!r}, which no report of the final stage evaluated by "
                "`security`; leave it out"
            )
        report = report_ids[sign_off.subject]
        if not rests_on(sign_off, report):
            raise CharterError(
                f"oversight.security: the basis of {sign_off.subject} names other reports than "
                f"{report[:LEAST_DIGITS]}, which this card shows; sign that one with charter signoff"
            )
        if column := lacking.get(sign_off.subject):
            raise CharterError(
                f"oversight.security: {sign_off.subject} can't be signed without numbers: its {column} is empty; "
                "evaluate it first"
            )
    evaluated_subjects = {*([SECURITY] if report_ids else []), *([AUTONOMY] if run.audits else [])}
    subjects = [audit.subject.casefold() for audit in settings.oversight.audits]
    return Audits(
        tuple(_examined(run, entry, "audits") for entry in settings.oversight.audits),
        tuple(_examined(run, entry, "topics") for entry in settings.oversight.topics),
        tuple(
            Signed(
                sign_off.name, sign_off.role, sign_off.date, sign_off.decision, resolve(run, sign_off.words, "signoffs")
            )
            for sign_off in settings.oversight.signoffs
        ),
        tuple(
            subject
            for subject, words in SUBJECTS.items()
            if subject not in evaluated_subjects
            and not any(all(word in told_subject for word in words) for told_subject in subjects)
        ),
        tuple(_signed_topic(sign_off) for sign_off in signed),
        tuple(topic for topic in report_ids if topic not in {sign_off.subject for sign_off in signed}),
    )


def _signed_topic(sign_off: SignOff) -> Examined:
    words = sign_off.decision + (f"; dissent: {sign_off.words}" if sign_off.words else "")
    return Examined(
        (sign_off.subject.replace("_", " "),),
        f"{sign_off.name} ({sign_off.role})",
        sign_off.date,
        (words,),
        ", ".join(sign_off.evidence),
    )


def _examined(run: Run, entry: Examination, setting: str) -> Examined:
    subject, conclusion = (resolve(run, text, setting) for text in (entry.subject, entry.conclusion))
    return Examined(subject, entry.by, entry.date, conclusion, entry.evidence)


def resolve(run: Run, text: str, setting: str) -> Parts:
    """A free text with the numbers that it names. Raises CharterError for a key that the run doesn't have."""
    return tuple(_find(run, piece, setting) if is_key else piece for piece, is_key in parts_of(text))


def _find(run: Run, key: str, setting: str) -> Number:
    """The number {STEP/NAME} of an artifact, or {NAME} of the final stage."""
    numbers: dict[str, Number] = dict(run.final.numbers)
    if "/" in key:
        artifacts = (*run.lineage, *run.stages, *(other for stage in run.stages for other in stage.beside))
        numbers = {number.key: number for artifact in artifacts for number in artifact.own.values()}
    if key in numbers:
        return numbers[key]
    near = get_close_matches(key, numbers, n=1)
    hint = f"did you mean {{{near[0]}}}?" if near else "card.json lists the keys of an earlier card"
    raise CharterError(f"{setting} names the number {{{key}}}, which this run doesn't have; {hint}")


def record(statements: Mapping[str, Sequence[Parts]], examined: Audits) -> dict[str, Any]:
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

    return {name: [entry(parts) for parts in statements[name]] for name in STATEMENTS} | {
        "limits": [limit.id for limit in LIMITS],
        "audits": [row(audit) for audit in examined.audits],
        "topics": [row(topic) for topic in examined.topics],
        "signoffs": [
            {"name": s.name, "role": s.role, "date": s.date, "decision": s.decision, "words": entry(s.words)["text"]}
            for s in examined.signoffs
        ],
        "not_made": list(examined.missing)
        + [f"security: {topic}" for topic in examined.unsigned]
        + [name for name, rows in (("topics", examined.topics), ("signoffs", examined.signoffs)) if not rows],
    }
