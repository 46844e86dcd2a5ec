"""Settings and roles of the rating room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Moved
from charter.ground.settings.room import LEARNT, Estimate, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "ratings": Role(kind="dialogues", rows="rated", many=True, default="shipped:ratings.train", also="comparisons"),
}


class Settings(Moved):
    """A rater: the harm of a conversation's last reply from 0 to 4, learnt by squared error."""

    epochs: int = Field(3, ge=1, description="passes over the conversations")
    batch: int = Field(8, ge=1, description="conversations per optimizer step; those with one prompt stay together")
    microbatch_tokens: int = Field(2048, ge=64, description="most tokens in one forward pass; bounds memory")
    context: int = Field(1024, ge=16, description="most tokens of a conversation; longer ones lose their beginning")
    lr: float = Field(5e-5, gt=0, description="peak learning rate")
    head_lr: float = Field(1e-3, gt=0, description="learning rate of the score head")
    warmup: int = Field(4, ge=0, description="optimizer steps of linear warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    heldout_share: float = Field(
        0.25, gt=0, lt=1, description="share of first user turns held out, with all their conversations"
    )
    limit: int = Field(0, ge=0, description="most conversations of each input, drawn at random; 0 takes all")
    save_every: int = Field(0, ge=0, description="steps between resume states; 0 saves every three minutes")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at the measured training rate of two cores, 90 tokens a conversation; memory of full AdamW."""
    parameters = sizes.parameters.get("policy")
    counts = sizes.each.get("ratings", ())
    conversations = sum(min(n, settings.limit) if settings.limit else n for n in counts)
    if not parameters or not conversations:
        return Estimate()
    rate = LEARNT * sizes.speed(parameters) / sizes.training_share(settings.frozen_layers)
    return Estimate(
        minutes=settings.epochs * conversations * (1 - settings.heldout_share) * 90 / rate / 60,
        memory_gib=(16 * parameters + 4 * 3000 * settings.microbatch_tokens * 30) / 2**30,
        disk_gib=4 * parameters / 2**30,
    )


ROOM = Room(product="checkpoint", settings=Settings, roles=ROLES, variant="rating", estimate=estimate, learns=True)
