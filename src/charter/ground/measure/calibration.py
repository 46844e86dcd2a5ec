"""Calibration: does what a judge states come true on average? Of a choice, its confidence against being right; of a
rating, the rating against the one given.

Statements are binned by what they state; with B the bins and n all statements

    calibration error = sum over B of |sum over its statements of (stated - found)| / n
    overconfidence    = sum of (stated - found) / n

The first is the expected calibration error (Naeini 2015; Guo 2017, 1706.04599, section 2). It can't be negative, so
that chance alone makes it positive where a bin holds few statements; its interval takes the sign of each bin as
given. The second lets errors of both signs cancel, has no such bias, and says what the paper says of its preference
models: positive is surer than right (Bai 2022a, 2204.05862, section 3.3: confidence is sigma(|score gap|)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table, tabulate


class Statement(NamedTuple):
    """What was stated and what was found, in the same unit; the cluster that it belongs to."""

    cluster: str
    predicted: float
    observed: float


States = Callable[[Sequence[Row]], Sequence[Statement]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Bins of equal width from `low` to `high`; what lies outside belongs to the first or the last."""

    low: float
    high: float
    bins: int = 5

    def place(self, predicted: float) -> int:
        """The number of a statement's bin, from 0."""
        return min(self.bins - 1, max(0, int((predicted - self.low) / (self.high - self.low) * self.bins)))


CONFIDENCE = Scale(0.5, 1.0)


def confidence(margin: float) -> float:
    """sigma(|margin|), what a preference model says of a pair; without overflow."""
    return 1 / (1 + math.exp(-min(abs(margin), 700.0)))


def of_pairs(where: Callable[[Row], bool]) -> States:
    """How sure a preference model is of held-out pairs, and whether it ranks them as labelled."""
    return lambda rows: [
        Statement(str(r["id"]), confidence(r["chosen_score"] - r["rejected_score"]), float(r["correct"]))
        for r in rows
        if where(r)
    ]


def of_choices(where: Callable[[Row], bool] = lambda row: True) -> States:
    """The probability that a labeller or a policy puts on its choice, and whether the choice is right."""
    return lambda rows: [
        Statement(str(r["id"]), max(r["p_correct"], 1 - r["p_correct"]), float(r["correct"]))
        for r in rows
        if where(r)
    ]


def of_gaps(where: Callable[[Row], bool]) -> States:
    """The same of choices by score, whose `p_correct` is the gap between the two scores."""
    return lambda rows: [
        Statement(str(r["id"]), confidence(r["p_correct"]), float(r["correct"])) for r in rows if where(r)
    ]


def group_by_bin(statements: Iterable[Statement], scale: Scale) -> list[list[Statement]]:
    """The statements of each bin that holds any, lowest first."""
    bins: dict[int, list[Statement]] = {}
    for statement in statements:
        bins.setdefault(scale.place(statement.predicted), []).append(statement)
    return [members for _, members in sorted(bins.items())]


def calibration_error(states: States, scale: Scale = CONFIDENCE) -> Callable[[Sequence[Row]], Table]:
    """The expected calibration error as a table: each statement's own error, signed as the sum of its bin is."""

    def each(rows: Sequence[Row]) -> Iterable[tuple[str, float, float]]:
        for members in group_by_bin(states(rows), scale):
            sign = math.copysign(1.0, sum(s.predicted - s.observed for s in members))
            for s in members:
                yield s.cluster, sign * (s.predicted - s.observed), 1.0

    return lambda rows: tabulate(each(rows))


def overconfidence(states: States) -> Callable[[Sequence[Row]], Table]:
    """Mean of what was stated less what was found."""
    return lambda rows: tabulate((s.cluster, s.predicted - s.observed, 1.0) for s in states(rows))
