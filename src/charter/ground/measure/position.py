"""Loss by token position: buckets that double, and the fit of a power law plus a constant (card section 4.2).

The card's form is L(t) = c0 + c t^-a, with a = 0.59 and c0 = 0.31 over 200K tokens of Claude 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Floats, Table, sum_by_cluster, tabulate

BUCKETS = tuple(2**k for k in range(18))  # first positions; the last ends at 262,143
MIDDLES = np.array([start * 2**0.5 for start in BUCKETS])  # geometric: where plots show a bucket
LEAST_BUCKETS = 5  # the fit has three parameters
EXPONENTS = np.arange(0.02, 2.0001, 0.005)
_SUMMED = 512  # positions whose powers are summed exactly


def bucket_of(position: int) -> int:
    """The first position of a position's bucket: 1, 2, 4, 8 ... (positions count from 1)."""
    return 1 << (position.bit_length() - 1)


def loss_of(start: int) -> Callable[[Sequence[Row]], Table]:
    """Nats per token in the bucket that begins at `start`, clustered by document."""
    key = str(start)
    return lambda rows: tabulate(
        (str(r["id"]), r["nats"][key], r["tokens"][key]) for r in rows if key in r["nats"]
    )


def fit(sums: Floats) -> Floats:
    """(c0, c, a) of L(t) = c0 + c t^-a with c0 >= 0, for sums [..., 2 B] of nats and tokens by bucket: [..., 3].

    Least squares of the buckets' mean losses on the means of t^-a over their positions. Each bucket counts once, which
    is uniform in log t. For each exponent of a grid the other two parameters have a closed form; the exponent with the
    smallest residual wins. Documents have one length. nan if fewer than LEAST_BUCKETS buckets have tokens.
    """
    flat = sums.reshape(-1, 2 * len(BUCKETS))
    nats, tokens = flat[:, : len(BUCKETS)], flat[:, len(BUCKETS) :]
    filled = tokens.sum(axis=0) > 0
    fits = np.full((len(flat), 3), np.nan)
    if filled.sum() >= LEAST_BUCKETS:
        with np.errstate(divide="ignore", invalid="ignore"):
            loss_NB = nats[:, filled] / tokens[:, filled]
        lengths_B = tokens.sum(axis=0)[filled] / tokens[:, 0].sum()  # each document has one position 1
        best_N = np.full(len(flat), np.inf)
        for exponent in EXPONENTS:
            x_B = mean_powers(np.array(BUCKETS)[filled], lengths_B, exponent)
            slope_N = (loss_NB @ (x_B - x_B.mean())) / ((x_B - x_B.mean()) ** 2).sum()
            constant_N = loss_NB.mean(axis=1) - slope_N * x_B.mean()
            through_N = (loss_NB @ x_B) / (x_B @ x_B)
            slope_N = np.where(constant_N < 0, through_N, slope_N)
            constant_N = np.maximum(constant_N, 0.0)
            residual_N = ((constant_N[:, None] + slope_N[:, None] * x_B - loss_NB) ** 2).sum(axis=1)
            better = residual_N < best_N
            best_N[better] = residual_N[better]
            fits[better] = np.stack([constant_N, slope_N, np.full(len(flat), exponent)], 1)[better]
    return fits.reshape(*sums.shape[:-1], 3)


def mean_powers(starts: npt.ArrayLike, counts: npt.ArrayLike, exponent: float) -> Floats:
    """Mean of t^-exponent over `counts` positions from each of `starts`; far positions by the integral (midpoint rule,
    within 1e-6)."""
    first, lengths = np.asarray(starts, float), np.asarray(counts, float)
    powers = np.concatenate([[0.0], np.cumsum(np.arange(1, _SUMMED) ** -exponent)])
    near = np.minimum(first + lengths, _SUMMED).astype(int)
    near_sums = powers[near - 1] - powers[np.minimum(first, near).astype(int) - 1]
    low, high = first - 0.5, first + lengths - 0.5
    if exponent == 1:
        area = np.log(high / low)
    else:
        area = (high ** (1 - exponent) - low ** (1 - exponent)) / (1 - exponent)
    means: Floats = np.where(first + lengths <= _SUMMED, near_sums, area) / lengths
    return means


def fitted_constant(sums: Floats) -> Floats:
    """c0 of the fit, in nats."""
    return fit(sums)[..., 0]


def fitted_exponent(sums: Floats) -> Floats:
    """a of the fit."""
    return fit(sums)[..., 2]


def fit_table(statistic: Callable[[Floats], Floats]) -> Callable[[Sequence[Row]], Table]:
    """A number of the fit, clustered by document."""

    def each(rows: Sequence[Row]) -> Table:
        by_bucket = (
            (
                str(r["id"]),
                [r[part].get(str(start), 0.0) for part in ("nats", "tokens") for start in BUCKETS],
                0,
            )
            for r in rows
        )
        return sum_by_cluster(by_bucket, 2 * len(BUCKETS), statistic)

    return each
