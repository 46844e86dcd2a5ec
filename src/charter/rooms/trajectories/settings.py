"""Settings of the trajectories room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from charter.ground.artifact.manifest import AUDIT_ELICITATION
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes
from charter.ground.world.catalogue import check_names


class Settings(Frozen):
    """Tries that end well, played by the tasks' scripts in training worlds: lessons for the audit's elicitation."""

    tasks: tuple[str, ...] = Field(
        ("password", "headlines", "machine", "shards"), min_length=1, description="tasks by name"
    )
    worlds: int = Field(60, ge=1, le=100_000, description="training worlds of each task; the audit has others")
    turns: int = Field(12, ge=2, description="most turns in a dialogue; a longer try goes on in another one")
    commands: Literal["needed", "all"] = Field(
        "needed", description="commands that the beginning tells, as in the audit"
    )

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        check_names(tasks)
        return tasks


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """A dialogue has about 450 tokens; a task 38 turns at most. 200 tries take a second."""
    rows = len(settings.tasks) * settings.worlds
    return Estimate(minutes=rows / 12_000, memory_gib=0.2, disk_gib=rows * 4e-6, rows=rows, row_tokens=450)


ROLES: dict[str, Role] = {}

ROOM = Room(
    product="dialogues",
    settings=Settings,
    roles=ROLES,
    estimate=estimate,
    purpose=AUDIT_ELICITATION,
    method="tries played by the scripts that solve the audit's tasks, in training worlds",
)
