"""Fits a sum of power laws above a floor: loss = E + sum_k A_k x_k^-a_k, many resamples at once.

E and A are at least 0, the exponents are free. The fit minimises the squared error of log loss. Hoffmann et al. 2022
(arXiv 2203.15556, section 3.3) use a Huber loss on the same logs against outliers among 400 models; a ladder of few
models can't afford to discount any. Letters: R resamples, M models, K terms of a law, P = 2 K numbers of it, S starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import logsumexp

from charter.ground.measure.score import Floats

SHARES = (0.02, 0.3, 0.6, 0.9)  # initial floors of a fit, as shares of the smallest loss
SECOND = SHARES[1]  # a resample's second initial floor; the first start is the best fit to the mean
EXPONENTS = (0.1, 0.3, 0.6)  # initial exponents of a fit of two terms
ROUNDS = 100  # most steps of a fit
ENOUGH, EXACT = 1e-9, 1e-20  # a fit has converged if a step gains less than this share, or this squared error
MIN_FLOOR = 1e-6  # bits a byte; a lower floor is rounding error
STUCK = 1e6  # or if a step with this damping gains nothing


@dataclass(frozen=True, slots=True)
class Law:
    """log L = log sum_k exp(level_k - exponent_k z_k): `levels` and `exponents` [R, K], with a floor's first (its
    z is 0), and `origin` [K - floor], the log inputs at z_k = 0."""

    levels: Floats
    exponents: Floats
    origin: Floats
    floored: bool

    @property
    def floor(self) -> Floats:
        """E [R]; 0 without a floor, or if E is only rounding error."""
        if not self.floored:
            return np.zeros(len(self.levels))
        return np.where((floors := np.exp(self.levels[:, 0])) > MIN_FLOOR, floors, 0.0)

    @property
    def coefficients(self) -> list[float]:
        """A of each term A x^-a in the first resample; C0 of L(C) is A^(1/a)."""
        terms = zip(self.origin, self.levels[0, self.floored :], self.slopes, strict=True)
        return [math.exp(level + slope * at) for at, level, slope in terms]

    @property
    def slopes(self) -> list[float]:
        """The exponent of each term in the first resample."""
        return [float(x) for x in self.exponents[0, self.floored :]]

    @property
    def exponent(self) -> Floats:
        """Exponent of the last term [R]."""
        return self.exponents[:, -1]

    def at(self, *logs: float | Floats) -> Floats:
        """The loss [R] at these logs of the law's inputs."""
        z_K = np.asarray(logs) - self.origin
        parts_RK = np.exp(self.levels[:, self.floored :] - self.exponents[:, self.floored :] * z_K)
        total: Floats = self.floor + parts_RK.sum(axis=1)
        return total


def law(inputs_KM: Sequence[Floats], loss_RM: Floats, weight_RM: Floats, floored: bool = True) -> Law:
    """The law with one term per input (logs by model), for every resample of the models' losses and weights.

    Damped Gauss-Newton steps (Marquardt 1963), all resamples at once, from the best fit to their mean and from a start
    with a floor; the better fit counts.
    """
    origin_K = np.array([x.mean() for x in inputs_KM])
    z_KM = np.stack([x - at for x, at in zip(inputs_KM, origin_K, strict=True)])
    if floored:
        z_KM = np.concatenate([np.zeros_like(z_KM[:1]), z_KM])
    log_RM, mean = np.log(loss_RM), np.exp(np.log(loss_RM).mean(axis=0))
    starts_SP = np.stack(_starts(z_KM, mean, SHARES if floored else ()))
    ones = np.broadcast_to(weight_RM.mean(axis=0), (len(starts_SP), len(mean)))
    fitted_SP, cost_S = _minimise(starts_SP, z_KM, np.broadcast_to(np.log(mean), ones.shape), ones)
    best_RP, best_R = _minimise(np.repeat(fitted_SP[cost_S.argmin()][None], len(log_RM), 0), z_KM, log_RM, weight_RM)
    if floored and len(log_RM) > 1:
        other_P = _starts(z_KM, mean, (SECOND,))[0]
        other_RP, other_R = _minimise(np.repeat(other_P[None], len(log_RM), 0), z_KM, log_RM, weight_RM)
        best_RP = np.where((other_R < best_R)[:, None], other_RP, best_RP)
    terms = len(z_KM)
    return Law(best_RP[:, :terms], best_RP[:, terms:], origin_K, floored)


def _starts(z_KM: Floats, loss_M: Floats, shares: Sequence[float]) -> list[Floats]:
    """Initial parameters of a fit [P each], by the floor's share of the smallest loss, then by exponent; without shares
    there is no floor."""
    floored = bool(shares)
    powers = z_KM[floored:]
    starts = []
    for share in shares or (0.0,):
        above_floor = loss_M - share * loss_M.min()
        level = [math.log(share * loss_M.min())] if floored else []
        if len(powers) == 1:
            slope, height = np.polyfit(powers[0], np.log(above_floor), 1)
            starts.append(np.array([*level, height, *([0.0] * floored), -slope]))
            continue
        height = math.log(above_floor.mean() / len(powers))
        for exponents in product(EXPONENTS, repeat=len(powers)):
            starts.append(np.array([*level, *([height] * len(powers)), *([0.0] * floored), *exponents]))
    return starts


def _minimise(theta_RP: Floats, z_KM: Floats, log_RM: Floats, weight_RM: Floats) -> tuple[Floats, Floats]:
    """(parameters with the least weighted squared error of log L, that error [R]), from initial parameters."""
    theta_RP, damping_R = theta_RP.copy(), np.full(len(theta_RP), 1e-3)
    off_RM, slopes_RPM = _residuals(theta_RP, z_KM, log_RM)
    cost_R = (weight_RM * off_RM**2).sum(axis=1)
    moving = np.arange(len(theta_RP))
    for _ in range(ROUNDS):
        weighed_RPM = slopes_RPM[moving] * weight_RM[moving, None]
        bend_RPP = weighed_RPM @ slopes_RPM[moving].transpose(0, 2, 1)
        pull_RP = (weighed_RPM * off_RM[moving, None]).sum(axis=2)
        diagonal_RP = np.einsum("rpp->rp", bend_RPP)
        diagonal_RP += damping_R[moving, None] * diagonal_RP + 1e-12
        step_RP = np.linalg.solve(bend_RPP, pull_RP[..., None])[..., 0].clip(-2.0, 2.0)
        trial_RP = theta_RP[moving] - step_RP
        off, slopes = _residuals(trial_RP, z_KM, log_RM[moving])
        cost = (weight_RM[moving] * off**2).sum(axis=1)
        better = cost < cost_R[moving]
        settled = np.where(better, cost_R[moving] - cost <= ENOUGH * cost + EXACT, damping_R[moving] > STUCK)
        accepted = moving[better]
        theta_RP[accepted], off_RM[accepted], slopes_RPM[accepted] = (trial_RP[better], off[better], slopes[better])
        cost_R[accepted] = cost[better]
        damping_R[moving] *= np.where(better, 0.2, 5.0)
        moving = moving[~settled]
        if not len(moving):
            break
    return theta_RP, cost_R


def _residuals(theta_RP: Floats, z_KM: Floats, log_RM: Floats) -> tuple[Floats, Floats]:
    """Errors of log L [R, M], and their derivatives by each parameter [R, P, M]."""
    terms = len(z_KM)
    logs_RKM = theta_RP[:, :terms, None] - theta_RP[:, terms:, None] * z_KM
    model_RM = logsumexp(logs_RKM, axis=1)
    share_RKM = np.exp(logs_RKM - model_RM[:, None])
    return model_RM - log_RM, np.concatenate([share_RKM, -share_RKM * z_KM], axis=1)
