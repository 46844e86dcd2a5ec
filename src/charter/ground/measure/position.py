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
_BESIDE = 3  # steps of the grid beside the smallest residual that are compared again


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
        x_EB = mean_powers(np.array(BUCKETS)[filled], lengths_B, EXPONENTS[:, None])
        known_N = np.isfinite(loss_NB).all(axis=1)
        fits[known_N] = _best_fit(loss_NB[known_N], x_EB)
    return fits.reshape(*sums.shape[:-1], 3)


def _best_fit(loss_NB: Floats, x_EB: Floats) -> Floats:
    """(c0, c, a) [N, 3] with the smallest residual over the grid of exponents, whose mean powers are x.

    How much of the squares each line explains comes from products, whose rounding matters where lines hardly differ. So
    the exponents beside the best are compared again by their residuals.
    """
    buckets, mean_E, square_E = x_EB.shape[1], x_EB.mean(axis=1), (x_EB**2).sum(axis=1)
    centred_EB, mean_N1 = x_EB - mean_E[:, None], loss_NB.mean(axis=1, keepdims=True)
    spread_E = (centred_EB**2).sum(axis=1)
    product_NE, slope_NE = loss_NB @ x_EB.T, loss_NB @ (centred_EB / spread_E[:, None]).T
    through_origin_NE = slope_NE * mean_E > mean_N1  # the constant would be negative
    explained_NE = np.where(
        through_origin_NE, product_NE**2 / square_E - buckets * mean_N1**2, slope_NE**2 * spread_E
    )
    beside = np.arange(-_BESIDE, _BESIDE + 1)
    near_NK = np.clip(explained_NE.argmax(axis=1)[:, None] + beside, 0, len(x_EB) - 1)
    rows_N1 = np.arange(len(loss_NB))[:, None]
    constant_NK = np.maximum(mean_N1 - slope_NE[rows_N1, near_NK] * mean_E[near_NK], 0.0)
    slope_NK = np.where(
        through_origin_NE[rows_N1, near_NK],
        product_NE[rows_N1, near_NK] / square_E[near_NK],
        slope_NE[rows_N1, near_NK],
    )
    fitted_NKB = constant_NK[..., None] + slope_NK[..., None] * x_EB[near_NK]
    best_N1 = ((fitted_NKB - loss_NB[:, None]) ** 2).sum(axis=2).argmin(axis=1)[:, None]
    parts = (constant_NK, slope_NK, EXPONENTS[near_NK])
    return np.concatenate([np.take_along_axis(part, best_N1, axis=1) for part in parts], axis=1)


def mean_powers(starts: npt.ArrayLike, counts: npt.ArrayLike, exponent: npt.ArrayLike) -> Floats:
    """Mean of t^-exponent over `counts` positions from each of `starts` [B]; far positions by the integral (midpoint
    rule, within 1e-6). Of exponents [E, 1] it is [E, B]."""
    first, lengths, power = np.asarray(starts, float), np.asarray(counts, float), np.asarray(exponent, float)
    powers = np.cumsum(np.arange(1, _SUMMED) ** -power, axis=-1)
    powers = np.concatenate([np.zeros((*powers.shape[:-1], 1)), powers], axis=-1)
    near = np.minimum(first + lengths, _SUMMED).astype(int)
    near_sums = powers[..., near - 1] - powers[..., np.minimum(first, near).astype(int) - 1]
    low, high = first - 0.5, first + lengths - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (high ** (1 - power) - low ** (1 - power)) / (1 - power)
    area = np.where(power == 1, np.log(high / low), area)
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
