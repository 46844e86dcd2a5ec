"""One optimizer step: check, clip, set the rate, update; and the switch from float32 to the run's precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from charter.ground.artifact.errors import CharterError
from charter.ground.learn.optimizer import parameters_of
from charter.ground.learn.parallel import whole


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """bfloat16 products over float32 weights if `precision` says so; float32 changes nothing (it is fast on CPUs)."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def check_finite(value: float, what: str, step: int, batch: Sequence[str]) -> None:
    """Raises CharterError, with the step and the batch's documents, if a loss is NaN or infinite."""
    if not math.isfinite(value):
        names = ", ".join(batch[:8]) + (", ..." if len(batch) > 8 else "")
        raise CharterError(
            f"{what} became {value} at step {step} on documents [{names}]; "
            "lower the learning rate or check these documents, then run again"
        )


def backward(loss: torch.Tensor) -> float:
    """Add the gradient of a loss to the accumulated one; returns the loss."""
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def update(optimizer: torch.optim.Optimizer, share: float, clip: float) -> float:
    """Clip the gradient to norm `clip` (0: never), step at `share` of each group's peak rate, clear the
    gradients; returns the norm. With a non-finite norm it takes no step; `check_finite` reports it."""
    norm = clip_gradients(optimizer, clip)
    if math.isfinite(norm):
        advance(optimizer, share)
    optimizer.zero_grad(set_to_none=True)
    return norm


def clip_gradients(optimizer: torch.optim.Optimizer, clip: float) -> float:
    """Clip the gradient to norm `clip` (0: never); returns the norm that it had."""
    norm = torch.nn.utils.clip_grad_norm_(parameters_of(optimizer), clip if clip > 0 else math.inf)
    return whole(norm).item()


def advance(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Step at `share` of each group's peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak"]
    optimizer.step()
