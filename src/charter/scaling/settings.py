"""Settings and roles of the scaling room."""

from __future__ import annotations

from pydantic import Field

from charter.ground.artifact.kinds import Kind
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role

PRODUCT: Kind = "report"
VARIANT = None
ROLES = {"models": Role(kind="checkpoint", variant="policy", many=True)}


class Settings(Frozen):
    """The law by which held-out loss falls with compute, fitted to at least three sizes of one pretraining recipe."""

    stage: str = Field("ladder", description="what the report and the drawing call these models")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """A few thousand small fits."""
    return Estimate(minutes=0.3, memory_gib=0.5, disk_gib=0.01)
