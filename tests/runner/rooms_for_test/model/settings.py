"""A room that makes a policy, or with `rank` a preference model."""

from pydantic import BaseModel, ConfigDict

from charter.ground.settings.room import Role, Room

ROLES = {"dialogues": Role(kind="dialogues"), "base": Role(kind="checkpoint", variant="policy", required=False)}


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = 2
    lr: float = 1e-3


ROOM = Room(product="checkpoint", settings=Settings, roles=ROLES, variant="policy")
