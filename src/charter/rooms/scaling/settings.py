"""Settings and roles of the scaling room."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from charter.ground.measure.scaling import LEAST_SIZES
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Filled, Given, Role, Room, Sizes

ROLES = {"models": Role(kind="checkpoint", variant="policy", many=True)}


class Settings(Frozen):
    """The law by which held-out loss falls with compute, fitted to at least three sizes of one pretraining recipe."""

    stage: str = Field("ladder", description="name of these models in the report and the drawing")


def check(settings: Settings, roles: Filled) -> str:
    """Why no law can be fitted to these models, as known at planning, or ""."""
    models = roles.get("models", ())
    if len(models) < LEAST_SIZES:
        return f"a law of three numbers needs at least {LEAST_SIZES} sizes, and `models` names {len(models)}"
    return find_difference(models)


def find_difference(models: Sequence[Given]) -> str:
    """Which models were measured with different windows, or ""; a longer context lowers loss."""
    first, *others = [model for model in models if model.context is not None] or [Given("")]
    for model in others:
        if model.context != first.context:
            return (
                f"{first.name} reads {first.context} tokens at once and {model.name} {model.context}, so their "
                "losses differ by more than their size; pretrain all with one `sizing.context`"
            )
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """A few thousand small fits."""
    return Estimate(minutes=0.3, memory_gib=0.5, disk_gib=0.01)


ROOM = Room(product="report", settings=Settings, roles=ROLES, variant="ladder", estimate=estimate, check=check)
