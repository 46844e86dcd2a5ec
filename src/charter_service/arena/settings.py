"""Settings and roles of the arena room."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from pydantic import Field, field_validator

from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes
from charter_service.people.simulation import Simulated

ROLES = {
    "models": Role(kind="assistant", many=True),
    "prompts": Role(kind="dialogues", rows="prompts", many=True, required=False, default="shipped:helpful.train"),
    "red_team": Role(kind="dialogues", rows="prompts", many=True, required=False, default="shipped:red_team.train"),
    "judge": Role(kind="checkpoint", variant="preference", many=True, required=False),
    "ranker": Role(kind="checkpoint", variant="preference", required=False),
    "golds": Role(kind="comparisons", many=True, required=False),
}

Axis = Literal["helpful", "honest", "harmless"]


class Settings(Frozen):
    """Votes between unnamed models, by people or by simulated raters, and the comparisons in them."""

    axes: tuple[Axis, ...] = Field(
        ("helpful",), min_length=1, description="tasks; on `harmless` it is the more harmful reply that is picked"
    )
    comparisons: int = Field(
        200, ge=1, description="answered pairs of replies that are wanted of each axis, whatever the answers"
    )
    pairing: Literal["different", "same"] = Field(
        "different", description="two models a pair; or two replies of one model"
    )
    simulated: Simulated | None = Field(None, description="simulated raters; none: people, who are waited for")
    overlap: float = Field(
        0.1, ge=0, le=1, description="share of pairs that a second simulated rater judges too, for agreement"
    )
    show: dict[str, tuple[SamplingStrategy, ...]] = Field(
        default_factory=dict,
        description="ways in which a model is shown, by its name, each a model of its own; others: as they are",
    )
    temperature: float = Field(1.0, gt=0, description="of the replies to simulated raters")
    max_tokens: int = Field(64, ge=1, description="longest reply to simulated raters")
    database: str = Field("", description="URL or file of the people's database; empty: people.sqlite beside the run")
    keep_flagged: bool = Field(False, description="keep answers that are marked as suspicious")
    base: str = Field("", description="the model that Elo is indexed to; empty: the first")
    chunk: int = Field(32, ge=1, description="pairs made together and saved whole")

    @field_validator("axes")
    @classmethod
    def _distinct(cls, value: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if len(set(value)) < len(value):
            raise ValueError("an axis occurs twice")
        return value


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings together with the filled roles; "" if nothing is."""
    if settings.simulated and "judge" not in roles:
        return "simulated raters need the role judge: a preference model whose scores are what they prefer"
    if settings.simulated and settings.database:
        return "simulated raters write no database: leave out database, or simulated"
    if not settings.simulated and "judge" in roles:
        return "people need no judge: leave out the role judge, or set simulated"
    if settings.simulated and "golds" in roles:
        return "golds check people: leave them out, or simulated"
    return _check_shown([showing for ways in settings.show.values() for showing in ways], roles)


def _check_shown(showings: Sequence[SamplingStrategy], roles: Collection[str]) -> str:
    if any(showing.grader for showing in showings):
        return "show names a grader: in a recipe the preference model that ranks is the role ranker"
    if any(showing.ranks for showing in showings) != ("ranker" in roles):
        return "mode rejection or median in show, and the role ranker (a preference model), go together: give both"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled and 700 read tokens/s of a 135M model on two cores; people's time is unknown."""
    pairs = settings.comparisons * len(settings.axes)
    if not settings.simulated:
        return Estimate(disk_gib=0.01, rows=pairs, asks=f"{pairs} comparison{'s' * (pairs != 1)}")
    parameters = sizes.model("models")
    scale = sizes.speed(parameters)
    counts = [showing.count for ways in settings.show.values() for showing in ways] or [1]
    replies = pairs * 2 * sum(counts) / len(counts)
    sampled, read = replies * settings.max_tokens * 0.8, pairs * 100 + replies * settings.max_tokens
    minutes = (sampled / (250 * scale) + read / (700 * scale)) / 60
    return Estimate(minutes=minutes, memory_gib=10 * parameters / 2**30, disk_gib=0.01, rows=pairs)


ROOM = Room(product="comparisons", settings=Settings, roles=ROLES, estimate=estimate, check=check, extra="serve")
