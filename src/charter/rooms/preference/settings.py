"""Settings and roles of the preference room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field, NonNegativeFloat

from charter.ground.settings.frozen import Frozen, Moved
from charter.ground.settings.room import LEARNT, Estimate, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "comparisons": Role(kind="comparisons", many=True, also="dialogues"),
    "heldout": Role(kind="comparisons", many=True, required=False),
    "answered": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "refused": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "overrefused": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "transcripts": Role(kind="dialogues", rows="transcripts", many=True, required=False),
    "drafts": Role(kind="dialogues", rows="transcripts", many=True, required=False),
    "rated": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "fitness": Role(kind="triples", default="shipped:fitness.heldout"),
}


class Pairs(Frozen):
    """Which pairs are used for training; all splits are by first user turn, so no prompt is on both sides."""

    part: Literal["all", "first", "second"] = Field(
        "all", description="half of the prompts: a model of one half rewards, a model of the other grades"
    )
    heldout_share: float = Field(0.1, ge=0, lt=1, description="share held out if the role heldout is empty")
    limit: int = Field(0, ge=0, description="most pairs of each input, drawn at random; 0 takes all")
    weigh: Literal["pair", "prompt"] = Field(
        "pair", description="what counts equally in the loss: every pair, or every prompt whatever its number of pairs"
    )
    contrasts: int = Field(
        0, ge=0, description="most contrasts from each `answered` input, two per answer, drawn at random; 0 takes all"
    )
    ladder: bool = Field(True, description="teach the fixed reply's place between compliance and good refusals")
    refused_above_fixed: bool = Field(
        False, description="pair replies of `refused` that give a reason above the fixed reply, as `drafts` go below it"
    )


class Settings(Moved):
    """A preference model: one scalar on the last real token, trained on soft labels, axes blended by weight; or the
    average of several."""

    epochs: int = Field(1, ge=1, description="passes over the comparisons (the paper takes one)")
    batch: int = Field(8, ge=1, description="pairs per optimizer step")
    microbatch_tokens: int = Field(2048, ge=64, description="most tokens in one forward pass; bounds memory")
    context: int = Field(1024, ge=16, description="most tokens of prompt and reply; longer pairs lose old turns")
    lr: float = Field(2e-5, gt=0, description="peak learning rate")
    head_lr: float = Field(1e-4, gt=0, description="learning rate of the score head, which starts at 0")
    warmup: int = Field(20, ge=0, description="optimizer steps of linear warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    axis_weights: dict[str, NonNegativeFloat] = Field({}, description="loss weight of each axis; 1 if not named")
    pairs: Pairs = Field(Pairs(), description="training and held-out pairs")
    members: int = Field(
        1, ge=1, le=8, description="models trained one after another, each in another order; their weights are averaged"
    )
    evaluate_every: int = Field(0, ge=0, description="steps between points of the learning curve; 0: only the end")
    evaluate_pairs: int = Field(
        0, ge=0, description="held-out pairs measured for a point of that curve, the same each time; 0 takes all"
    )
    save_every: int = Field(0, ge=0, description="steps between resume states; 0 saves every three minutes")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    above_fixed = settings.pairs.refused_above_fixed
    # refusals are then compared with the fixed reply and need no answers
    placed = above_fixed or "drafts" in roles
    idle = ({"overrefused"} if placed else {"refused", "overrefused"}) & set(roles)
    if above_fixed and "refused" not in roles:
        return "pairs.refused_above_fixed puts refusals above the fixed reply: give the role refused, or leave it out"
    if idle and "answered" not in roles:
        return f"{' and '.join(sorted(idle))} give refusals to compare with answers: give the role answered too"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at the measured training rate of two cores; memory of full AdamW."""
    parameters = sizes.parameters.get("policy")
    # the other sources share `limit`
    most = {"answered": settings.pairs.contrasts}
    sources = ["comparisons", "answered", "transcripts", "drafts", "rated"]
    tokens = sum(
        (min(n, bound) if (bound := most.get(role) or settings.pairs.limit) else n) * length
        for role in sources + ["refused"] * settings.pairs.refused_above_fixed
        for n, length in zip(sizes.each.get(role, ()), sizes.row_tokens(role), strict=True)
    )
    if not parameters or not tokens:
        return Estimate()
    used_tokens = tokens * (1 if settings.pairs.part == "all" else 0.5)
    rate = LEARNT * sizes.speed(parameters)
    return Estimate(
        minutes=settings.members
        * settings.epochs
        * used_tokens
        * sizes.training_share(settings.frozen_layers)
        / rate
        / 60,
        memory_gib=(16 * parameters + 4 * 3000 * settings.microbatch_tokens * 30) / 2**30,
        # with several members: the product, the old and the new sum
        disk_gib=4 * parameters * (1 if settings.members == 1 else 3) / 2**30,
    )


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="preference",
    estimate=estimate,
    check=check,
    learns=True,
    method="a preference model",
    against_harm=(
        "Each preference model passed or failed a gate on held-out triples; if the recipe gives them "
        "needless refusals, they learnt to put answers above these."
    ),
)
