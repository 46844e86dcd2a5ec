"""What a policy may do about a text, and the verdict that says what it did and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Side = Literal["prompt", "reply"]
Level = Literal["standard", "enhanced"]
# From the mildest to the strictest: let it pass; let it pass and note it; add a text before the model answers; refuse.
Action = Literal["allow", "flag", "safety_prompt", "block"]

SIDES: tuple[Side, ...] = get_args(Side)
LEVELS: tuple[Level, ...] = get_args(Level)
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a prompt or a reply.

    `category`: id of the category or of the high-risk rule that acted, "" where nothing did. `score` in [0, 1] is the
    one that was held against `threshold`. `safety_prompt`: the text to add where the action is that. `reason`: one
    line for the user, "" where all is allowed. `classifiers`: version of each that was asked. `milliseconds`: what
    asking took; the rest depends on text, policy and classifiers alone.
    """

    side: Side
    category: str = ""
    score: float = 0.0
    threshold: float = 1.0
    action: Action = "allow"
    safety_prompt: str = ""
    reason: str = ""
    classifiers: Mapping[str, str] = field(default_factory=dict)
    milliseconds: float = field(default=0.0, compare=False)

    @property
    def allowed(self) -> bool:
        """Whether the text may pass, noted or not, with a text added or not."""
        return self.action != "block"
