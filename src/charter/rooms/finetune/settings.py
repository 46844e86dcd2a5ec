"""Settings and roles of the finetune room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen, Training
from charter.ground.settings.room import LEARNT, Estimate, Filled, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "dialogues": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "transcripts": Role(kind="dialogues", rows="transcripts", many=True, required=False),
    "comparisons": Role(kind="comparisons", many=True, required=False),
    "principles": Role(kind="questions", many=True, required=False),
    "anchor": Role(kind="dialogues", many=True, required=False),
    "constitution": Role(kind="constitution", default="shipped:constitution"),
}

Passes = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# in the order of the mixture
ROLES_OF_ROWS = ("dialogues", "transcripts", "comparisons", "principles", "anchor")


class Lessons(Frozen):
    """How transcripts and comparisons become dialogues that teach the trade of critic, reviser and labeller."""

    choices_per_comparison: int = Field(2, ge=0, description="2: a choice lesson in each order; 0: none")
    critique_shots: int = Field(0, ge=0, description="worked examples before each critique lesson")
    choice_shots: int = Field(0, ge=0, description="worked examples before each choice lesson")


class Anchors(Frozen):
    """How far beyond the prompts of `anchor` the model is held to its start."""

    begun: int = Field(
        0,
        ge=0,
        description="tokens from the start of a random learnt reply, appended to each prompt: so the model is held "
        "at the start of such a reply; 0: the prompt alone",
    )
    stress: int = Field(1, ge=1, description="how often the first token of a reply counts, and each appended token")


class Settings(Training):
    """Supervised finetuning on dialogues; only the assistant's tokens have a loss."""

    context: int = Field(1024, ge=16, description="most tokens in a dialogue; see `overlong`")
    overlong: Literal["refuse", "drop"] = Field("refuse", description="what to do with dialogues over the context")
    mixture: tuple[Passes, ...] = Field((), description="passes over each input in an epoch; empty: 1 each")
    weights: tuple[Passes, ...] = Field(
        (), description="loss weight of a token of each input; empty: 1 each. Lower on refusals: fewer needless ones"
    )
    limit: int = Field(0, ge=0, description="most rows of each `dialogues` input, drawn at random; 0 takes all")
    anchors: Anchors = Field(Anchors(), description="how prompts of `anchor` hold the model")
    lessons: Lessons = Field(Lessons(), description="lessons made of transcripts and comparisons")
    template: Literal["own", "claude-2023"] = Field("own", description="chat template of the finetuned model")


def miscounted(name: str, numbers: Sequence[float], sources: int) -> str:
    """How numbers that go with the sources don't; "" if there are none, or one for each source."""
    if not numbers or len(numbers) == sources:
        return ""
    return (
        f"{name} has {len(numbers)} numbers for {sources} sources (inputs in the order {', '.join(ROLES_OF_ROWS)}); "
        "give one number each or none, or write {source: NAME, share: NUMBER} in place of a source"
    )


def check(settings: Settings, filled: Filled) -> str:
    """What is wrong with the mixture and the weights of these sources; "" if nothing is."""
    sources = sum(len(filled.get(role, ())) for role in ROLES_OF_ROWS)
    checked = {"mixture": settings.mixture, "weights": settings.weights}
    return next(filter(None, (miscounted(name, numbers, sources) for name, numbers in checked.items())), "")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time from the known rows and their lengths, at the measured rate of two cores; memory of full AdamW."""
    parameters = sizes.parameters.get("policy")
    counts = [min(n, settings.limit) if settings.limit else n for n in sizes.each.get("dialogues", ())]
    counts += [3 * n for n in sizes.each.get("transcripts", ())]
    counts += [settings.lessons.choices_per_comparison * n for n in sizes.each.get("comparisons", ())]
    counts += [2 * n for n in sizes.each.get("principles", ())]
    counts += sizes.each.get("anchor", ())
    passes = settings.mixture if len(settings.mixture) == len(counts) else (1.0,) * len(counts)
    lengths = [n for role in ROLES_OF_ROWS for n in sizes.row_tokens(role)]
    tokens = sum(n * times * length for n, times, length in zip(counts, passes, lengths, strict=True))
    if not parameters or not tokens:
        return Estimate()
    rate = LEARNT * sizes.speed(parameters)
    return Estimate(
        minutes=settings.epochs * tokens * sizes.training_share(settings.frozen_layers) / rate / 60,
        memory_gib=(16 * parameters + 4 * 3000 * settings.microbatch_tokens * 30) / 2**30,
        disk_gib=4 * parameters / 2**30,
    )


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="policy",
    check=check,
    estimate=estimate,
    learns=True,
    method="supervised finetuning",
)
