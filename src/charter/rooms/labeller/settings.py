"""Settings and roles of the labeller room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

# rows that a minute of two cores learns from, measured
LEARNT_ROWS = 380.0

ROLES = {
    "lessons": Role(kind="comparisons", many=True, required=False),
    "written": Role(kind="questions", many=True, default="shipped:principles.train"),
}


class Settings(Frozen):
    """A labeller that reads principles: a sentence encoder, taught which of two replies is better under a principle."""

    encoder: str = Field(
        "", description="all-MiniLM-L6-v2 as a folder or a hub name (hf:OWNER/NAME); empty: the installed package's"
    )
    epochs: int = Field(1, ge=1, description="passes over the lessons")
    written_times: int = Field(2, ge=1, description="times that a pass takes each written pair")
    batch: int = Field(16, ge=1, description="pairs per optimizer step")
    lr: float = Field(1e-4, gt=0, description="peak learning rate of the encoder")
    head_lr: float = Field(3e-4, gt=0, description="peak learning rate of the head")
    rank: int = Field(128, ge=1, description="rank of the product of principle and reply")
    untaught: float = Field(
        12.0, ge=0, description="weight of the cosine that the encoder gave before it was taught; 0 leaves it out"
    )
    warmup: int = Field(20, ge=0, description="optimizer steps of linear warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="decay after the warm-up")
    weight_decay: float = Field(0.05, ge=0, description="AdamW decay of matrices")
    clip: float = Field(1.0, ge=0, description="largest gradient norm; 0 turns clipping off")
    save_every: int = Field(0, ge=0, description="steps between resume states; 0 saves every three minutes")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at the measured rate; memory of AdamW over 22M weights and of a batch's states."""
    rows = sizes.rows.get("lessons", 0) + settings.written_times * sizes.rows.get("written", 0)
    return Estimate(minutes=0.5 + settings.epochs * rows / LEARNT_ROWS / sizes.machine, memory_gib=2.5, disk_gib=0.1)


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="labeller",
    estimate=estimate,
    method="a labeller that reads principles",
)
