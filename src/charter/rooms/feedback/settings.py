"""Settings and roles of the feedback room."""

from __future__ import annotations

from pydantic import Field, model_validator

from charter.ground.constitution.constitution import Use
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="assistant"),
    "labeller": Role(kind="labeller"),
    "prompts": Role(kind="dialogues", rows="prompts", many=True),
    "known": Role(kind="comparisons", many=True, required=False, default="shipped:hhh.heldout"),
    "constitution": Role(kind="constitution", default="shipped:constitution"),
    "shots": Role(kind="dialogues", rows="choices", default="shipped:comparison_shots"),
}


class Thought(Frozen):
    """Chain of thought before the label; its near-certain labels are clamped."""

    tokens: int = Field(64, ge=1, description="longest chain of thought")
    samples: int = Field(1, ge=1, description="chains averaged per label (the paper: 5 gain a little)")
    low: float = Field(0.40, ge=0, lt=0.5, description="labels are clamped to low .. 1 - low")


class Settings(Frozen):
    """AI feedback: two replies a prompt, comparison principles, soft labels from option probabilities."""

    limit: int = Field(0, ge=0, description="most prompts, drawn at random; 0 takes all")
    principle_set: Use = Field(
        "own", description="the set drawn from: the constitution's comparisons, or its product set"
    )
    principles: int = Field(1, ge=1, description="principles drawn per pair; their labels are averaged")
    shots: int = Field(2, ge=0, description="worked examples before each question, sharing one prefill")
    temperature: float = Field(1.0, gt=0, description="temperature of the two replies")
    max_tokens: int = Field(64, ge=1, description="longest reply")
    thought: Thought | None = Field(None, description="chain of thought; null: labels come from the options alone")
    votes: int = Field(8, ge=1, description="answers sampled per order if an engine can't score options")
    chunk: int = Field(32, ge=1, description="pairs made and saved together")
    known_limit: int = Field(
        80, ge=0, description="known pairs that test the labeller first, equally many of each set; 0: none"
    )
    chance_weight: float = Field(
        0.25, ge=0, le=1, description="loss weight of labels if the labeller can't be told from chance"
    )
    refuse_below: float = Field(0.0, ge=0, le=1, description="refuse a labeller with lower accuracy on known pairs")

    @model_validator(mode="after")
    def _check_known_limit(self) -> Settings:
        if self.refuse_below and not self.known_limit:
            raise ValueError("refuse_below needs known pairs: set known_limit above 0")
        return self


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled and 700 read tokens/s of a 135M model on two cores."""
    parameters, prompts = sizes.model("labeller"), sizes.rows.get("prompts", 0)
    count = min(prompts, settings.limit) if settings.limit else prompts
    if not count:
        return Estimate()
    scale = sizes.speed(parameters)
    sampled_tokens = count * 2 * settings.max_tokens * 0.8
    if settings.thought:
        sampled_tokens += count * 2 * settings.thought.tokens * settings.thought.samples
    read_tokens = (count * settings.principles + settings.known_limit) * 2 * 250
    minutes = (sampled_tokens / (250 * scale) + read_tokens / (700 * scale)) / 60
    row_tokens = sizes.mean_tokens("prompts") + 2 * 0.8 * settings.max_tokens
    return Estimate(minutes=minutes, memory_gib=10 * parameters / 2**30, disk_gib=0.01, row_tokens=row_tokens)


ROOM = Room(
    product="comparisons",
    settings=Settings,
    roles=ROLES,
    estimate=estimate,
    method="AI feedback under the same constitution",
    against_harm="Pairs of replies were labelled under principles of the same constitution.",
)
