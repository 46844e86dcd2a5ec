"""Rates corrected for the errors of the judge that counted them (Rogan and Gladen 1978).

With p the share that a judge finds, Se its sensitivity (what it finds of what is there) and Sp its specificity (what it
leaves alone of what isn't), both from replies that people labelled:

    corrected = (p + Sp - 1) / (Se + Sp - 1),    within [0, 1]

Se + Sp - 1 (Youden's J) is 1 for a perfect judge and 0 for one that guesses. Near 0 the quotient means nothing, so a
judge whose J may be below `WEAK` (lower end of its 95 % interval) gives no corrected rate.
The interval draws all three: p by clustered resampling, Se and Sp from Jeffreys' posteriors of the labelled rows. It
assumes that the judge errs on the model's replies as on the labelled ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from charter.ground.measure.intervals import FEW, ends, posterior, resample
from charter.ground.measure.score import Floats, Table, ratio

WEAK = 0.3
LEAST = 1e-9
# of the draws, so that those of rate, sensitivity and specificity are independent
RATE, SENSITIVITY, SPECIFICITY = range(3)


@dataclass(frozen=True, slots=True)
class Corrected:
    """A corrected rate with its 95 % interval, and the lower end of the judge's J."""

    value: float
    low: float
    high: float
    least_j: float


def correct_rate(rate: float, sensitivity: float, specificity: float) -> float:
    """The corrected rate. Raises ValueError for a judge no better than guessing (Se + Sp <= 1)."""
    if sensitivity + specificity <= 1:
        raise ValueError(
            f"sensitivity {sensitivity:g} and specificity {specificity:g} are those of a guess; expected a sum above 1"
        )
    return min(1.0, max(0.0, (rate + specificity - 1) / (sensitivity + specificity - 1)))


def least_j(sensitivity: Table, specificity: Table) -> float:
    """The lower end of the 95 % interval of Se + Sp - 1, from the labelled rows."""
    return ends(_j(sensitivity, specificity))[0]


def correct(rate: Table, sensitivity: Table, specificity: Table) -> Corrected | None:
    """The corrected rate of a table of found and not found; None if the judge is too weak for one."""
    j = _j(sensitivity, specificity)
    least = ends(j)[0]
    if least < WEAK or sensitivity.value + specificity.value <= 1:
        return None
    value = correct_rate(rate.value, sensitivity.value, specificity.value)
    spared = posterior(specificity, SPECIFICITY)
    draws = np.clip((_rates(rate) + spared - 1) / np.maximum(j, LEAST), 0.0, 1.0)
    low, high = ends(draws)
    return Corrected(value, min(low, value), max(high, value), least)


def why_none(sensitivity: Table, specificity: Table) -> str:
    """Why there is no corrected rate; "" if there is one."""
    if (least := least_j(sensitivity, specificity)) >= WEAK:
        return ""
    return (
        f"grader too weak for a corrected rate: sensitivity + specificity - 1 may be {least:.2f}, "
        f"expected at least {WEAK:g}"
    )


def _j(sensitivity: Table, specificity: Table) -> Floats:
    return posterior(sensitivity, SENSITIVITY) + posterior(specificity, SPECIFICITY) - 1


def _rates(table: Table) -> Floats:
    """Draws of a measured rate. With few clusters that have a yes, or a no, resamples vary too little."""
    if min((table.num > 0).sum(), (table.num < table.den).sum()) < FEW:
        return posterior(table, RATE)
    return resample(replace(table, statistic=ratio))
