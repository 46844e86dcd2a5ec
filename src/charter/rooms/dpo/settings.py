"""Settings and roles of the dpo room."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from charter.ground.settings.frozen import Training
from charter.ground.settings.room import LEARNT, Estimate, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "comparisons": Role(kind="comparisons", many=True, required=False, also="dialogues"),
    "better": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "worse": Role(kind="dialogues", rows="lessons", many=True, required=False),
    "heldout": Role(kind="comparisons", many=True, required=False),
    "replay": Role(kind="dialogues", rows="lessons", many=True, required=False),
}

TOKENS_PER_PAIR = 150
TOKENS_PER_DIALOGUE = 110


class Settings(Training):
    """Direct preference optimisation on soft labels, held to the starting policy."""

    epochs: int = Field(1, ge=1, description="passes over the pairs")
    batch: int = Field(16, ge=1, description="pairs per optimizer step")
    context: int = Field(
        1024, ge=16, description="most tokens of prompt and reply; longer pairs are dropped and counted"
    )
    lr: float = Field(5e-6, gt=0, description="peak learning rate")
    beta: float = Field(
        0.1, gt=0, description="the reward of a reply is beta times its log ratio; low beta leaves more room"
    )
    nll: float = Field(
        0.0, ge=0, description="weight of the preferred reply's nats a token, added to the loss of its pair"
    )
    axes: tuple[str, ...] = Field((), description="axes of `comparisons` and `heldout` to use; empty: all")
    limit: int = Field(0, ge=0, description="most pairs of each `comparisons` input, drawn at random; 0 takes all")
    heldout_share: float = Field(0.1, ge=0, lt=1, description="share held out if the role heldout is empty")
    replay_batch: int = Field(4, ge=1, description="dialogues of `replay` in an optimizer step")
    replay_weight: float = Field(1.0, ge=0, description="weight of their nats a token, added to the loss of the pairs")
    evaluate_every: int = Field(0, ge=0, description="steps between points of the held-out curve; 0: only the end")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    single = {"better", "worse"} & set(roles)
    if len(single) == 1:
        return f"{single.pop()} is filled alone; pairs need both better and worse: give both roles"
    if not single and "comparisons" not in roles:
        return "there are no training pairs: give comparisons, or both better and worse"
    if "replay" in roles and not settings.replay_weight:
        return "the role replay is filled, but replay_weight: 0 learns nothing from it; leave the role out or raise it"
    if settings.evaluate_every and "heldout" not in roles and not settings.heldout_share:
        return "evaluate_every measures held-out pairs: give the role heldout, or a heldout_share above 0"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at the measured training rate of two cores, the reference's pass at a third of it; memory of AdamW."""
    parameters = sizes.parameters.get("policy")
    pairs = sum(min(n, settings.limit or n) for n in sizes.each.get("comparisons", ()))
    pairs += min(sizes.rows.get("better", 0), sizes.rows.get("worse", 0))
    if not parameters or not pairs:
        return Estimate()
    steps = settings.epochs * pairs / settings.batch
    replayed = steps * settings.replay_batch if sizes.rows.get("replay") else 0
    moved = sizes.training_share(settings.frozen_layers)
    tokens = pairs * TOKENS_PER_PAIR * (settings.epochs * moved + 1 / 3) + replayed * TOKENS_PER_DIALOGUE * moved
    copies = 4 if settings.lora else 16
    return Estimate(
        minutes=tokens / (LEARNT * sizes.speed(parameters)) / 60,
        memory_gib=(copies * parameters + 4 * 3000 * settings.microbatch_tokens * 30) / 2**30,
        disk_gib=4 * parameters / 2**30,
    )


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="policy",
    estimate=estimate,
    check=check,
    learns=True,
    method="direct preference optimisation",
    against_harm="The policy learnt which of two replies is better, held to its start by beta.",
)
