"""Losses against the library's own, in value and in gradient, for every way of cutting them into chunks."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charter.ground.learn.loss import cross_entropy_sum, divergence_sum, preference_loss, token_logprobs

N, D, V = 11, 6, 17


def _tensors(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    make = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=make)
    weight = torch.randn(V, D, generator=make)
    targets = torch.randint(V, (N,), generator=make)
    weights = torch.rand(N, generator=make) + 0.1
    weights[[0, 4, 10]] = 0.0
    return hidden.requires_grad_(), weight.requires_grad_(), targets, weights


def _grads(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 11, 512])
def test_cross_entropy_equals_the_library(chunk: int) -> None:
    hidden, weight, targets, weights = _tensors()
    expected = (F.cross_entropy(hidden @ weight.T, targets, reduction="none") * weights).sum()
    loss = cross_entropy_sum(hidden, weight, targets, weights, chunk)
    torch.testing.assert_close(loss, expected)
    # an incoming gradient other than 1 must scale both
    for mine, theirs in zip(_grads(0.3 * loss, hidden, weight), _grads(0.3 * expected, hidden, weight), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("chunk", [1, 3, 11, 128])
def test_the_divergence_equals_the_library_and_moves_one_side(chunk: int) -> None:
    hidden, weight, _, weights = _tensors()
    fixed, fixed_weight, _, _ = _tensors(1)
    log_q, log_p = (torch.log_softmax(h @ w.T, -1) for h, w in ((hidden, weight), (fixed, fixed_weight)))
    expected = (F.kl_div(log_q, log_p.detach(), reduction="none", log_target=True).sum(-1) * weights).sum()
    loss = divergence_sum(hidden, weight, fixed, fixed_weight, weights, chunk)
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(_grads(0.3 * loss, hidden, weight), _grads(0.3 * expected, hidden, weight), strict=True):
        torch.testing.assert_close(mine, theirs)
    again = divergence_sum(hidden, weight, fixed, fixed_weight, weights, chunk)
    again.backward()  # type: ignore[no-untyped-call]
    assert fixed.grad is None and fixed_weight.grad is None and hidden.grad is not None


def test_a_divergence_by_hand() -> None:
    """p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2 = 0.1308 nats, gradient q - p."""
    weight = torch.eye(2)
    hidden = torch.zeros(1, 2, requires_grad=True)
    loss = divergence_sum(hidden, weight, torch.tensor([[math.log(3), 0.0]]), weight, torch.ones(1))
    assert float(loss.detach()) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)
    torch.testing.assert_close(_grads(loss, hidden)[0], torch.tensor([[-0.25, 0.25]]))


def test_rows_of_weight_zero_never_count() -> None:
    hidden, weight, targets, weights = _tensors()
    broken = hidden.detach().clone()
    broken[weights == 0] = float("nan")
    broken.requires_grad_()
    targets = targets.masked_fill(weights == 0, -100)
    loss = cross_entropy_sum(broken, weight, targets, weights)
    grad_hidden, grad_weight = _grads(loss, broken, weight)
    assert torch.isfinite(loss) and torch.isfinite(grad_weight).all()
    assert (grad_hidden[weights == 0] == 0).all() and (grad_hidden[weights > 0] != 0).any(-1).all()


def test_no_row_counts() -> None:
    hidden, weight, targets, weights = _tensors()
    loss = cross_entropy_sum(hidden, weight, targets, torch.zeros_like(weights))
    grad_hidden, grad_weight = _grads(loss, hidden, weight)
    assert loss.item() == 0 and not grad_hidden.any() and not grad_weight.any()


def test_frozen_weight_and_frozen_hidden() -> None:
    hidden, weight, targets, weights = _tensors()
    expected = _grads(cross_entropy_sum(hidden, weight, targets, weights), hidden, weight)
    (only_hidden,) = _grads(cross_entropy_sum(hidden, weight.detach(), targets, weights, 4), hidden)
    (only_weight,) = _grads(cross_entropy_sum(hidden.detach(), weight, targets, weights, 4), weight)
    torch.testing.assert_close(only_hidden, expected[0])
    torch.testing.assert_close(only_weight, expected[1])
    assert not cross_entropy_sum(hidden.detach(), weight.detach(), targets, weights).requires_grad


def test_large_logits_stay_finite() -> None:
    hidden, weight, targets, weights = _tensors()
    big = (hidden.detach() * 1e4).requires_grad_()
    loss = cross_entropy_sum(big, weight, targets, weights)
    expected = (F.cross_entropy(big @ weight.T, targets, reduction="none") * weights).sum()
    torch.testing.assert_close(loss, expected)
    assert all(torch.isfinite(g).all() for g in _grads(loss, big, weight))


def test_bfloat16_compute_over_a_float32_head() -> None:
    hidden, weight, targets, weights = _tensors()
    exact = cross_entropy_sum(hidden, weight, targets, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy_sum(hidden.bfloat16(), weight, targets, weights, 4)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    (grad,) = _grads(loss, weight)
    assert grad.dtype == torch.float32
    torch.testing.assert_close(grad, _grads(exact, weight)[0], rtol=0.1, atol=0.1)


def test_a_second_backward_is_refused_rather_than_empty() -> None:
    hidden, weight, targets, weights = _tensors()
    loss = cross_entropy_sum(hidden, weight, targets, weights)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward"):
        loss.backward()


def test_gradients_are_let_go_after_backward() -> None:
    hidden, weight, targets, weights = _tensors()
    loss = cross_entropy_sum(hidden * 1.0, weight * 1.0, targets, weights)
    kept = weakref.ref(loss.grad_fn.grads[1])
    loss.backward()
    assert loss.grad_fn.grads is None and kept() is None


@pytest.mark.parametrize("chunk", [1, 4, 11, 512])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
def test_token_logprobs_equal_log_softmax(chunk: int, temperature: float) -> None:
    hidden, weight, targets, weights = _tensors()
    log_probs = F.log_softmax(hidden @ weight.T / temperature, dim=-1)
    expected = log_probs.gather(1, targets[:, None])[:, 0]
    target_log_probs, entropy = token_logprobs(hidden, weight, targets, temperature, chunk)
    torch.testing.assert_close(target_log_probs, expected)
    torch.testing.assert_close(entropy, -(log_probs.exp() * log_probs).sum(-1).detach())
    assert not entropy.requires_grad
    pull = weights - 0.4  # gradients of both signs and of zero
    for mine, theirs in zip(
        _grads((target_log_probs * pull).sum(), hidden, weight),
        _grads((expected * pull).sum(), hidden, weight),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_token_logprobs_of_nothing_and_of_a_frozen_head() -> None:
    hidden, weight, targets, _ = _tensors()
    log_probs, entropy = token_logprobs(hidden[:0], weight, targets[:0])
    assert log_probs.shape == entropy.shape == (0,)
    both = _grads(token_logprobs(hidden, weight, targets)[0].sum(), hidden, weight)
    (only,) = _grads(token_logprobs(hidden, weight.detach(), targets, chunk=3)[0].sum(), hidden)
    torch.testing.assert_close(only, both[0])


def test_backward_computes_in_the_precision_of_forward() -> None:
    """Else softmax would not sum to one, and a head shifted by a constant vector would get a gradient."""
    hidden, weight, targets, _ = _tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs, _ = token_logprobs(hidden * 5, weight * 5, targets)
    (grad,) = _grads(log_probs.sum(), weight)
    assert grad.sum(0).abs().max() < 0.05 * grad.abs().max()


def test_entropy_of_even_and_of_certain_distributions() -> None:
    _, entropy = token_logprobs(torch.zeros(2, D), torch.ones(V, D), torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(entropy, torch.full((2,), math.log(V)))
    head = torch.zeros(V, D)
    head[3] = 100.0
    _, entropy = token_logprobs(torch.ones(1, D), head, torch.tensor([3]))
    assert 0 <= entropy.item() < 1e-4


def test_preference_loss_by_hand() -> None:
    chosen, rejected = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 3.0])
    losses = preference_loss(chosen, rejected, torch.tensor([1.0, 1.0, 0.25]))
    sure = math.log(1 + math.exp(-2.0))  # 0.126928
    soft = 0.25 * math.log(1 + math.exp(2.0)) + 0.75 * math.log(1 + math.exp(-2.0))  # 0.626928
    torch.testing.assert_close(losses, torch.tensor([sure, math.log(2.0), soft]))
    torch.testing.assert_close(losses, torch.tensor([0.126928, 0.693147, 0.626928]), atol=1e-6, rtol=0)


def test_preference_gradient_is_label_minus_probability() -> None:
    chosen = torch.tensor([1.5], requires_grad=True)
    rejected = torch.tensor([0.5], requires_grad=True)
    p = torch.tensor([0.8])
    grad_chosen, grad_rejected = _grads(preference_loss(chosen, rejected, p).sum(), chosen, rejected)
    expected = torch.sigmoid(torch.tensor([1.0])) - p
    torch.testing.assert_close(grad_chosen, expected)
    torch.testing.assert_close(grad_rejected, -expected)
