"""Loss by token position: buckets that double, and the fit of a power law plus a constant (card section 4.2).

The card's form is L(t) = c0 + c t^-a, with a = 0.59 and c0 = 0.31 over 200K tokens of Claude 2.

Least squares always return some exponent. `why_no_law` says when it means nothing; then no exponent is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, fdtri

from charter.ground.measure.counts import Row
from charter.ground.measure.score import Floats, Table, sum_by_cluster, tabulate

BUCKETS = tuple(2**k for k in range(18))  # first positions; the last ends at 262,143
MIDDLES = np.array([start * 2**0.5 for start in BUCKETS])  # geometric: where plots show a bucket
LEAST_BUCKETS = 5  # the fit has three parameters
EXPONENTS = np.arange(0.02, 2.0001, 0.005)
CARD_EXPONENT, CARD_CONSTANT, CARD_LENGTH = 0.59, 0.31, 200_000  # of Claude 2
ALPHA = 0.05
_SUMMED = 512  # positions whose powers are summed exactly
_BESIDE = 3  # steps of the grid beside the smallest residual that are compared again


def bucket_of(position: int) -> int:
    """The first position of a position's bucket: 1, 2, 4, 8 ... (positions count from 1)."""
    return 1 << (position.bit_length() - 1)


def loss_of(start: int) -> Callable[[Sequence[Row]], Table]:
    """Nats per token in the bucket that begins at `start`, clustered by document."""
    key = str(start)
    return lambda rows: tabulate((str(r["id"]), r["nats"][key], r["tokens"][key]) for r in rows if key in r["nats"])


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
    explained_NE = np.where(through_origin_NE, product_NE**2 / square_E - buckets * mean_N1**2, slope_NE**2 * spread_E)
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
    ratio, rise = np.log(high / low), 1 - power
    # near exponent 1 a difference of powers would be rounding alone
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.where(rise == 0, ratio, low**rise * np.expm1(rise * ratio) / rise)
    means: Floats = np.where(first + lengths <= _SUMMED, near_sums, area) / lengths
    return means


def fitted_constant(sums: Floats) -> Floats:
    """c0 of the fit, in nats."""
    return fit(sums)[..., 0]


def fitted_exponent(sums: Floats) -> Floats:
    """a of the fit."""
    return fit(sums)[..., 2]


def why_no_law(sums: Floats) -> str:
    """Why sums [2 B] of nats and tokens by bucket give no power law plus a constant; "" if they give one.

    There is none with too few buckets; if loss rises; if the law explains no more than a constant (F test of the
    buckets' means); if a parameter is on its bound; or if the steepest or the flattest exponent fits as well (95 %
    profile of the residuals), which is how a search that doesn't converge ends.
    """
    nats, tokens = sums[: len(BUCKETS)], sums[len(BUCKETS) :]
    filled = tokens > 0
    count = int(filled.sum())
    if count < LEAST_BUCKETS:
        return f"{count} buckets of positions have tokens; the fit needs {LEAST_BUCKETS}"
    loss_B = nats[filled] / tokens[filled]
    constant, slope, exponent = (float(x) for x in fit(sums))
    residual_E = _residuals(loss_B, np.array(BUCKETS)[filled], tokens[filled] / tokens[0])
    least, free = float(residual_E.min()), count - 3
    around_mean = float(((loss_B - loss_B.mean()) ** 2).sum())
    if around_mean == 0 or float(fdtrc(2, free, (around_mean - least) / 2 / max(least / free, 1e-300))) > ALPHA:
        return "the law explains the losses no better than a constant"
    if slope < 0:
        return "loss rises with the position"
    ends = f"of the exponents tried, {EXPONENTS[0]:.2f} to {EXPONENTS[-1]:.2f}"
    if np.isclose(exponent, EXPONENTS[[0, -1]]).any():
        return f"the exponent {exponent:.2f} is on a bound {ends}"
    if constant == 0:
        return "the constant is on its bound, 0"
    alike = EXPONENTS[residual_E <= least * (1 + float(fdtri(1, free, 1 - ALPHA)) / free)]
    if np.isclose(alike[[0, -1]], EXPONENTS[[0, -1]]).any():
        return f"{ends}, all from {alike[0]:.2f} to {alike[-1]:.2f} fit as well"
    return ""


def _residuals(loss_B: Floats, starts_B: npt.NDArray[np.int_], lengths_B: Floats) -> Floats:
    """Squared residuals of the best line with a constant of at least 0, for each exponent of the grid [E]."""
    x_EB = mean_powers(starts_B, lengths_B, EXPONENTS[:, None])
    off_EB = x_EB - x_EB.mean(axis=1, keepdims=True)
    slope_E = (off_EB * loss_B).sum(axis=1) / (off_EB**2).sum(axis=1)
    constant_E = loss_B.mean() - slope_E * x_EB.mean(axis=1)
    through_origin_E = (x_EB * loss_B).sum(axis=1) / (x_EB**2).sum(axis=1)
    slope_E = np.where(constant_E < 0, through_origin_E, slope_E)
    fitted_EB = np.maximum(constant_E, 0.0)[:, None] + slope_E[:, None] * x_EB
    squares: Floats = ((fitted_EB - loss_B) ** 2).sum(axis=1)
    return squares


def card_scale(sums: Floats) -> float:
    """c of the card's law, its exponent and constant kept, by least squares on the losses of sums [2 B]: the card does
    not publish it."""
    nats, tokens = sums[: len(BUCKETS)], sums[len(BUCKETS) :]
    filled = tokens > 0
    powers_B = mean_powers(np.array(BUCKETS)[filled], tokens[filled] / tokens[0], CARD_EXPONENT)
    return float((powers_B * (nats[filled] / tokens[filled] - CARD_CONSTANT)).sum() / (powers_B**2).sum())


def bucket_table(rows: Sequence[Row], statistic: Callable[[Floats], Floats]) -> Table:
    """Sums of nats and tokens by bucket, clustered by document."""
    by_bucket = (
        (str(r["id"]), [r[part].get(str(start), 0.0) for part in ("nats", "tokens") for start in BUCKETS], 0)
        for r in rows
    )
    return sum_by_cluster(by_bucket, 2 * len(BUCKETS), statistic)


def fit_table(statistic: Callable[[Floats], Floats]) -> Callable[[Sequence[Row]], Table]:
    """A number of the fit, clustered by document; empty if there is no law."""

    def each(rows: Sequence[Row]) -> Table:
        table = bucket_table(rows, statistic)
        return tabulate(()) if why_no_law(table.sums.sum(axis=0)) else table

    return each
