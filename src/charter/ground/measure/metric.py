"""What a reported number is: the kept rows that it reads and how they become a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table

# of a task of the battery: its number for one dimension or one stretch of a text, or how often the asking went wrong
Kind = Literal["", "part", "fault"]
# what counts as an improvement; zero: nearer to it
Better = Literal["lower", "higher", "zero", "neither"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number: which kept rows it reads and how they become a table."""

    name: str
    file: str
    table: Callable[[Sequence[Row]], Table]
    better: Better
    meaning: str
    unit: str = ""
    judge: Literal["", "grader", "reward", "rater", "start"] = ""  # the model whose scores decide the number
    kind: Kind = ""
    gate: Literal["harm", "helpful"] = "harm"  # the verdict on the judge by which the number counts

    def improves(self, before: float, after: float) -> bool:
        """Whether a change is an improvement; a metric with no good direction never improves."""
        if self.better == "zero":
            return abs(after) < abs(before)
        return self.better != "neither" and (after > before) == (self.better == "higher")
