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
    done = (step - warmup) / max(1, total - warmup)
    share = 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return max(0.0, share)
