"""Proximal policy optimisation as pure functions of tensors; every sequence is ragged, no padding anywhere.

Shape letters: N reply tokens of a batch, laid end to end; R tokens of one reply.

Sources: Schulman 2017 (clip), Schulman 2015 (GAE), Ziegler 2019 (adaptive KL), Bai 2022a section 4.1
(r = r_PM - lambda * KL, one end reward).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def rewards(scores: Sequence[float], kl_N: Tensor, lengths: Sequence[int], lam: float, per_token: bool) -> Tensor:
    """Reward of each reply token, [N]: the preference score on the last token of its reply, minus lambda * KL, either
    at each token or summed over the reply at its last token."""
    out = -lam * kl_N if per_token else torch.zeros_like(kl_N)
    at = 0
    for score, length in zip(scores, lengths, strict=True):
        last = at + length - 1
        out[last] += score
        if not per_token:
            out[last] -= lam * kl_N[at : at + length].sum()
        at += length
    return out


def advantages(
    rewards_N: Tensor, values_N: Tensor, lengths: Sequence[int], gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, both [N]; nothing follows the last token of a reply.

    delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lam A_{t+1},  return_t = A_t + V_t.
    """
    out = torch.zeros_like(rewards_N)
    at = 0
    for length in lengths:
        after, value_after = 0.0, 0.0
        for t in range(at + length - 1, at - 1, -1):
            value = float(values_N[t])
            delta = float(rewards_N[t]) + gamma * value_after - value
            after = delta + gamma * lam * after
            out[t] = after
            value_after = value
        at += length
    return out, out + values_N


def whiten(values_N: Tensor, eps: float = 1e-8) -> Tensor:
    """Mean 0, variance 1 over the batch; a constant batch becomes zeros.

    In float64: the mean of equal float32 numbers can miss them by more than `eps`.
    """
    wide_N = values_N.double()
    centred_N = wide_N - wide_N.mean()
    return (centred_N / (centred_N.square().mean().sqrt() + eps)).to(values_N.dtype)


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """Sums over tokens: the clipped objective, the clipped tokens, and the drift from the old policy in nats, as
    ratio - 1 - log ratio, which is never negative (Schulman 2020)."""

    loss: Tensor
    clipped: float
    approx_kl: float


def policy_loss(new_N: Tensor, old_N: Tensor, advantages_N: Tensor, clip: float) -> PolicyLoss:
    """Sum over N of -min(ratio * A, clip(ratio, 1 - c, 1 + c) * A) with ratio = exp(new - old)."""
    ratio_N = torch.exp(new_N - old_N)
    plain = ratio_N * advantages_N
    bounded = ratio_N.clamp(1 - clip, 1 + clip) * advantages_N
    with torch.no_grad():
        clipped = float((bounded < plain).sum())
        drift = float((ratio_N - 1 - (new_N - old_N)).sum())
    return PolicyLoss(-torch.minimum(plain, bounded).sum(), clipped, drift)


def value_loss(new_N: Tensor, old_N: Tensor, returns_N: Tensor, clip: float) -> Tensor:
    """Sum over N of half the squared error, the worse of free and clipped around the old value (clip 0:
    free)."""
    free = (new_N - returns_N).square()
    if clip <= 0:
        return 0.5 * free.sum()
    near = old_N + (new_N - old_N).clamp(-clip, clip)
    return 0.5 * torch.maximum(free, (near - returns_N).square()).sum()


def explained_variance(values_N: Tensor, returns_N: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns). 0 for constant values, negative if worse than that; 0 too if all
    returns are equal."""
    returns_N, values_N = returns_N.double(), values_N.double()
    spread = float(returns_N.var(unbiased=False))
    if spread <= 1e-20 * float(returns_N.square().mean()):
        # equal returns up to rounding: there is nothing to explain
        return 0.0
    return 1 - float((returns_N - values_N).var(unbiased=False)) / spread


def adapt(coefficient: float, kl: float, target: float, horizon: float, steps: int) -> float:
    """Adaptive KL coefficient: proportional control towards `target` nats a reply. The error is clipped to +-20 %, and
    so is the change of one round, however short the horizon."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return coefficient * (1 + error * min(1.0, steps / horizon))
