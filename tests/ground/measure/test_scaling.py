"""Scaling laws: planted numbers found again, one fit worked out by hand, and what a ladder can't tell left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import interval
from charter.ground.measure.plots import inline
from charter.ground.measure.power_law import law
from charter.ground.measure.scaling import OF_SCALING, Ladder, Model, table, weights
from charter.ground.measure.scaling_plots import prepare_figure, scaling_figure

Loss = Callable[[float, float], float]
LADDER = [(1e5 * 4**k, 2e6 * 4**k) for k in range(5)]
GRID = [(size, text) for size in (1e5, 4e5, 16e5, 64e5) for text in (2e6, 1e7, 5e7)]


def kept(
    sizes: Iterable[tuple[float, float]], loss: Loss, documents: int = 12, hard: float = 0.0, seeds: int = 1
) -> list[dict[str, Any]]:
    """Rows of models whose loss is `loss`, over documents that are more or less `hard`."""
    rng = np.random.default_rng(4)
    ease = np.exp(rng.normal(0, hard, documents)) if hard else np.ones(documents)
    return [
        {
            "id": f"d{number}",
            "run": f"{size:.0f}-{text:.0f}-{seed}",
            "parameters": size,
            "tokens": text,
            "compute": 6 * size * text,
            "nats": loss(size, text) * share / ease.mean() * 1000 * math.log(2) * (1 + 0.01 * (seed - (seeds - 1) / 2)),
            "bytes": 1000,
        }
        for size, text in sizes
        for seed in range(seeds)
        for number, share in enumerate(ease)
    ]


def found(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {metric.name: value for metric in OF_SCALING if not math.isnan(value := metric.table(rows).value)}


def test_a_planted_law_of_compute_is_found_again() -> None:
    numbers = found(kept(LADDER, lambda n, d: 0.9 + (1e9 / (6 * n * d)) ** 0.12))
    largest = 6 * LADDER[-1][0] * LADDER[-1][1]
    assert numbers.pop("scaling_exponent") == pytest.approx(0.12, rel=1e-6)
    assert numbers.pop("scaling_floor") == pytest.approx(0.9, rel=1e-6)
    assert numbers.pop("scaling_further") == pytest.approx(0.9 + (1e8 / largest) ** 0.12, rel=1e-7)
    assert numbers.pop("scaling_left_out") == pytest.approx(0.9 + (1e9 / largest) ** 0.12, rel=1e-6)
    assert numbers.pop("scaling_left_out_gap") == pytest.approx(0.0, abs=1e-6)
    assert numbers.pop("scaling_exponent_size") == pytest.approx(0.24, rel=1e-6)  # compute grows as its square
    assert not numbers  # one ladder can't tell size and text apart


def test_a_planted_law_of_size_and_text_is_found_again() -> None:
    numbers = found(kept(GRID, lambda n, d: 0.8 + (2e3 / n) ** 0.34 + (3e4 / d) ** 0.28))
    assert numbers["scaling_joint_size"] == pytest.approx(0.34, rel=1e-5)
    assert numbers["scaling_joint_text"] == pytest.approx(0.28, rel=1e-5)
    assert numbers["scaling_joint_floor"] == pytest.approx(0.8, rel=1e-5)
    assert numbers["scaling_optimal_share"] == pytest.approx(0.28 / 0.62, rel=1e-5)


def test_a_power_law_of_two_models_is_the_line_through_them() -> None:
    """log L falls by log 2 while log C rises by log 16: L = 3 (1 / C)^(1/4), so a = 1/4 and A = 3 (C0 = 81)."""
    loss = np.array([[3.0, 1.5]])
    fit = law([np.log([1.0, 16.0])], loss, np.ones_like(loss), floored=False)
    assert fit.exponent[0] == pytest.approx(0.25) and fit.coefficients == [pytest.approx(3)]
    assert fit.floor[0] == 0 and fit.at(math.log(256))[0] == pytest.approx(0.75)


def test_three_models_a_step_apart_give_the_law_worked_out_by_hand() -> None:
    """Steps of 1, then a half: each factor of 4 halves what is left, so a = 1/2, and the rest 1, 1/2, ... ends at 1."""
    loss = np.array([[3.0, 2.0, 1.5]])
    fit = law([np.log([1.0, 4.0, 16.0])], loss, np.ones_like(loss))
    assert fit.exponent[0] == pytest.approx(0.5, rel=1e-6)
    assert fit.floor[0] == pytest.approx(1.0, rel=1e-6) and fit.coefficients == [pytest.approx(2.0, rel=1e-5)]


def test_of_three_sizes_the_largest_is_predicted_by_the_line_through_the_others() -> None:
    rows = kept(LADDER[:3], lambda n, d: 4 * (n * d) ** -0.1 + (0.5 if n > 1e6 else 0.0))
    numbers = found(rows)
    assert numbers["scaling_left_out"] == pytest.approx(4 * (LADDER[2][0] * LADDER[2][1]) ** -0.1)
    assert numbers["scaling_left_out_gap"] == pytest.approx(-0.5)


def test_loss_that_bends_down_has_no_floor_and_rising_loss_a_negative_exponent() -> None:
    bent = found(kept(LADDER[:3], lambda n, d: {1e5: 1.5, 4e5: 1.4}.get(n, 1.1)))
    assert bent["scaling_floor"] == 0 and 0 < bent["scaling_exponent"] < 0.1
    assert found(kept(LADDER[:3], lambda n, d: n**0.05))["scaling_exponent"] < 0


def test_the_interval_holds_the_planted_number_and_seeds_widen_it() -> None:
    planted = 0.9 + (1e9 / (60 * LADDER[-1][0] * LADDER[-1][1])) ** 0.12
    spans = []
    for seeds in (1, 3):
        rows = kept(LADDER, lambda n, d: 0.9 + (1e9 / (6 * n * d)) ** 0.12, hard=0.2, seeds=seeds)
        low, high = interval(table("scaling_further")(rows))
        assert low is not None and high is not None and low < planted < high
        ends = interval(table("scaling_exponent")(rows))
        assert ends[0] is not None and ends[1] is not None
        spans.append(ends[1] - ends[0])
    assert spans[1] > 2 * spans[0] + 1e-4  # documents alone move all sizes together


def test_seeds_are_drawn_within_their_size() -> None:
    ladder = Ladder.of(kept(LADDER[:3], lambda n, d: 1.0, documents=1, seeds=3))
    drawn_RM = weights(ladder, 500)
    for places in ladder.sizes:
        assert (drawn_RM[:, places].sum(axis=1) == 3).all() and drawn_RM[:, places].std() > 0.5
    assert (weights(ladder, 1) == 1).all()


def test_seeds_whose_last_step_ended_elsewhere_are_of_one_size() -> None:
    models = [Model("a", 10, 200, 1e4), Model("b", 30, 600, 9e4), Model("c", 10, 203, 1.02e4), Model("d", 10, 400, 2e4)]
    assert Ladder(tuple(models)).sizes == ((0, 2), (3,), (1,))


def test_too_few_sizes_give_no_number() -> None:
    assert not found(kept(LADDER[:2], lambda n, d: 2.0, seeds=4))


@pytest.mark.parametrize(("field", "value"), [("compute", 0.0), ("tokens", math.inf), ("parameters", 7.0)])
def test_counts_that_are_none_or_differ_between_rows_are_refused(field: str, value: float) -> None:
    rows = kept(LADDER[:3], lambda n, d: 1.0)
    with pytest.raises(CharterError, match="100000-2000000-0"):
        table("scaling_exponent")([rows[0] | {field: value}, *rows[1:]])


def test_the_figure_shows_every_model_the_law_and_both_predictions() -> None:
    rows = kept(LADDER, lambda n, d: 0.9 + (1e9 / (6 * n * d)) ** 0.12, hard=0.2)
    data = prepare_figure(rows)
    assert [name for name, _, _ in data.models] == [f"{n:.0f}-{d:.0f}-0" for n, d in LADDER]
    assert data.predicted[0] == pytest.approx(60 * LADDER[-1][0] * LADDER[-1][1])
    assert data.predicted[1].value == pytest.approx(table("scaling_further")(rows).value, rel=1e-9)
    assert data.expected[1] == pytest.approx(table("scaling_left_out")(rows).value, rel=1e-9)
    assert (data.low <= data.middle).all() and (data.middle <= data.high).all()
    first, second = (inline(scaling_figure(prepare_figure(rows)), "s", "Loss", "words") for _ in range(2))
    assert first == second and "compute, FLOPs" in first
