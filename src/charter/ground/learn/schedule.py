"""Learning-rate schedules as one pure function of the step."""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["constant", "linear", "cosine"]


def lr_at(
    step: int, total: int, peak: float, warmup: int = 0, kind: Kind = "constant", final: float = 0.0
) -> float:
    """Learning rate of `step` (0-based) of `total`: linear warm-up over `warmup` steps, then `kind` towards
    `final * peak`. The first step of a warm-up is not 0, the last step of a decay is not below the floor."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if kind == "constant":
        return peak
    done = (step - warmup) / max(1, total - warmup)
    share = 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return peak * (final + (1 - final) * max(0.0, share))
