"""The fit of a power law to loss by position finds what was planted at single positions."""

from __future__ import annotations

import numpy as np
import pytest

from charter.ground.measure.position import BUCKETS, EXPONENTS, MIDDLES, bucket_of, fit, mean_powers


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
