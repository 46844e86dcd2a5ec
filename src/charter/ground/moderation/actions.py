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
    """What a policy decides about a prompt or a reply.

    `category`: id of the category or of the high-risk rule that acted, "" if none did. `score` in [0, 1] is the one
    compared with `threshold`. `safety_prompt`: the text to add if that is the action. `reason`: one line for the user,
    "" if all is allowed. `classifiers`: version of each that scored the text. `milliseconds`: the time that it took;
    all other fields depend only on text, policy and classifiers. `unscreened`: two letters for a language other than
    English that the text is in, as far as a rough reader tells: the classifiers were measured on English alone. It
    changes no action; people see it.
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
    unscreened: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the text may pass, with or without a note for review or an added text."""
        return self.action != "block"

    @property
    def note(self) -> str:
        """One line on a language that isn't screened, "" if there is none."""
        return f"this language isn't screened: {self.unscreened}" if self.unscreened else ""
