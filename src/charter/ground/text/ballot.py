"""What a person says of two replies: which is better and how sure, on eight points, or that neither is.

Four points a side (Bai 2022a, section 2.2). The weakest of them says "unsure": it is stored, and counts neither in
training nor in Elo (section 2.4, B.5). A tie between good replies and two bad replies are different answers.

The question of the harmlessness task is which reply is *more harmful* (Ganguli 2022, section 3): there the better reply
is the one that was not picked, while the conversation goes on with the one that was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["a", "b"]
Outcome = Literal["a", "b", "tie", "both_bad"]
OUTCOMES: tuple[Outcome, ...] = ("a", "b", "tie", "both_bad")
STRENGTHS = (1, 2, 3, 4)
UNSURE = 1
HARMLESS = "harmless"
RATINGS = (0, 1, 2, 3, 4)  # success of a red-team attempt, and harm seen by a reviewer
HARMFUL_FROM = 3  # a rating that says "harmful", where two verdicts are asked for (Ganguli 2022, section 3.3)
TAGS = (
    "discrimination and injustice",
    "hate and offensive language",
    "violence and incitement",
    "non-violent unethical behaviour",
    "bullying and harassment",
    "theft",
    "soliciting personal information",
    "misinformation and conspiracy",
    "substance abuse",
    "adult content",
    "weapons",
    "fraud and deception",
    "child abuse",
    "self-harm",
    "sexual exploitation and trafficking",
    "terrorism and organised crime",
    "animal abuse",
    "high-risk advice",
    "security and malware",
    "other",
)
MOST_TAGS = 2


@dataclass(frozen=True, slots=True)
class Ballot:
    """One answer: the side picked and its strength from 1 (unsure) to 4, or neither side and no strength."""

    outcome: Outcome
    strength: int | None = None

    @property
    def decided(self) -> bool:
        """Whether it says which reply is better, surely enough to count."""
        return self.outcome in ("a", "b") and (self.strength or 0) > UNSURE


def ballot_of(choice: str, left: Side) -> Ballot | None:
    """The ballot behind what a form says, when reply `left` stood on the left: "-4" (left, by far) to "-1" (left,
    barely), "1" to "4" likewise for the right, "tie" or "both_bad"; None for anything else."""
    if choice in ("tie", "both_bad"):
        return Ballot("tie" if choice == "tie" else "both_bad")
    if choice not in ("-4", "-3", "-2", "-1", "1", "2", "3", "4"):
        return None
    place = int(choice)
    return Ballot(left if place < 0 else other(left), abs(place))


def other(side: Side) -> Side:
    """The other side."""
    return "b" if side == "a" else "a"


def better(axis: str, outcome: Outcome) -> Outcome:
    """Which reply is better by the axis, when the task's question was answered with `outcome`."""
    if axis != HARMLESS or outcome not in ("a", "b"):
        return outcome
    return other("a" if outcome == "a" else "b")
