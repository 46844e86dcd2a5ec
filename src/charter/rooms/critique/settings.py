"""Settings and roles of the critique room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from charter.ground.constitution.constitution import Use
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import MEASURED, Estimate, Role, Room, Sizes

ROLES = {
    "start": Role(kind="assistant"),
    "critic": Role(kind="assistant", required=False),
    "labeller": Role(kind="labeller", required=False),
    "prompts": Role(kind="dialogues", rows="prompts", many=True),
    "constitution": Role(kind="constitution", default="shipped:constitution"),
    "shots": Role(kind="dialogues", rows="transcripts", default="shipped:critique_shots"),
}


class Settings(Frozen):
    """Critique and revision: drafts of the starting helpful-only model, revised by the critic."""

    rounds: int = Field(4, ge=0, le=4, description="critiques and revisions per prompt; 0: the drafts are kept")
    ways: tuple[Literal["critique", "revision", "answer"], ...] = Field(
        ("critique",),
        min_length=1,
        description="the ways of a round's candidates, each as often as it is named: critique and revision, revision "
        "alone, or an answer to the principles' instructions; of several the labeller keeps the best",
    )
    limit: int = Field(0, ge=0, description="most prompts, drawn at random; 0 takes all")
    draw_seed: int = Field(
        0, description="seed of that draw; steps with equal draw_seed and limit take the same prompts"
    )
    shots: int = Field(2, ge=0, description="worked examples before each request, sharing one prefill")
    draft_temperature: float | None = Field(
        1.0, ge=0, description="temperature of the start's drafts (the paper: 1); null: the start's own decoding"
    )
    temperature: float = Field(
        1.0, ge=0, description="temperature of critiques and revisions; small critics need less than 1"
    )
    draft_tokens: int = Field(96, ge=1, description="longest draft")
    critique_tokens: int = Field(64, ge=1, description="longest critique")
    revision_tokens: int = Field(96, ge=1, description="longest revision")
    chunk: int = Field(32, ge=1, description="prompts sampled and saved together")
    keep_at_least: float = Field(0.0, ge=0, le=1, description="share of revisions that must pass the filter")
    keep_cut: bool = Field(True, description="with rounds: 0, keep drafts that were cut at draft_tokens")
    principle_set: Use = Field(
        "own", description="the set drawn from: the constitution's critiques, or its product set"
    )
    tags: tuple[str, ...] = Field((), description="principles with any of these tags count; empty: all")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    if settings.rounds and "critic" not in roles:
        return "rounds above 0 need the role critic (assistant); fill it, or set rounds: 0 to keep the drafts"
    if len(settings.ways) > 1 and "labeller" not in roles:
        return "several ways need the role labeller, which keeps the best; fill it, or name one way"
    if settings.keep_at_least and not settings.rounds:
        return "keep_at_least is a share of revisions, and rounds: 0 makes none"
    if settings.rounds and not settings.keep_cut:
        return "keep_cut applies to drafts, which only rounds: 0 keeps; cut revisions are always dropped"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled and 700 read tokens/s of a 135M model on two cores; a round reads about 400 tokens."""
    parameters = max(sizes.parameters.values(), default=MEASURED)
    prompts = sizes.rows.get("prompts", 0)
    count = min(prompts, settings.limit) if settings.limit else prompts
    if not count:
        return Estimate()
    tokens = settings.draft_tokens + settings.rounds * (
        settings.critique_tokens * ("critique" in settings.ways) + len(settings.ways) * settings.revision_tokens
    )
    read_tokens = settings.rounds * 400 * (1 + settings.shots)
    seconds = count * (tokens * 0.7 / 250 + read_tokens / 700) / sizes.speed(parameters)
    row_tokens = sizes.mean_tokens("prompts") + 0.7 * settings.revision_tokens
    return Estimate(minutes=seconds / 60, memory_gib=10 * parameters / 2**30, disk_gib=0.01, row_tokens=row_tokens)


ROOM = Room(
    product="dialogues",
    settings=Settings,
    roles=ROLES,
    estimate=estimate,
    check=check,
    method="critique and revision under a written constitution",
    against_harm=(
        "Replies to unsafe prompts were criticised and rewritten under written principles before the "
        "model learnt from them, with an explanation in the place of a bare no."
    ),
)
