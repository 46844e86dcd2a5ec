"""Settings and roles of the judge room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Filled, Role, Room, Sizes

ROLES = {
    "judges": Role(kind="assistant", many=True),
    "reports": Role(kind="report", many=True, required=False),
    "pairs": Role(kind="questions", many=True, required=False),
    "shots": Role(kind="dialogues", rows="choices", default="shipped:comparison_shots"),
}

Axis = Literal["helpful", "harmless"]


class Settings(Frozen):
    """Votes of models on pairs of replies, each pair in both orders, and how far the judges can be trusted."""

    stage: str = Field("judges", description="name of these judges in the report")
    axes: tuple[Axis, ...] = Field(
        ("helpful", "harmless"), min_length=1, description="of the reports: which prompts' replies are compared"
    )
    limit: int = Field(0, ge=0, description="most pairs of each source, drawn at random; 0 takes all")
    draw_seed: int = Field(0, description="seed of that draw, and of sampled votes")
    checked: int = Field(
        200, ge=0, description="pairs that are also judged with the letters exchanged and by another wording; 0: none"
    )
    rubrics: dict[str, tuple[str, str]] = Field(
        {}, description="by axis, the question and the same in other words; others: the room's own"
    )
    shots: int = Field(0, ge=0, description="worked examples before each question")
    votes: int = Field(8, ge=1, description="answers sampled per order if a judge can't score options")
    chunk: int = Field(32, ge=1, description="pairs judged and saved together")


def check(settings: Settings, roles: Filled) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    if not roles.get("pairs") and len(roles.get("reports", ())) < 2:
        return "nothing to compare: give `pairs`, or two `reports` or more"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """A 135M judge on two cores reads 900 tokens/s; a pair has about 700 in each order."""
    pairs = sizes.rows.get("pairs", settings.limit or 200)
    pairs_asked = min(pairs, settings.limit) if settings.limit else pairs
    questions = 2 * (pairs_asked + 2 * min(settings.checked, pairs_asked))
    parameters = sizes.model("judges")
    minutes = questions * 700 / 900 / 60 / sizes.speed(parameters)
    return Estimate(minutes=minutes, memory_gib=14 * parameters / 2**30, disk_gib=0.01)


ROOM = Room(product="report", settings=Settings, roles=ROLES, variant="judge", estimate=estimate, check=check)
