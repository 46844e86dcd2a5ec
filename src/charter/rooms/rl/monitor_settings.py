"""Settings of the drift monitor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen

Name = Literal[
    "boilerplate",
    "harsh",
    "loop",
    "cut",
    "evasion",
    "refusal_harmless",
    "refusal_prompts",
    "length",
    "ngrams",
]


class Monitor(Frozen):
    """Snapshots of the replies, each compared with the first one."""

    window: int = Field(
        200, ge=0, description="least replies of a snapshot, in whole rounds; 0: no snapshots"
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="probability that a snapshot without drift has any alarm"
    )
    stop: bool = Field(False, description="end training on an alarm that stop_on names")
    stop_on: tuple[Name, ...] = Field(
        ("loop", "harsh", "cut", "refusal_harmless"), min_length=1, description="alarms that end training"
    )
