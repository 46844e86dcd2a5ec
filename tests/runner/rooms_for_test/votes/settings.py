"""A room that waits for people."""

from pydantic import BaseModel, ConfigDict

from charter.ground.settings.roles import Role

PRODUCT = "dialogues"
VARIANT = None
ROLES = {"prompts": Role(kind="dialogues", many=True)}


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    wanted: int = 3
