"""Losses as functions of tensors, none of which ever holds a full `tokens x vocabulary` float tensor.

Shape letters: N tokens that count, D width, V vocabulary, C rows of one chunk, B pairs.

Source: preference loss, Bai 2022a (2204.05862) section 2.3, with the soft targets of Bai 2022b (2212.08073)
section 4.1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from charter.ground.model.linear import product

CHUNK = 512


def _logits(hidden_CD: Tensor, weight_VD: Tensor) -> Tensor:
    return product(hidden_CD, weight_VD.to(hidden_CD.dtype)).float()


def _narrow(x: Tensor) -> Tensor:
    """In autocast's type: cast once, not again for each chunk."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _add_gradients(
    grad_hidden: Tensor | None,
    grad_weight: Tensor | None,
    rows: slice,
    grad_CV: Tensor,
    hidden_CD: Tensor,
    weight_VD: Tensor,
) -> None:
    """From the gradient of a chunk's logits: sets that of its states, and adds that of the head. None skips one."""
    if grad_hidden is not None:
        grad_hidden[rows] = product(grad_CV, weight_VD.to(grad_CV.dtype).t())
    if grad_weight is not None:
        grad_weight += product(grad_CV.t(), hidden_CD.t()).to(grad_weight.dtype)


def _take_gradients(ctx: Any, grads: tuple[Tensor, ...]) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of states and head from the forward pass of a sum, times the incoming gradient."""
    if ctx.grads is None:
        raise RuntimeError("this sum keeps its gradients for one backward pass; run it forward again")
    (grad,), (hidden, weight) = grads, ctx.grads
    ctx.grads = None
    return (
        None if hidden is None else hidden.mul_(grad.to(hidden.dtype)),
        None if weight is None else weight.mul_(grad.to(weight.dtype)),
    )


class _CrossEntropySum(torch.autograd.Function):
    """Sum of weighted cross-entropies whose gradients are computed in the forward pass, chunk by chunk.

    The loss is linear in the incoming gradient, so forward can finish the work: the logits of a chunk are
    computed once, used for loss and gradient, and dropped. Nothing is recomputed in backward.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk: int
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        hidden_ND, weight_VD = _narrow(hidden_ND), _narrow(weight_VD)
        for at in range(0, len(targets_N), chunk):
            rows = slice(at, at + chunk)
            hidden_CD, target_C, weight_C = hidden_ND[rows], targets_N[rows], weights_N[rows]
            logits_CV = _logits(hidden_CD, weight_VD)
            picked_C = logits_CV.gather(1, target_C[:, None])[:, 0]
            # log-sum-exp and softmax by one exponential, in the place of the logits
            top_C = logits_CV.amax(-1)
            exp_CV = logits_CV.sub_(top_C[:, None]).exp_()
            sum_C = exp_CV.sum(-1)
            total += ((top_C + sum_C.log() - picked_C) * weight_C).sum()
            if grad_hidden is None and grad_weight is None:
                continue
            grad_CV = exp_CV.mul_((weight_C / sum_C)[:, None])
            grad_CV = grad_CV.scatter_add_(1, target_C[:, None], -weight_C[:, None]).to(hidden_CD.dtype)
            _add_gradients(grad_hidden, grad_weight, rows, grad_CV, hidden_CD, weight_VD)
        ctx.grads = (grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *_take_gradients(ctx, grads), None, None, None


def cross_entropy_sum(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, weights_N: Tensor, chunk: int = CHUNK
) -> Tensor:
    """Sum over tokens of weight * -log p(target), in nats; rows of weight 0 never meet the vocabulary.

    hidden [N, D], head weight [V, D], targets [N] int64, weights [N] float. The caller divides by the total weight: it
    knows the total of the whole optimizer step.
    """
    keep = weights_N.nonzero()[:, 0]
    if len(keep) < len(weights_N):
        hidden_ND, targets_N, weights_N = hidden_ND[keep], targets_N[keep], weights_N[keep]
    out: Tensor = _CrossEntropySum.apply(hidden_ND, weight_VD, targets_N, weights_N.float(), chunk)  # type: ignore[no-untyped-call]
    return out


class _DivergenceSum(torch.autograd.Function):
    """Sum of weighted KL(p || q) of a fixed p and a trained q; gradients are computed in the forward pass, as above.

    KL = sum over v of p_v (log p_v - log q_v), and dKL/dlogits_v = q_v - p_v.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        fixed_ND: Tensor,
        fixed_VD: Tensor,
        weights_N: Tensor,
        chunk: int,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        hidden_ND, weight_VD, fixed_ND, fixed_VD = map(_narrow, (hidden_ND, weight_VD, fixed_ND, fixed_VD))
        for at in range(0, len(weights_N), chunk):
            rows = slice(at, at + chunk)
            hidden_CD, weight_C = hidden_ND[rows], weights_N[rows]
            q_CV, p_CV = _logits(hidden_CD, weight_VD), _logits(fixed_ND[rows], fixed_VD)
            apart_CV = p_CV - q_CV
            top_q_C, top_p_C = q_CV.amax(-1), p_CV.amax(-1)
            # from here on exponentials in the place of the logits: q and p up to their sums
            q_CV.sub_(top_q_C[:, None]).exp_()
            p_CV.sub_(top_p_C[:, None]).exp_()
            sum_q_C, sum_p_C = q_CV.sum(-1), p_CV.sum(-1)
            mean_C = torch.bmm(p_CV[:, None, :], apart_CV[:, :, None])[:, 0, 0] / sum_p_C
            log_z_C = top_q_C + sum_q_C.log() - top_p_C - sum_p_C.log()
            total += ((mean_C + log_z_C) * weight_C).sum()
            if grad_hidden is None and grad_weight is None:
                continue
            grad_CV = q_CV.mul_((weight_C / sum_q_C)[:, None]).sub_(p_CV.mul_((weight_C / sum_p_C)[:, None]))
            grad_CV = grad_CV.to(hidden_CD.dtype)
            _add_gradients(grad_hidden, grad_weight, rows, grad_CV, hidden_CD, weight_VD)
        ctx.grads = (grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *_take_gradients(ctx, grads), None, None, None, None


def divergence_sum(
    hidden_ND: Tensor, weight_VD: Tensor, fixed_ND: Tensor, fixed_VD: Tensor, weights_N: Tensor, chunk: int = CHUNK // 4
) -> Tensor:
    """Sum over places of weight * KL(p || q) in nats. p: distribution of the next token by the fixed states and head;
    q: that by `hidden` and `weight`. Only q has gradients.

    States [N, D], heads [V, D], weights [N]. The caller divides by the total weight, as above.
    """
    out: Tensor = _DivergenceSum.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, fixed_ND.detach(), fixed_VD.detach(), weights_N.float(), chunk
    )
    return out


class _TokenLogProbs(torch.autograd.Function):
    """log p(target) per token, with logits recomputed by chunk in backward, so memory stays linear in N.

    Logits are float32 even under autocast: their rounding in bfloat16 is as large as the steps that PPO takes.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        log_probs, entropies, log_zs = [], [], []
        for at in range(0, len(targets_N), chunk):
            rows = slice(at, at + chunk)
            logits_CV = _logits(hidden_ND[rows], weight_VD).div_(temperature)
            log_z_C = torch.logsumexp(logits_CV, dim=-1)
            log_probs.append(logits_CV.gather(1, targets_N[rows][:, None])[:, 0] - log_z_C)
            probs_CV = (logits_CV - log_z_C[:, None]).exp_()
            entropies.append(log_z_C - (probs_CV * logits_CV).sum(-1))
            log_zs.append(log_z_C)
        empty = hidden_ND.new_zeros(0, dtype=torch.float32)
        log_z_N = torch.cat(log_zs) if log_zs else empty
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, log_z_N)
        ctx.temperature, ctx.chunk = temperature, chunk
        entropy_N = torch.cat(entropies) if entropies else empty
        ctx.mark_non_differentiable(entropy_N)
        return (torch.cat(log_probs) if log_probs else empty), entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with _full(ctx.saved_tensors[0]):
            return _token_logprob_grads(ctx, grads[0])


def _token_logprob_grads(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
    hidden_ND, weight_VD, targets_N, log_z_N = ctx.saved_tensors
    grad_hidden = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
    grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
    for at in range(0, len(targets_N), ctx.chunk):
        rows = slice(at, at + ctx.chunk)
        hidden_CD = hidden_ND[rows]
        logits_CV = _logits(hidden_CD, weight_VD).div_(ctx.temperature)
        minus_CV = logits_CV.sub_(log_z_N[rows][:, None]).exp_()
        minus_CV.scatter_add_(1, targets_N[rows][:, None], torch.full_like(log_z_N[rows], -1.0)[:, None])
        grad_CV = minus_CV.mul_((-grad_N[rows] / ctx.temperature)[:, None]).to(hidden_CD.dtype)
        _add_gradients(grad_hidden, grad_weight, rows, grad_CV, hidden_CD, weight_VD)
    return grad_hidden, grad_weight, None, None, None


def token_logprobs(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, temperature: float = 1.0, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Log-probability [N] of each target (differentiable) and entropy [N] of its distribution (not), in nats."""
    with _full(hidden_ND):
        log_probs, entropy = _TokenLogProbs.apply(hidden_ND, weight_VD, targets_N, temperature, chunk)  # type: ignore[no-untyped-call]
    return log_probs, entropy


def _full(hidden_ND: Tensor) -> torch.autocast:
    """No autocast inside."""
    return torch.autocast(hidden_ND.device.type, enabled=False)


def preference_loss(chosen_B: Tensor, rejected_B: Tensor, p_chosen_B: Tensor) -> Tensor:
    """Per-pair loss [B]: cross-entropy of the soft label p with sigma(r_chosen - r_rejected), in nats.

    With p = 1 this is log(1 + exp(r_rejected - r_chosen)). Swapping the pair and p for 1 - p leaves it
    unchanged.
    """
    return F.binary_cross_entropy_with_logits(chosen_B - rejected_B, p_chosen_B, reduction="none")
