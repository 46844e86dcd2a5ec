"""Logistic regression on vectors: binary and multinomial, L2 chosen by cross-validation, deterministic.

    minimise  mean_i w_i * -log softmax(W x_i + b)[y_i]  +  |W|^2 / (2 C n)

x is standardised; the bias isn't penalised. LBFGS in float64 from zero has no randomness; folds are split by group,
so variants of one text are never on both sides. Letters: N texts, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # C
FOLDS = 5
STEPS = 200


@dataclass(frozen=True, slots=True)
class Regression:
    """Weights [F, K] and bias [K] on standardised features; mean and scale [F]."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def probabilities(self, x_NF: Floats) -> Floats:
        """[N, K], rows sum to 1."""
        shares_NK: Floats = softmax((x_NF - self.mean) / self.scale @ self.weight + self.bias, axis=1)
        return shares_NK


@dataclass(frozen=True, slots=True)
class Fitted:
    """A regression, each text's held-out probabilities [N, K], the chosen strength, and the mean held-out loss."""

    regression: Regression
    held_out: Floats
    strength: float
    loss: float


def fit(
    x_NF: Floats,
    y_N: Sequence[int],
    classes: int,
    groups: Sequence[int],
    strengths: Sequence[float] = STRENGTHS,
) -> Fitted:
    """The regression with the strength that predicts held-out folds best; `groups` [N]: texts with
    the same number stay in the same fold."""
    y = np.asarray(y_N)
    folds = np.asarray(groups) % FOLDS
    best: tuple[float, float, Floats] | None = None
    for strength in strengths:
        held_out = np.zeros((len(y), classes))
        for fold in range(FOLDS):
            inside = folds == fold
            if inside.any() and not inside.all():
                held_out[inside] = solve(x_NF[~inside], y[~inside], classes, strength).probabilities(
                    x_NF[inside]
                )
        loss = float(-np.log(held_out[np.arange(len(y)), y] + 1e-12).mean())
        if best is None or loss < best[0]:
            best = loss, strength, held_out
    assert best is not None
    loss, strength, held_out = best
    return Fitted(solve(x_NF, y, classes, strength), held_out, strength, loss)


def solve(x_NF: Floats, y_N: NDArray[np.int64], classes: int, strength: float) -> Regression:
    """The minimum for one strength."""
    mean, scale = x_NF.mean(0), x_NF.std(0) + 1e-6
    x, n, width = (x_NF - mean) / scale, len(y_N), x_NF.shape[1]
    truth = np.eye(classes)[y_N]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weight, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        logs = log_softmax(x @ weight + bias, axis=1)
        error = (np.exp(logs) - truth) / n
        penalty = (weight**2).sum() / (2 * strength * n)
        slope = np.concatenate([(x.T @ error + weight / (strength * n)).ravel(), error.sum(0)])
        return float(-(logs * truth).sum() / n + penalty), slope

    flat_best = minimize(
        loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    ).x
    return Regression(
        mean, scale, flat_best[: width * classes].reshape(width, classes), flat_best[width * classes :]
    )
