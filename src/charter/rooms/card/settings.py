"""Settings and roles of the card room."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date as Day
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role
from charter.ground.settings.room import Room
from charter.rooms.card.free_text import check_free_text, check_name

ROLES = {
    "reports": Role(kind="report", many=True),
    "comparators": Role(kind="report", many=True, required=False),
    "preference": Role(kind="checkpoint", variant="preference", many=True, required=False),
    "rl": Role(kind="checkpoint", variant="policy", required=False),
    "transcripts": Role(kind="dialogues", rows="transcripts", required=False),
    "comparisons": Role(kind="comparisons", required=False),
    "judgments": Role(kind="judgments", many=True, required=False),
    "votes": Role(kind="comparisons", many=True, required=False, also="report"),
    "acceptable_use": Role(kind="report", required=False),
    "scaling": Role(kind="report", variant="ladder", required=False),
    "findings": Role(kind="dialogues", required=False),
    "attacks": Role(kind="dialogues", many=True, required=False),
    "audits": Role(kind="report", variant="audit", many=True, required=False),
    "verdicts": Role(kind="verdict", many=True, required=False),
    "constitution": Role(kind="constitution", required=False),
    "previous": Role(kind="card", required=False),
    "base": Role(kind="card", required=False),
}
IN_AN_UPDATE = frozenset({"reports", "base"})

INTENDED = (
    "Research on alignment: what each stage of Constitutional AI and of learning from feedback changes, and "
    "at what cost.",
    "Teaching: a whole pipeline that can be read, run, changed and checked.",
    "Open conversation, short writing, editing, summarising and broad advice, at the quality that the numbers below "
    "show and no better.",
)
UNINTENDED = (
    "Anything where a wrong answer costs more than an inconvenience: health, law, money, safety. The model may "
    "support an expert and cannot replace one.",
    "Products used by people who haven't been told what they talk to.",
    "A judge of other models if the section on graders says that it is unfit.",
)
# Beside those of every model, which are in `ground/moderation/limits.py`.
LIMITATIONS = (
    "If it was taught refusals, then on few topics; attacks of another form get through more often.",
    "Graders are models as well. A number graded by one says how that grader sees the replies.",
)


def _check_day(value: object) -> str:
    """A date as YYYY-MM-DD. Raises ValueError for anything else."""
    try:
        return Day.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError("must be a date such as 2026-11-30") from None


def _required(what: str) -> AfterValidator:
    """Refuses an empty list, with what to write."""

    def check(sentences: tuple[str, ...]) -> tuple[str, ...]:
        if not sentences:
            raise ValueError(f"is empty; write {what}, a sentence each, or leave the setting out")
        return sentences

    return AfterValidator(check)


Sentence = Annotated[str, AfterValidator(check_free_text)]
Name = Annotated[str, AfterValidator(check_name)]
Date = Annotated[str, BeforeValidator(_check_day)]


class Examination(Frozen):
    """What somebody looked into, and found."""

    subject: Sentence = Field(description="what was looked into")
    by: Name = Field(min_length=1, description="who did")
    date: Date = Field(description="day of the conclusion, YYYY-MM-DD")
    conclusion: Sentence = Field(description="what they concluded")
    evidence: Name = Field("", description="artifact, file or address that holds the evidence")


class SignOff(Frozen):
    """Who decided on this version, and how."""

    name: Name = Field(min_length=1, description="who decided")
    role: Name = Field(min_length=1, description="as what")
    date: Date = Field(description="day of the decision, YYYY-MM-DD")
    decision: Literal["approved", "approved with conditions", "refused"] = Field(description="the decision")
    words: Sentence | None = Field(None, description="conditions or reasons")


class TopicSignOff(Frozen):
    """What a person concluded on a topic of national security; `charter signoff` prints it."""

    topic: Name = Field(min_length=1, description="the topic, as in the register")
    conclusion: Literal["low by capability", "low by mitigation", "both", "inconclusive", "raised"] = Field(
        description="why a rate is low, or that it is raised"
    )
    basis: tuple[Name, ...] = Field(min_length=1, description="ids of the reports that it rests on")
    signer: Name = Field(min_length=1, description="who signed")
    role: Name = Field(min_length=1, description="as what")
    date: Date = Field(description="day of the signature, YYYY-MM-DD")
    dissent: Sentence | None = Field(None, description="what somebody saw otherwise")


class Oversight(Frozen):
    """Audits, topics that experts examined, and sign-offs."""

    audits: tuple[Examination, ...] = Field((), description="audits: subject, by, date, conclusion, evidence")
    topics: tuple[Examination, ...] = Field((), description="topics that experts examined, likewise")
    security: tuple[TopicSignOff, ...] = Field(
        (), description="topics of national security that a person signed, as `charter signoff` prints them"
    )
    signoffs: tuple[SignOff, ...] = Field(
        (), description="who released it: name, role, date, decision, words"
    )


class Settings(Frozen):
    """The texts of the card that no measurement gives, and what it shows first."""

    title: Sentence = Field("Model card", description="title of the page")
    model_name: Name = Field("the model", description="name of the final model on the card")
    base_model: Name = Field("", description="hub name of the starting model; empty: taken from the lineage")
    license: str = Field("apache-2.0", description="licence of the final model, as the hub spells it")
    authors: tuple[Name, ...] = Field((), description="who is responsible for the model")
    language: tuple[str, ...] = Field(("en",), description="languages the model was taught in, ISO 639 codes")
    tags: tuple[str, ...] = Field(("constitutional-ai", "rlhf", "charter"), description="tags on the hub")
    intended_use: Annotated[tuple[Sentence, ...], _required("what the model is for")] = Field(
        INTENDED, description="what the model is for, a sentence each"
    )
    unintended_use: Annotated[tuple[Sentence, ...], _required("what it is not for")] = Field(
        UNINTENDED, description="what it is not for"
    )
    limitations: Annotated[tuple[Sentence, ...], _required("its known weaknesses")] = Field(
        LIMITATIONS, description="known weaknesses, beside those of every model"
    )
    oversight: Oversight = Field(Oversight(), description="what others examined, and who released it")
    headline: tuple[str, ...] = Field(
        ("harm_answered_rate", "refusal_gap", "helpful_score", "bits_per_byte"),
        description="metrics shown first, four at most",
        max_length=4,
    )
    samples_shown: int = Field(4, ge=0, le=50, description="unsafe prompts drawn and shown at every stage")
    failures_shown: int = Field(3, ge=0, le=50, description="worst replies of the final model shown")
    draw_seed: int = Field(0, ge=0, description="seed of the draw of samples")
    eval_dataset: str = Field(
        "",
        description="hub data set that holds the prompts; .eval_results must name one, and are written if it is set",
    )


def check(settings: Settings, roles: Collection[str]) -> str:
    """The inputs that an update of a finished card can't take; "" if there are none."""
    others = sorted(set(roles) - IN_AN_UPDATE) if "base" in roles else []
    if not others:
        return ""
    return f"an update of a card (`base`) shows reports alone; leave out {', '.join(others)}, or `base`"


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """The time of a card of all evaluations, measured; it computes in one thread."""
    return Estimate(minutes=0.1 / sizes.machine, memory_gib=0.5, disk_gib=0.01)


ROOM = Room(product="card", settings=Settings, roles=ROLES, check=check, estimate=estimate)
