"""Settings and roles of the merge room."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES = {
    "start": Role(kind="checkpoint", variant="policy"),
    "policy": Role(kind="checkpoint", variant="policy"),
    "prompts": Role(kind="dialogues", rows="prompts", many=True),
    "harmless": Role(kind="dialogues", rows="prompts", many=True),
}


class Settings(Frozen):
    """Linear interpolation of two checkpoints' weights; the place on the line sets how readily the model refuses."""

    shares: tuple[Annotated[float, Field(ge=0, le=4)], ...] = Field(
        (0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6),
        min_length=1,
        description="shares of the policy to try: 0 is the start, 1 the policy, above 1 lies beyond it",
    )
    most_refusal: float = Field(0.04, ge=0, le=1, description="largest share of `harmless` that the product may refuse")
    max_tokens: int = Field(16, ge=1, description="longest reply; a refusal shows in its first words")
    chunk: int = Field(256, ge=1, description="prompts answered and saved together")


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled tokens/s of a 135M model on two cores; memory of two models and the place between."""
    parameters = sizes.parameters.get("policy")
    prompts = sizes.rows.get("prompts", 0) + sizes.rows.get("harmless", 0)
    if not parameters:
        return Estimate()
    sampled = 0.8 * settings.max_tokens * prompts * len(settings.shares)
    return Estimate(
        minutes=sampled / (250 * sizes.speed(parameters)) / 60,
        memory_gib=14 * parameters / 2**30,
        disk_gib=4 * parameters / 2**30,
    )


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="policy",
    estimate=estimate,
    method="an interpolation of weights",
    against_harm="How readily the model refuses was set by its weights, on harmless prompts with known labels.",
)
