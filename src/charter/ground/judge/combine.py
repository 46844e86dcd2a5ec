"""Combines the scores of several graders into one: their mean or their minimum.

Graders have different scales, so each is first standardised over one set of replies. With z_g the standardised score
of grader g and w_g its weight:

    mean    Σ_g w_g z_g / Σ_g w_g
    min     min_g z_g     the worst grader decides, which is hard to exploit

Source: Coste 2023 (2310.02743): mean and worst-case optimisation over an ensemble of reward models.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt
from typing import Literal

from charter.ground.artifact.errors import CharterError

How = Literal["mean", "min"]


def combine(scores_by_grader: Sequence[Sequence[float]], weights: Sequence[float] | None, how: How) -> list[float]:
    """One score per reply from the standardised scores of each grader; without `weights` all graders count alike.

    Raises CharterError if graders have different numbers of scores, if the number of weights is wrong, if a weight is
    negative or all are 0, and for unequal weights of a minimum.
    """
    counts = {len(scores) for scores in scores_by_grader}
    if len(counts) != 1:
        raise CharterError(
            f"{len(scores_by_grader)} graders gave {sorted(counts)} scores; expected one or more graders, "
            "each with one score per reply"
        )
    checked = check_weights(weights, len(scores_by_grader), how)
    rows = zip(*scores_by_grader, strict=True)
    if how == "min":
        return [min(row) for row in rows]
    total = fsum(checked)
    return [fsum(w * z for w, z in zip(checked, row, strict=True)) / total for row in rows]


def check_weights(weights: Sequence[float] | None, graders: int, how: How) -> list[float]:
    """One weight per grader. Raises CharterError for invalid weights."""
    if weights is None:
        return [1.0] * graders
    if len(weights) != graders:
        raise CharterError(f"{len(weights)} weights for {graders} graders; give one per grader")
    if min(weights) < 0 or not sum(weights):
        raise CharterError(f"weights of graders are {list(weights)}; expected none below 0 and one above it")
    if how == "min" and len(set(weights)) > 1:
        raise CharterError(f"a minimum takes no weights, and {list(weights)} differ; leave weights out")
    return list(weights)


def standardise(scores: Sequence[float], over: Sequence[float] | None = None) -> list[float]:
    """Scores minus the mean of `over` (default: the scores), divided by its standard deviation (by n); 0 if that is
    0."""
    among = scores if over is None else over
    if not among or min(among) == max(among):
        return [0.0] * len(scores)
    mean = fsum(among) / len(among)
    sd = sqrt(fsum((score - mean) ** 2 for score in among) / len(among))
    return [(score - mean) / sd for score in scores]
