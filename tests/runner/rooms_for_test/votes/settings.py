"""A room that waits for people."""

from pydantic import BaseModel, ConfigDict

from charter.ground.settings.room import Role, Room

ROLES = {"prompts": Role(kind="dialogues", many=True)}


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    wanted: int = 3


ROOM = Room(product="dialogues", settings=Settings, roles=ROLES)
