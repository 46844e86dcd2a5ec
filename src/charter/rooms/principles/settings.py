"""Settings and roles of the principles room."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="assistant"),
    "prompts": Role(kind="dialogues", rows="prompts", many=True),
    "wordings": Role(kind="questions", default="shipped:principle_wordings.train"),
}


class Settings(Frozen):
    """Pairs of replies under principles, with a known order: what a labeller learns to read principles from."""

    limit: int = Field(0, ge=0, description="most prompts, drawn at random; 0 takes all")
    plain: int = Field(2, ge=0, description="replies sampled to each prompt without a principle")
    guided: int = Field(2, ge=0, description="replies sampled under a drawn principle as the system text")
    temperature: float = Field(0.9, gt=0, description="temperature of the replies")
    max_tokens: int = Field(72, ge=1, description="longest reply")
    per_kind: int = Field(150, ge=0, description="most pairs of each kind of principle, each asked both ways")
    per_prompt: int = Field(2, ge=1, description="most pairs of one kind from one prompt")
    chunk: int = Field(48, ge=1, description="prompts sampled and saved together")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    if settings.plain + settings.guided < 2:
        return "plain + guided must be 2 or more: a pair takes two replies to one prompt"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled tokens/s of a 135M model on two cores."""
    prompts = sizes.rows.get("prompts", 0)
    count = min(prompts, settings.limit) if settings.limit else prompts
    if not count:
        return Estimate()
    parameters = sizes.model("policy")
    tokens = count * (settings.plain + settings.guided) * settings.max_tokens * 0.8
    minutes = tokens / (250 * sizes.speed(parameters)) / 60
    row_tokens = sizes.mean_tokens("prompts") + 2 * 0.8 * settings.max_tokens
    return Estimate(minutes=minutes, memory_gib=10 * parameters / 2**30, disk_gib=0.02, row_tokens=row_tokens)


ROOM = Room(product="comparisons", settings=Settings, roles=ROLES, estimate=estimate, check=check)
