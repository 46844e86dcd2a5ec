"""Calibration: bins and signs by hand, and a correlation whose interval is that of Fisher's transform."""

import math

import numpy as np
import pytest

from charter.ground.measure.calibration import (
    CONFIDENCE,
    Prediction,
    Scale,
    calibration_error,
    confidence,
    group_by_bin,
    of_choices,
    of_gaps,
    overconfidence,
)
from charter.ground.measure.intervals import interval
from charter.ground.measure.ratings import correlation


def choice(name: str, p: float, right: float) -> dict[str, object]:
    return {"id": name, "p_correct": p, "correct": right}


def test_statements_fall_into_bins_of_equal_width_and_what_lies_beyond_into_the_last() -> None:
    assert [CONFIDENCE.place(x) for x in (0.4, 0.5, 0.59, 0.61, 0.79, 0.99, 1.0, 1.2)] == [0, 0, 0, 1, 2, 4, 4, 4]
    assert [Scale(0, 4).place(x) for x in (-2, 0, 0.79, 0.81, 3.9, 4, 7)] == [0, 0, 0, 1, 4, 4, 4]
    predictions = [Prediction(str(n), p, 1.0) for n, p in enumerate((0.95, 0.55, 0.97))]
    assert [[s.cluster for s in members] for members in group_by_bin(predictions, CONFIDENCE)] == [["1"], ["0", "2"]]


def test_errors_cancel_within_a_bin_and_add_up_over_bins() -> None:
    together = [choice("a", 0.72, 1.0), choice("b", 0.28, 0.0)]  # both 72 % sure, one right
    apart = [choice("a", 0.95, 0.0), choice("b", 0.55, 1.0)]
    error, over = calibration_error(of_choices()), overconfidence(of_choices())
    assert error(together).value == pytest.approx(0.22) == over(together).value
    assert error(apart).value == pytest.approx((0.95 + 0.45) / 2)
    assert over(apart).value == pytest.approx((0.95 - 0.45) / 2)
    sure = [choice(str(n), 0.8, float(n < 8)) for n in range(10)]
    assert error(sure).value == pytest.approx(0.0, abs=1e-12), "as right as it says"
    assert error([]).value != error([]).value, "nothing stated, no number"


def test_a_shy_judge_is_underconfident() -> None:
    rows = [choice(str(n), 0.6, 1.0) for n in range(10)]
    assert overconfidence(of_choices())(rows).value == pytest.approx(-0.4)
    assert calibration_error(of_choices())(rows).value == pytest.approx(0.4)


def test_confidence_is_the_logistic_function_of_a_gaps_size() -> None:
    assert confidence(math.log(3)) == pytest.approx(0.75) == confidence(-math.log(3))
    assert (confidence(0.0), confidence(1e9), confidence(-1e9)) == (0.5, 1.0, 1.0)
    (state,) = of_gaps(lambda row: True)([choice("a", -math.log(3), 0.0)])
    assert state == Prediction("a", pytest.approx(0.75), 0.0)


def test_a_correlation_is_pearsons_and_its_interval_fishers() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=500)
    b = 0.6 * a + 0.8 * rng.normal(size=500)
    rows = [{"id": str(n), "a": x, "b": y} for n, (x, y) in enumerate(zip(a, b, strict=True))]
    table = correlation("a", "b")(rows)
    r = float(np.corrcoef(a, b)[0, 1])
    assert table.value == pytest.approx(r)
    fisher = [math.tanh(math.atanh(r) + z / math.sqrt(497)) for z in (-1.96, 1.96)]
    assert interval(table) == pytest.approx(fisher, abs=0.015)
    naive = [r + z * float(np.std((a - a.mean()) * (b - b.mean()))) / math.sqrt(500) for z in (-1.96, 1.96)]
    assert naive[1] - naive[0] > 1.5 * (fisher[1] - fisher[0]), "products alone would spread far more"


def test_a_column_that_does_not_vary_has_no_correlation() -> None:
    rows = [{"id": str(n), "a": 0.1, "b": n} for n in range(7)]
    assert len(correlation("a", "b")(rows).clusters) == len(correlation("b", "a")(rows).clusters) == 0
