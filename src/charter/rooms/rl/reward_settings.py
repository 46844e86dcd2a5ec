"""Settings of what a reply earns: preference models, rules, and prices of refusing."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, field_validator, model_validator

from charter.ground.settings.frozen import Frozen
from charter.rooms.rl.prompts import HARMLESS


class Rules(Frozen):
    """Weights of what plain rules add to a reply's reward; 0 leaves a rule out."""

    refusal: float = Field(
        0.0, ge=0, description="agreement of refusing or answering with the prompt's label, from -1 to 1"
    )
    cut: float = Field(0.0, ge=0, description="taken off a reply cut at max_tokens")
    loop: float = Field(0.0, ge=0, description="taken off a reply that repeats itself without end")
    length: float = Field(0.0, ge=0, description="taken off for each 100 tokens beyond length_over")
    length_over: int = Field(0, ge=0, description="tokens that cost nothing")

    @property
    def any(self) -> bool:
        """Whether a rule counts."""
        return any((self.refusal, self.cut, self.loop, self.length))


class Steer(Frozen):
    """A price mu of refusing some prompts, moved each round until refusals stand at the target."""

    source: str = Field(
        HARMLESS, min_length=1, description="harmless, prompts (those that aren't), or the name of a source"
    )
    side: Literal["most", "least"] = Field(
        "most", description="the target is the most, or the least, share of refusals"
    )
    target: float = Field(0.06, ge=0, le=1, description="share of the replies that refuse")
    rate: float = Field(0.5, gt=0, description="how far mu moves a round, by a share that is off by 1")
    start: float = Field(0.0, ge=0, description="mu of the first round")


class Rewards(Frozen):
    """What a reply earns before the KL penalty."""

    weights: tuple[NonNegativeFloat, ...] = Field(
        (), description="weight of each `reward` model; none: all alike"
    )
    join: Literal["mean", "min"] = Field(
        "mean", description="of several models, the weighted mean or the least score"
    )
    sources: dict[str, tuple[NonNegativeInt, ...]] = Field(
        {},
        description="by source, or harmless and prompts: numbers (from 0) of the models that judge it; else all",
    )
    whiten: Literal["batch", "prompt", "none"] = Field(
        "batch",
        description="scale scores to mean 0, variance 1 over all rounds so far; prompt: deviations within prompts",
    )
    rules: Rules = Field(Rules(), description="what plain rules add")
    steer: Annotated[tuple[Steer, ...], Field(max_length=8)] = Field(
        (), description="prices of refusing, or of not refusing, that hold shares of refusals"
    )

    @field_validator("steer", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, dict | Steer) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.join == "min" and self.weights:
            raise ValueError("the least score has no weights; leave weights out, or set join to mean")
        sources = [steer.source for steer in self.steer]
        if len(set(sources)) < len(sources):
            raise ValueError(f"steer names {sources}; give each source one price")
        return self
