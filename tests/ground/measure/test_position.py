"""The fit of a power law to loss by position finds what was planted at single positions, and says when it found nothing."""

from __future__ import annotations

import numpy as np
import pytest

from charter.ground.measure.position import (
    BUCKETS,
    EXPONENTS,
    MIDDLES,
    bucket_of,
    card_scale,
    fit,
    fit_table,
    fitted_exponent,
    mean_powers,
    why_no_law,
)


@pytest.mark.parametrize("exponent", [0.02, 0.59, 1.0, 2.0])
def test_means_of_powers_are_those_of_their_positions(exponent: float) -> None:
    counts = [1, 2, 4, 8, 16, 32, 64, 128, 200, 512, 1024, 2048, 4096, 3]
    means = mean_powers(BUCKETS[: len(counts)], counts, exponent)
    for start, count, mean in zip(BUCKETS, counts, means, strict=False):
        true = np.mean(np.arange(start, start + count) ** -exponent)
        assert mean == pytest.approx(true, rel=1e-6), start


@pytest.mark.parametrize("length", [100, 5000, 8192])
def test_a_planted_law_is_found_whatever_the_length(length: int) -> None:
    nats, tokens = np.zeros(len(BUCKETS)), np.zeros(len(BUCKETS))
    for position in range(1, length):
        place = BUCKETS.index(bucket_of(position))
        nats[place] += 3 * (0.3 + 2.5 * position**-0.59)
        tokens[place] += 3  # documents
    assert fit(np.concatenate([nats, tokens])) == pytest.approx([0.3, 2.5, 0.59], abs=0.006)


def test_no_exponent_of_the_grid_is_off_its_neighbours() -> None:
    """The step that should be 1 is a hair above it, where a difference of powers is rounding alone."""
    means = mean_powers(BUCKETS, BUCKETS, EXPONENTS[:, None])
    near_one = int(np.abs(EXPONENTS - 1).argmin())
    assert means[near_one] == pytest.approx(mean_powers(BUCKETS, BUCKETS, 1.0), rel=1e-9)
    assert (np.diff(means[:, 1:], axis=0) < 0).all()


def search(loss: np.ndarray, lengths: np.ndarray) -> tuple[float, float, float]:
    """(c0, c, a) by trying every exponent of the grid, each by numpy's least squares."""
    best, found = np.inf, (np.nan,) * 3
    for exponent in EXPONENTS:
        powers = mean_powers(BUCKETS[: len(loss)], lengths, exponent)
        columns = np.stack([np.ones_like(powers), powers], 1)
        (constant, slope), *_ = np.linalg.lstsq(columns, loss, rcond=None)
        if constant < 0:
            constant, slope = 0.0, powers @ loss / (powers @ powers)
        residual = float(((columns @ [constant, slope] - loss) ** 2).sum())
        if residual < best:
            best, found = residual, (constant, slope, exponent)
    return found


@pytest.mark.parametrize(("constant", "scale"), [(0.3, 2.5), (0.0, 1.0), (-0.4, 3.0)])
def test_the_fit_is_that_of_a_plain_search_over_the_grid(constant: float, scale: float) -> None:
    """Also if the best line would have a negative constant; a row without tokens in a bucket has no fit."""
    draw, used = np.random.default_rng(3), 11
    tokens = np.zeros((12, len(BUCKETS)))
    tokens[:, :used] = draw.integers(2, 9, (12, 1)) * np.array(BUCKETS[:used])
    loss = constant + scale * MIDDLES**-0.7 + draw.normal(0, 0.02, (12, len(BUCKETS)))
    tokens[4, 3] = 0
    fits = fit(np.concatenate([loss * tokens, tokens], 1))
    lengths = tokens.sum(axis=0)[:used] / tokens[:, 0].sum()
    with np.errstate(invalid="ignore"):
        means = (loss * tokens)[:, :used] / tokens[:, :used]
    assert np.isnan(fits[4]).all()
    for row in (n for n in range(12) if n != 4):
        assert fits[row] == pytest.approx(search(means[row], lengths), rel=1e-9, abs=1e-9), row
    if constant < 0:
        assert (np.delete(fits[:, 0], 4) == 0).all()


def losses(loss: np.ndarray, documents: int = 8) -> np.ndarray:
    """Sums of nats and tokens of documents whose buckets have these losses."""
    used = len(loss)
    tokens = np.zeros(len(BUCKETS))
    tokens[:used] = documents * np.array(BUCKETS[:used])
    nats = np.zeros(len(BUCKETS))
    nats[:used] = loss * tokens[:used]
    return np.concatenate([nats, tokens])


def law(exponent: float, constant: float = 0.31, scale: float = 3.0, used: int = 13) -> np.ndarray:
    return constant + scale * mean_powers(BUCKETS[:used], BUCKETS[:used], exponent)


@pytest.mark.parametrize("exponent", [0.2, 0.59, 1.2])
def test_a_planted_exponent_is_reported_also_with_noise(exponent: float) -> None:
    noise = np.random.default_rng(5).normal(0, 0.01, 13)
    sums = losses(law(exponent) + noise)
    assert why_no_law(sums) == ""
    assert fit(sums)[2] == pytest.approx(exponent, abs=0.05)


def test_each_way_in_which_a_fit_fails_is_told() -> None:
    flat = np.array([2.9, 3.1, 2.95, 3.05, 3.0, 2.97, 3.02, 2.99, 3.01, 3.0])
    reasons = {
        "4 buckets of positions have tokens; the fit needs 5": law(0.59, used=4),
        "the law explains the losses no better than a constant": flat,
        "loss rises with the position": law(0.5, 4.0, -1.0),
        "the exponent 2.00 is on a bound of the exponents tried, 0.02 to 2.00": law(3.0),
        "the constant is on its bound, 0": law(0.6, -0.2, used=10),
    }
    for why, loss in reasons.items():
        assert why_no_law(losses(loss)) == why
    few = 10 - 0.3 * np.arange(6) + np.random.default_rng(5).normal(0, 0.2, 6)
    assert why_no_law(losses(few)).endswith("all from 0.02 to 1.13 fit as well")


def test_noise_around_a_constant_is_seldom_a_law() -> None:
    draw = np.random.default_rng(7)
    failed = sum(bool(why_no_law(losses(3 + draw.normal(0, 0.1, 12)))) for _ in range(200))
    assert failed >= 185


def test_where_there_is_no_law_there_is_no_number() -> None:
    rows = [
        {"id": f"d{n}", "nats": {str(b): 3.0 * b for b in BUCKETS[:8]}, "tokens": {str(b): b for b in BUCKETS[:8]}}
        for n in range(3)
    ]
    assert np.isnan(fit_table(fitted_exponent)(rows).value)
    for row in rows:
        row["nats"] = {str(b): b * loss for b, loss in zip(BUCKETS[:8], law(0.59, used=8), strict=True)}
    assert fit_table(fitted_exponent)(rows).value == pytest.approx(0.59, abs=0.006)


def test_the_scale_of_the_cards_law_is_that_of_the_losses() -> None:
    """Two buckets by hand: position 1 has the power 1, positions 2 and 3 the mean of 2^-0.59 and 3^-0.59."""
    assert card_scale(losses(law(0.59, 0.31, 2.5))) == pytest.approx(2.5)
    x = (1.0, (2**-0.59 + 3**-0.59) / 2)
    by_hand = (x[0] * (4 - 0.31) + x[1] * (3 - 0.31)) / (x[0] ** 2 + x[1] ** 2)
    assert card_scale(losses(np.array([4.0, 3.0]))) == pytest.approx(by_hand)
