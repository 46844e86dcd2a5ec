"""AdamW over the trainable parameters: weight decay on matrices only, never on norms or biases.

Each group keeps its own peak rate; a step multiplies all peaks by the schedule's share of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from charter.ground.artifact.errors import CharterError


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
