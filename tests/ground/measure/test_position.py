"""The fit of a power law to loss by position finds what was planted at single positions."""

from __future__ import annotations

import numpy as np
import pytest

from charter.ground.measure.position import BUCKETS, bucket_of, fit, mean_powers


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
