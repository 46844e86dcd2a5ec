"""Bradley-Terry: closed forms, an oracle, numerical derivatives, and graphs without a maximum."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from charter.ground.measure.bradley_terry import (
    SCALE,
    Clusters,
    Design,
    bootstrap_ends,
    clustered_ends,
    clusters,
    covariance,
    fit,
    normal_ends,
    place,
    resample,
    sandwich,
)
from charter.ground.measure.score import Floats


def round_robin(models: int, base: int = 0) -> Design:
    return Design(models, *np.triu_indices(models, 1), base)


def likelihood(design: Design, wins: Floats, ratings: Floats) -> float:
    one, two = np.split(wins, 2)
    gap = ratings[design.first] - ratings[design.second]
    return float(-(one @ np.log1p(np.exp(-gap)) + two @ np.log1p(np.exp(gap))))


def votes_alone(wins: Floats) -> Clusters:
    """Every vote a cluster of its own."""
    kinds = np.arange(len(wins))
    return clusters(kinds, kinds, np.ones(len(wins)), wins, len(wins) // 2)


def test_two_models_by_hand() -> None:
    # 30 of 40 won: E = 400 log10 3, and its variance is 1 / (40 x 3/4 x 1/4)
    design, wins = round_robin(2), np.array([10.0, 30.0])
    (ratings,), (done,) = fit(design, wins[None])
    assert done and ratings[0] == 0.0 and ratings[1] * SCALE == pytest.approx(400 * math.log10(3))
    spread = covariance(design, wins, ratings)
    assert spread[1, 1] == pytest.approx(1 / 7.5) and spread[0].tolist() == [0.0, 0.0]
    ends = normal_ends(ratings, spread)
    assert ends.high[1, 0] - ends.low[1, 0] == pytest.approx(2 * 1.959964 / math.sqrt(7.5), rel=1e-6)
    assert ends.low[0, 1] == -ends.high[1, 0]


@pytest.mark.parametrize("base", [0, 2])
def test_three_models_are_those_of_a_general_optimizer(base: int) -> None:
    design, wins = round_robin(3, base), np.array([12.0, 5.0, 9.0, 8.0, 21.0, 4.0])
    (ratings,), _ = fit(design, wins[None])
    free = [n for n in range(3) if n != base]

    def loss(x: Floats) -> float:
        full = np.zeros(3)
        full[free] = x
        return -likelihood(design, wins, full)

    oracle = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}).x
    assert ratings[free] == pytest.approx(oracle, abs=1e-6) and ratings[base] == 0.0


def test_covariance_is_the_inverse_of_a_numerical_hessian() -> None:
    design, wins = round_robin(4), np.random.default_rng(0).integers(3, 30, 12).astype(float)
    (ratings,), _ = fit(design, wins[None])
    step, hessian = 1e-4, np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for a, b, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
                moved = ratings.copy()
                moved[i + 1] += a * step
                moved[j + 1] += b * step
                hessian[i, j] -= sign * likelihood(design, wins, moved) / (4 * step**2)
    assert covariance(design, wins, ratings)[1:, 1:] == pytest.approx(np.linalg.inv(hessian), rel=1e-4)


def test_batches_are_fits_one_by_one_from_wherever_they_start() -> None:
    rng, design = np.random.default_rng(1), round_robin(5)
    wins = rng.integers(1, 50, (30, 20)).astype(float)
    fits, done = fit(design, wins, rng.normal(0, 3, 5) * np.array([0, 1, 1, 1, 1]))
    assert done.all()
    for row, ratings in zip(wins, fits, strict=True):
        assert fit(design, row[None])[0][0] == pytest.approx(ratings, abs=1e-9)


def test_lopsided_votes_are_no_trouble() -> None:
    design = Design(3, np.array([0, 1]), np.array([1, 2]), 0)  # a chain: each gap has its own closed form
    (ratings,), (done,) = fit(design, np.array([[1.0, 1.0, 99_999.0, 999.0]]))
    assert done and ratings == pytest.approx([0.0, math.log(99_999), math.log(99_999) + math.log(999)])


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("start", [0.0, 3.0])
def test_what_has_no_maximum_is_not_done_in_either_order(base: int, start: float) -> None:
    wins = np.array([[3.0, 0.0], [0.0, 3.0], [2.0, 1.0], [0.0, 0.0]])
    ratings, done = fit(round_robin(2, base), wins, start * (np.arange(2) - base))
    assert done.tolist() == [False, False, True, False]
    assert ratings[2, 0] - ratings[2, 1] == pytest.approx(math.log(2))


@pytest.mark.parametrize("base", range(4))
def test_a_separated_group_is_not_done_in_either_order(base: int) -> None:
    design = Design(4, np.array([0, 2, 0]), np.array([1, 3, 2]), base)  # 0 with 1, 2 with 3, and 0 with 2
    below, above, joined, apart = (
        np.array([[3.0, 4, one, 2, 3, other]]) for one, other in ((0, 5), (5, 0), (5, 1), (0, 0))
    )
    assert fit(design, np.concatenate([below, above, joined, apart]))[1].tolist() == [False, False, True, False]


def test_a_long_chain_of_near_certain_wins_is_done() -> None:
    models = 30  # ends lie 29 x ln 99 = 133 nats apart, each link has its own closed form
    design = Design(models, np.arange(models - 1), np.arange(1, models), 7)
    wins = np.concatenate([np.full(models - 1, 1.0), np.full(models - 1, 99.0)])
    (ratings,), (done,) = fit(design, wins[None])
    assert done and np.diff(ratings) == pytest.approx(math.log(99))


def test_models_are_placed_by_chains_of_wins() -> None:
    # 0 and 1 beat each other, 2 beats 0, 1 beats 3, 4 beats 5, 6 loses to 2 and to nobody else
    design = Design(7, np.array([0, 0, 1, 4, 2]), np.array([1, 2, 3, 5, 6]), 0)
    wins = np.array([1.0, 0, 1, 1, 1, 1, 1, 0, 0, 0])
    positions = place(design, wins)
    assert positions[:4].tolist() == [0.0, 0.0, math.inf, -math.inf] and np.isnan(positions[4:]).all()


def test_the_sandwich_of_single_votes_is_the_inverse_information() -> None:
    # of two models sum of squared residuals = n p (1 - p) exactly, times n / (n - 1)
    design, wins = round_robin(2), np.array([10.0, 30.0])
    (ratings,), _ = fit(design, wins[None])
    matrix = sandwich(design, votes_alone(wins), ratings)
    assert matrix[1, 1] == pytest.approx(covariance(design, wins, ratings)[1, 1] * 40 / 39)


def test_the_sandwich_of_two_raters_by_hand() -> None:
    # rater 1: 8 of 10 for the first, rater 2: 4 of 10; p = 0.6, scores 2 and -2, information 20 x 0.24 = 4.8
    design = round_robin(2)
    votes = clusters(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([8.0, 2, 4, 6]), np.ones(2), 1)
    (ratings,), _ = fit(design, votes.total[None])
    assert sandwich(design, votes, ratings)[1, 1] == pytest.approx(8 / 4.8**2 * 2)
    ends = clustered_ends(design, [votes], ratings)
    half = 12.7062 * math.sqrt(16 / 4.8**2)  # t with one degree of freedom
    assert (ends.high[0, 1] - ends.low[0, 1]) / 2 == pytest.approx(half, rel=1e-4)


def test_few_raters_whose_scores_cancel_are_not_sure() -> None:
    design = round_robin(2)
    votes = clusters(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([6.0, 4, 6, 4]), np.ones(2), 1)
    (ratings,), _ = fit(design, votes.total[None])
    assert sandwich(design, votes, ratings)[1, 1] == pytest.approx(0.0, abs=1e-12)
    ends, independent = (
        clustered_ends(design, [votes], ratings),
        normal_ends(ratings, covariance(design, votes.total, ratings)),
    )
    assert ends.low == pytest.approx(independent.low)


def test_resamples_spread_as_the_hessian_says() -> None:
    design, wins = round_robin(4), np.random.default_rng(2).integers(60, 200, 12).astype(float)
    (ratings,), _ = fit(design, wins[None])
    draws = resample(design, votes_alone(wins), ratings, 2000, 0)
    assert np.isfinite(draws).all() and (draws[:, 0] == 0).all()
    assert np.cov(draws.T)[1:, 1:] == pytest.approx(covariance(design, wins, ratings)[1:, 1:], rel=0.15)
    ends, normal = bootstrap_ends(draws), normal_ends(ratings, covariance(design, wins, ratings))
    assert ends.low == pytest.approx(normal.low, abs=0.06) and np.array_equal(ends.high, -ends.low.T)


def test_resamples_in_which_a_model_won_all_open_its_interval() -> None:
    design, wins = round_robin(2), np.array([1.0, 9.0])
    (ratings,), _ = fit(design, wins[None])
    draws = resample(design, votes_alone(wins), ratings, 400, 0)
    share = float(np.isinf(draws[:, 1]).mean())
    assert share == pytest.approx(0.9**10, abs=0.08) and (draws[np.isinf(draws[:, 1]), 1] > 0).all()
    ends = bootstrap_ends(draws)
    assert math.isinf(ends.high[1, 0]) and math.isfinite(ends.low[1, 0])


def test_resamples_without_a_model_do_not_rate_it() -> None:
    # 0 and 1 each won 40 against each other, 1 and 2 one
    design, wins = Design(3, np.array([0, 1]), np.array([1, 2]), 0), np.array([40.0, 1, 40, 1])
    (ratings,), _ = fit(design, wins[None])
    draws = resample(design, votes_alone(wins), ratings, 400, 0)
    one, neither = (81 / 82) ** 82, (80 / 82) ** 82  # shares of resamples that lack a vote, and both
    assert np.isfinite(draws[:, 1]).all()
    assert float(np.isnan(draws[:, 2]).mean()) == pytest.approx(neither, abs=0.06)
    for sign in (-1, 1):
        assert float((draws[:, 2] == sign * np.inf).mean()) == pytest.approx(one - neither, abs=0.08)


def test_resamples_fit_what_is_left_when_a_model_drops_out() -> None:
    design = round_robin(3)
    wins = np.array([20.0, 1.0, 20.0, 20.0, 1.0, 20.0])  # the last pair of 0 and 2 is rarely won
    (ratings,), _ = fit(design, wins[None])
    draws = resample(design, votes_alone(wins), ratings, 300, 1)
    assert not np.isnan(draws).any()
    unknown = np.array([[0.0, np.nan], [0.0, 1.0]])
    assert bootstrap_ends(unknown).low[1, 0] == -math.inf
