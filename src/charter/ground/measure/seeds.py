"""Intervals of a mean over seeds that combine the variation over seeds with that over prompts.

All seeds answer the same prompts, so other prompts would move all seeds alike, which the spread over seeds can't show.
With S seeds of values v_s and a 95 % interval p_low to p_high over prompts of all seeds' answers pooled,

    seed part    t(S - 1) * sd(v) / sqrt(S)                    Student's t at 97.5 %
    prompt part  p - p_low and p_high - p,  p the value of all seeds' answers pooled by prompt
    ends         mean -/+ sqrt(seed part^2 + prompt part^2)    each clipped to the range of the metric

Pooling by prompt before resampling draws a prompt for all seeds at once. The prompt part is then that of
`intervals.py`, which handles few hits: a rate of 0 in all seeds has Wilson's bound from the number of prompts.
Variation of replies to one prompt between seeds is in both parts, so intervals err on the wide side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from charter.ground.measure.intervals import difference, interval, wilson
from charter.ground.measure.score import Table

Bounds = tuple[float, float]
NO_BOUNDS: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Part:
    """The distances of an interval's ends below and above its value."""

    below: float
    above: float


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds with its 95 % interval; `prompts`: whether the interval includes variation over prompts."""

    value: float
    low: float
    high: float
    seeds: int
    prompts: bool


def over_seeds(values: Sequence[float], prompts: Part | None = None, bounds: Bounds = NO_BOUNDS) -> Mean | None:
    """The mean of the seeds' values; None for fewer than two seeds, which have no spread.

    Without `prompts` the interval is the seed part alone, and it is too narrow."""
    count = len(values)
    if count < 2:
        return None
    mean = statistics.fmean(values)
    seed = float(stdtrit(count - 1, 0.975)) * statistics.stdev(values) / math.sqrt(count)
    part = prompts or Part(0.0, 0.0)
    low, high = mean - math.hypot(seed, part.below), mean + math.hypot(seed, part.above)
    return Mean(mean, max(bounds[0], low), min(bounds[1], high), count, prompts is not None)


def pool(tables: Sequence[Table]) -> Table:
    """Pools the seeds' answers to each prompt: sums by cluster, in order of first appearance. Seeds may lack
    clusters."""
    if len({table.statistic for table in tables}) != 1:
        raise ValueError("tables of several seeds need one statistic")
    place: dict[str, int] = {}
    for table in tables:
        for name in table.clusters:
            place.setdefault(name, len(place))
    sums = np.zeros((len(place), tables[0].sums.shape[1]))
    for table in tables:
        np.add.at(sums, [place[name] for name in table.clusters], table.sums)
    return Table(tuple(place), sums, sum(table.n for table in tables), tables[0].statistic)


def prompt_part(tables: Sequence[Table]) -> Part | None:
    """The prompt part of a mean over seeds; None if there are too few prompts."""
    table = pool(tables)
    low, high = interval(table)
    return None if low is None or high is None else Part(table.value - low, high - table.value)


def prompt_part_of_change(first: Sequence[Table], second: Sequence[Table]) -> Part:
    """The prompt part of a change between two versions, with one table per version and seed; paired by shared
    prompts."""
    change = difference(pool(first), pool(second))
    return Part(change.value - change.low, change.high - change.value)


def difference_part(minuend: Part, subtrahend: Part) -> Part:
    """The part of a difference of two independent numbers (Zou and Donner 2008)."""
    return Part(math.hypot(minuend.below, subtrahend.above), math.hypot(minuend.above, subtrahend.below))


def zero_rate_part(prompts: int, change: bool) -> Part:
    """The prompt part of a rate that is 0 for every prompt, from Wilson's interval; both ways for a change."""
    most = wilson(0, prompts)[1]
    return Part(most if change else 0.0, most)
