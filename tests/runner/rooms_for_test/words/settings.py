"""A room that makes dialogues out of prompts."""

from pydantic import BaseModel, ConfigDict, Field

from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES = {"prompts": Role(kind="dialogues", many=True), "constitution": Role(kind="constitution", required=False)}


class Noise(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    strength: float = Field(0.5, ge=0)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int = Field(6, ge=1)
    chunk: int = Field(2, ge=1)
    noise: Noise = Noise()


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    return Estimate(minutes=float(sizes.rows["prompts"]), memory_gib=0.5, disk_gib=0.01)


ROOM = Room(product="dialogues", settings=Settings, roles=ROLES, estimate=estimate)
