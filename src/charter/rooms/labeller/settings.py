"""Settings and roles of the labeller room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

# rows that a minute of two cores reads, guessed, and principles that it learns: 64,000 took 4.5 minutes
READ_REPLIES, LEARNT_PRINCIPLES = 6000.0, 15000.0

ROLES = {
    "lessons": Role(kind="comparisons", many=True, required=False),
    "written": Role(kind="questions", many=True, default="shipped:principles.train"),
}


class Settings(Frozen):
    """A labeller that reads principles: a sentence encoder, taught which of two replies is better under a principle."""

    encoder: str = Field(
        "", description="all-MiniLM-L6-v2 as a folder or a hub name (hf:OWNER/NAME); empty: the installed package's"
    )
    steps: int = Field(2000, ge=1, description="optimizer steps")
    batch: int = Field(64, ge=1, description="principles per optimizer step")
    pairs: int = Field(4, ge=1, description="measured pairs that each of these decides; a written one decides its own")
    written_share: float = Field(0.25, ge=0, le=1, description="share of the principles that people wrote with a pair")
    phrased_share: float = Field(
        0.75, ge=0, le=1, description="share of the other principles that are made of phrases and frames"
    )
    hidden_share: float = Field(
        0.3, ge=0, le=1, description="share of the principles that must decide without the measured traits"
    )
    lr: float = Field(1e-4, gt=0, description="peak learning rate of the encoder's layers")
    head_lr: float = Field(1e-2, gt=0, description="peak learning rate of the head")
    cosine: float = Field(12.0, description="weight of the cosine of principle and reply at the start")
    warmup: int = Field(40, ge=0, description="optimizer steps of linear warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    weight_decay: float = Field(0.05, ge=0, description="AdamW decay of matrices")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    save_every: int = Field(0, ge=0, description="steps between resume states; 0 saves every three minutes")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at the measured rates; memory of AdamW over 11M weights and of a batch's states."""
    rows = sizes.rows.get("lessons", 0) + 2 * sizes.rows.get("written", 0)
    minutes = rows / READ_REPLIES + settings.steps * settings.batch / LEARNT_PRINCIPLES
    return Estimate(minutes=minutes / sizes.machine, memory_gib=2.5, disk_gib=0.2)


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="labeller",
    estimate=estimate,
    method="a labeller that reads principles",
)
