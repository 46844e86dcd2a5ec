"""Settings and roles of the honesty room."""

from __future__ import annotations

from pydantic import Field, model_validator

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="assistant"),
    "questions": Role(kind="questions", many=True, default="shipped:facts.train"),
    "declines": Role(kind="text", default="shipped:declines.train"),
}


class Settings(Frozen):
    """Lessons and comparisons from what a model knows, by its own answers to training questions."""

    k: int = Field(10, ge=1, description="answers sampled for each question")
    temperature: float = Field(1.0, gt=0, description="temperature of these samples")
    max_tokens: int = Field(32, ge=1, description="longest answer")
    known: float = Field(0.7, gt=0, le=1, description="least share of right answers to a question that is known")
    unknown: float = Field(0.1, ge=0, lt=1, description="most right answers to one that is not known")
    most_unknown: float = Field(0.5, ge=0, lt=1, description="most lessons that decline, as a share of all")
    twins: int = Field(1, ge=0, description="invented things asked about beside each real one")
    limit: int = Field(0, ge=0, description="most questions, drawn at random; 0 takes all")
    draw_seed: int = Field(0, ge=0, description="seed of draws and of invented names")
    chunk: int = Field(32, ge=1, description="questions sampled together and saved at once")

    @model_validator(mode="after")
    def _apart(self) -> Settings:
        if self.unknown >= self.known:
            raise ValueError(f"unknown ({self.unknown:g}) must be below known ({self.known:g})")
        return self


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled tokens/s of a 135M model on two cores; an answer ends at about half of max_tokens."""
    facts = sizes.rows.get("questions", 0)
    questions = (min(facts, settings.limit) if settings.limit else facts) * (1 + settings.twins)
    seconds = questions * settings.k * 0.5 * settings.max_tokens / (250 * sizes.speed(sizes.model("policy")))
    return Estimate(
        minutes=seconds / 60,
        memory_gib=10 * sizes.model("policy") / 2**30,
        disk_gib=0.01,
        rows=questions // 2,
        row_tokens=60,
    )


ROOM = Room(
    product="dialogues",
    settings=Settings,
    roles=ROLES,
    estimate=estimate,
    method="answers to what the model knows and declines to what it doesn't, by its own samples",
)
