"""A room that makes a report on a policy."""

from pydantic import BaseModel, ConfigDict

from charter.ground.settings.room import Role, Room

ROLES = {
    "policy": Role(kind="assistant"),
    "grader": Role(kind="checkpoint", variant="preference", required=False),
    "red_team": Role(kind="dialogues", default="shipped:red_team.train"),
}


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str = "start"


ROOM = Room(product="report", settings=Settings, roles=ROLES)
