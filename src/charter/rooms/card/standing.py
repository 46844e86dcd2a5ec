"""Where a number stands between guessing and the best that is possible, from its interval alone.

At chance: the 95 % interval holds the score of guessing, which the task declares (`Metric.chance`). Saturated: the
interval reaches the best value that the unit allows, so that the evaluation can't show a better model any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from charter.ground.reports.number import Number

AT_CHANCE, SATURATED = "at chance", "saturated"
# An end this near to a bound reaches it.
REACH = 1e-9


def standing(number: Number | None) -> tuple[str, ...]:
    """AT_CHANCE, SATURATED, both if the interval is that wide, or neither. A number without interval has none."""
    metric = number.metric if number is not None else None
    if number is None or metric is None or number.low is None or number.high is None:
        return ()
    words = []
    if metric.chance is not None and number.low <= metric.chance <= number.high:
        words.append(AT_CHANCE)
    if metric.about == "model" and metric.kind != "fault" and _reaches_best(number, metric.limits):
        words.append(SATURATED)
    return tuple(words)


def _reaches_best(number: Number, limits: tuple[float, float]) -> bool:
    if number.better == "higher" and math.isfinite(limits[1]):
        return number.high is not None and number.high >= limits[1] - REACH
    if number.better == "lower" and math.isfinite(limits[0]):
        return number.low is not None and number.low <= limits[0] + REACH
    return False


def standing_at(numbers: Iterable[Number], word: str) -> tuple[Number, ...]:
    """The numbers of a stage that stand there, without those of parts."""
    return tuple(
        n
        for n in numbers
        if n.metric and n.metric.about == "model" and not n.metric.kind and word in standing(n)
    )
