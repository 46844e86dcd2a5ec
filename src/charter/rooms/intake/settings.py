"""Settings and roles of the intake room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.findings.register import Status
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES = {"findings": Role(kind="questions")}


class Settings(Frozen):
    """Findings of outside red teams, frozen as prompts."""

    use: Literal["evaluation", "training"] = Field(
        "evaluation",
        description="the use, to which the finder must have consented; no model may learn from rows for an evaluation",
    )
    part: Literal["all", "train", "dev", "test"] = Field(
        "all", description="by a hash of the last user's turn, as the room prompts splits"
    )
    severity: int = Field(0, ge=0, le=4, description="least severity; above 0 only reviewed findings")
    status: tuple[Status, ...] = Field((), description="take these; empty: all")
    near: bool = Field(False, description="take near duplicates of known attacks and of earlier findings too")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Almost nothing: it only reads and writes rows."""
    return Estimate(disk_gib=0.001)


ROOM = Room(product="dialogues", settings=Settings, roles=ROLES, estimate=estimate)
