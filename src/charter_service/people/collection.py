"""The work for people: tasks by axis, the course of conversations, the allowed pace, and the checks of the work."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, model_validator

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import Side

Kind = Literal["chat", "given", "gold", "repeat"]


class Task(Frozen):
    """One task on one axis: people talk with unnamed models and choose one of two replies a turn.

    Beside free conversations there are single questions with a given prompt: new ones; gold questions, whose better
    reply is known; and repeats, replies that another person has already judged, for agreement. They all look alike.
    """

    turns: int = Field(4, ge=1, le=20, description="turns of a conversation, at most")
    pairing: Literal["different", "same"] = Field(
        "different", description="two models a turn; or two replies of the one model of a conversation"
    )
    given_share: float = Field(0.0, ge=0, le=1, description="share of conversations that are one given prompt")
    gold_share: float = Field(0.05, ge=0, le=1, description="share that are gold questions, where there are any")
    repeat_share: float = Field(0.1, ge=0, le=1, description="share that repeat another person's given prompt")
    instructions: str = Field("", max_length=8000, description="what people are told; empty: the words that come along")

    @model_validator(mode="after")
    def _shares(self) -> Task:
        if self.given_share + self.gold_share + self.repeat_share > 1:
            raise ValueError("given_share, gold_share and repeat_share add up to more than 1")
        return self


class Pace(Frozen):
    """How fast a person may work; a faster person has to wait, and votes without time to read are marked."""

    fastest: float = Field(3.0, ge=0, description="seconds from seeing the replies to a vote; faster is marked `fast`")
    turns_per_hour: int = Field(120, ge=1, description="turns that one person may begin in an hour")
    quota: int = Field(0, ge=0, description="votes of one person in all, unless the invitation says; 0: no limit")
    longest: int = Field(4000, ge=1, description="characters of a message that a person writes, at most")


@dataclass(frozen=True, slots=True)
class Gold:
    """A question whose better reply is known."""

    id: str
    prompt: str
    good: str
    bad: str


@dataclass(frozen=True, slots=True)
class Opening:
    """A prompt that is given to people."""

    id: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Collection:
    """All that the rules of the work depend on. `openings` and `golds` are by axis."""

    models: tuple[str, ...]
    tasks: Mapping[str, Task]
    pace: Pace = field(default_factory=Pace)
    seed: int = 0
    reviewers: int = 3
    openings: Mapping[str, Sequence[Opening]] = field(default_factory=dict)
    golds: Mapping[str, Sequence[Gold]] = field(default_factory=dict)

    def draw(self, *names: str | int) -> random.Random:
        """A separate random generator for each combination of names."""
        return random.Random(derive_seed(self.seed, *names))

    def models_of(self, axis: str, conversation: str, turn: int) -> tuple[str, str]:
        """The unnamed models of a turn, drawn at random; all pairs are equally likely."""
        if self.tasks[axis].pairing == "same" or len(self.models) == 1:
            model = self.draw("model", conversation).choice(self.models)
            return model, model
        first, second = self.draw("models", conversation, turn).sample(self.models, 2)
        return first, second

    def left_of(self, turn: str) -> Side:
        """Which reply is on the left."""
        return "a" if self.draw("left", turn).random() < 0.5 else "b"

    def kind_of(self, axis: str, conversation: str) -> Kind:
        """The kind of the next conversation, as drawn; the person may have no gold question or repeat left."""
        task, drawn = self.tasks[axis], self.draw("kind", conversation).random()
        for kind, share in (("gold", task.gold_share), ("repeat", task.repeat_share), ("given", task.given_share)):
            if drawn < share:
                return kind  # type: ignore[return-value]
            drawn -= share
        return "chat"
