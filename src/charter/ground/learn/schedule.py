"""Learning-rate schedules as one pure function of the step."""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["constant", "linear", "cosine"]


def lr_share(step: int, total: int, warmup: int = 0, kind: Kind = "constant") -> float:
    """Share of the peak learning rate at `step` (0-based) of `total`: linear warm-up over `warmup` steps, then `kind`
    towards 0. The first step of a warm-up is not 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    share = 1 - progress if kind == "linear" else 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return max(0.0, share)


def trapezoid(step: int, total: int, warmup: int, decay: int) -> float:
    """Share of the peak at `step` (0-based) of `total`: linear warm-up, a plateau, and a linear fall over the last
    `decay` steps that would reach 0 one step after the last (Hägele 2024)."""
    rising = (step + 1) / (warmup + 1) if step < warmup else 1.0
    falling = (total - step) / (decay + 1) if step >= total - decay else 1.0
    return max(0.0, min(rising, falling))
