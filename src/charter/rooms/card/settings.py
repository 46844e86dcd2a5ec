"""Settings and roles of the card room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field

from charter.ground.reports.signoff import Date, SignOff, check_topic, check_version
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes
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


def _required(subject: str) -> AfterValidator:
    """Refuses an empty list, with what to write."""

    def check(sentences: tuple[str, ...]) -> tuple[str, ...]:
        if not sentences:
            raise ValueError(f"is empty; write {subject}, a sentence each, or leave the setting out")
        return sentences

    return AfterValidator(check)


Sentence = Annotated[str, AfterValidator(check_free_text)]
Name = Annotated[str, AfterValidator(check_name)]


def _check_texts(sign_off: SignOff) -> SignOff:
    """A sign-off whose names and words state no figure. Raises ValueError if they do."""
    for name in (sign_off.subject, sign_off.name, sign_off.role, *sign_off.evidence):
        check_name(name)
    if sign_off.words:
        check_free_text(sign_off.words)
    return sign_off


class Examination(Frozen):
    """What somebody looked into, and found."""

    subject: Sentence = Field(description="what was looked into")
    by: Name = Field(min_length=1, description="who did")
    date: Date = Field(description="day of the conclusion, YYYY-MM-DD")
    conclusion: Sentence = Field(description="what they concluded")
    evidence: Name = Field("", description="artifact, file or address that holds the evidence")


class Oversight(Frozen):
    """Audits, topics that experts examined, and sign-offs."""

    audits: tuple[Examination, ...] = Field((), description="audits: subject, by, date, conclusion, evidence")
    topics: tuple[Examination, ...] = Field((), description="topics that experts examined, likewise")
    security: tuple[Annotated[SignOff, AfterValidator(check_topic), AfterValidator(_check_texts)], ...] = Field(
        (), description="topics of national security that a person signed, as `charter signoff` prints them"
    )
    signoffs: tuple[Annotated[SignOff, AfterValidator(check_version), AfterValidator(_check_texts)], ...] = Field(
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
        "", description="hub data set that holds the prompts; .eval_results must name one, and are written if it is set"
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
