"""Settings of the reward: preference models, rules, and prices of refusing."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, field_validator, model_validator

from charter.ground.settings.frozen import Frozen
from charter.rooms.rl.prompts import HARMLESS


class Rules(Frozen):
    """Weights of plain rules in the reward; 0 leaves a rule out."""

    refusal: float = Field(
        0.0,
        ge=0,
        description="weight of the agreement of refusing or answering with the prompt's label, from -1 to 1",
    )
    cut: float = Field(0.0, ge=0, description="penalty of a reply cut at max_tokens")
    loop: float = Field(0.0, ge=0, description="penalty of a reply that repeats itself endlessly")
    length: float = Field(0.0, ge=0, description="penalty for each 100 tokens beyond length_over")
    length_over: int = Field(0, ge=0, description="tokens without penalty")
    answer: float = Field(
        0.0,
        ge=0,
        description="weight of a right answer to a prompt with meta.accepted; declined 0, wrong -t / (1 - t)",
    )
    target: float = Field(0.75, gt=0, lt=1, description="t of answer: the accuracy from which answering pays")

    @property
    def any(self) -> bool:
        """Whether any rule has a weight."""
        return any((self.refusal, self.cut, self.loop, self.length, self.answer))


class Steer(Frozen):
    """A price mu of refusing some prompts, moved each round until refusals reach the target."""

    source: str = Field(
        HARMLESS, min_length=1, description="harmless, prompts (the others), or the name of a source"
    )
    side: Literal["most", "least"] = Field(
        "most", description="whether the target is an upper or a lower bound of the share of refusals"
    )
    target: float = Field(0.06, ge=0, le=1, description="bound of the share of refusals")
    rate: float = Field(0.5, gt=0, description="change of mu in a round per unit of distance from the target")
    start: float = Field(0.0, ge=0, description="mu of the first round")


class Rewards(Frozen):
    """The reward of a reply before the KL penalty."""

    weights: tuple[NonNegativeFloat, ...] = Field(
        (), description="weight of each `reward` model; empty: equal"
    )
    join: Literal["mean", "min"] = Field(
        "mean", description="with several models, the weighted mean or the least score"
    )
    sources: dict[str, tuple[NonNegativeInt, ...]] = Field(
        {},
        description="by source, or harmless and prompts: indices (from 0) of the models that judge it; else all",
    )
    whiten: Literal["batch", "prompt", "none"] = Field(
        "batch",
        description="scale scores to mean 0, variance 1 over all rounds so far; prompt: deviations within prompts",
    )
    rules: Rules = Field(Rules(), description="weights of plain rules")
    steer: Annotated[tuple[Steer, ...], Field(max_length=8)] = Field(
        (), description="prices of refusing, or of not refusing, that bound shares of refusals"
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
