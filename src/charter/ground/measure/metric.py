"""What a reported number is: the kept rows that it reads and how they become a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number: which kept rows it reads and how they become a table."""

    name: str
    file: str
    table: Callable[[Sequence[Row]], Table]
    better: str  # "lower" | "higher" | "neither": the direction that counts as an improvement
    meaning: str
    unit: str = ""
    judge: Literal["", "grader", "reward", "rater"] = ""  # the model whose scores decide the number
