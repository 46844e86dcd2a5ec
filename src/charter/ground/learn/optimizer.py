"""AdamW over the trainable parameters, and learning-rate schedules as pure functions of the step.

Weight decay acts on matrices only, never on norms or biases. Each group keeps its own peak rate; a step multiplies all
peaks by the schedule's share of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import nn

from charter.ground.artifact.errors import CharterError

Kind = Literal["constant", "linear", "cosine"]


def adamw(
    rates: Sequence[tuple[Iterable[nn.Parameter], float]],
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """Fused AdamW (Loshchilov 2017) over (parameters, peak learning rate) groups, without frozen parameters."""
    groups = []
    for parameters, peak in rates:
        trainable = [p for p in parameters if p.requires_grad]
        for members, decay in (
            ([p for p in trainable if p.ndim >= 2], weight_decay),
            ([p for p in trainable if p.ndim < 2], 0.0),
        ):
            if members:
                groups.append({"params": members, "weight_decay": decay, "peak": peak, "lr": peak})
    if not groups:
        raise CharterError("nothing to train: no parameter requires a gradient; check the LoRA settings")
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=True)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters of the optimizer, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


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
