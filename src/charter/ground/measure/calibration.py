"""Calibration of a judge: do its predictions hold on average? For a choice, confidence against correctness; for a
rating, the predicted rating against the human one.

Predictions are binned by their value; with B the bins and n the number of predictions

    calibration error = sum over B of |sum over its predictions of (predicted - observed)| / n
    overconfidence    = sum of (predicted - observed) / n

The first is the expected calibration error (Naeini 2015; Guo 2017, 1706.04599, section 2). It can't be negative, so
chance alone makes it positive if a bin has few predictions; its interval holds the sign of each bin fixed. In the
second, errors of both signs cancel, so it has no such bias. The paper reports it for its preference models: positive
means overconfident (Bai 2022a, 2204.05862, section 3.3: confidence is sigma(|score gap|)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Table, tabulate


class Prediction(NamedTuple):
    """A prediction and the observed value, in the same unit, with their cluster."""

    cluster: str
    predicted: float
    observed: float


Predictor = Callable[[Sequence[Row]], Sequence[Prediction]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Bins of equal width from `low` to `high`; values outside belong to the first or the last bin."""

    low: float
    high: float
    bins: int = 5

    def place(self, predicted: float) -> int:
        """The number of a prediction's bin, from 0."""
        return min(self.bins - 1, max(0, int((predicted - self.low) / (self.high - self.low) * self.bins)))


CONFIDENCE = Scale(0.5, 1.0)


def confidence(margin: float) -> float:
    """sigma(|margin|), a preference model's confidence in a pair; without overflow."""
    return 1 / (1 + math.exp(-min(abs(margin), 700.0)))


def of_pairs(where: Callable[[Row], bool]) -> Predictor:
    """A preference model's confidence in held-out pairs, and whether it ranks them as labelled."""
    return lambda rows: [
        Prediction(str(r["id"]), confidence(r["chosen_score"] - r["rejected_score"]), float(r["correct"]))
        for r in rows
        if where(r)
    ]


def of_choices(where: Callable[[Row], bool] = lambda row: True) -> Predictor:
    """A labeller's or a policy's probability of its choice, and whether the choice is right."""
    return lambda rows: [
        Prediction(str(r["id"]), max(r["p_correct"], 1 - r["p_correct"]), float(r["correct"])) for r in rows if where(r)
    ]


def of_gaps(where: Callable[[Row], bool]) -> Predictor:
    """The same for choices by score, whose `p_correct` is the gap between the two scores."""
    return lambda rows: [
        Prediction(str(r["id"]), confidence(r["p_correct"]), float(r["correct"])) for r in rows if where(r)
    ]


def group_by_bin(predictions: Iterable[Prediction], scale: Scale) -> list[list[Prediction]]:
    """The predictions of each non-empty bin, lowest first."""
    bins: dict[int, list[Prediction]] = {}
    for prediction in predictions:
        bins.setdefault(scale.place(prediction.predicted), []).append(prediction)
    return [members for _, members in sorted(bins.items())]


def calibration_error(predict: Predictor, scale: Scale = CONFIDENCE) -> Callable[[Sequence[Row]], Table]:
    """The expected calibration error as a table: each prediction's error, with the sign of its bin's sum."""

    def each(rows: Sequence[Row]) -> Iterable[tuple[str, float, float]]:
        for members in group_by_bin(predict(rows), scale):
            sign = math.copysign(1.0, sum(s.predicted - s.observed for s in members))
            for s in members:
                yield s.cluster, sign * (s.predicted - s.observed), 1.0

    return lambda rows: tabulate(each(rows))


def overconfidence(predict: Predictor) -> Callable[[Sequence[Row]], Table]:
    """Mean of predicted minus observed."""
    return lambda rows: tabulate((s.cluster, s.predicted - s.observed, 1.0) for s in predict(rows))
