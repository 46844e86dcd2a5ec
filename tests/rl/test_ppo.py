"""PPO's formulas: by hand, in their limits, and against the plain policy gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from charter.rl.ppo import adapt, advantages, explained_variance, policy_loss, rewards, value_loss, whiten

LENGTHS = [3, 2]
REWARDS = torch.tensor([0.0, 0.0, 1.0, -0.5, 2.0])
VALUES = torch.tensor([0.5, 0.2, -0.1, 1.0, 0.4])


def test_rewards_by_hand() -> None:
    kl = torch.tensor([0.1, -0.2, 0.3, 0.5, 0.0])
    token = rewards([2.0, -1.0], kl, LENGTHS, 0.5, per_token=True)
    torch.testing.assert_close(token, torch.tensor([-0.05, 0.1, 2.0 - 0.15, -0.25, -1.0]))
    sequence = rewards([2.0, -1.0], kl, LENGTHS, 0.5, per_token=False)
    torch.testing.assert_close(sequence, torch.tensor([0.0, 0.0, 2.0 - 0.1, 0.0, -1.0 - 0.25]))


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(-3, 3)), min_size=1, max_size=5),
    st.floats(0, 2),
)
def test_both_forms_of_the_penalty_have_equal_sums(replies: list[tuple[int, float]], lam: float) -> None:
    lengths, scores = [n for n, _ in replies], [s for _, s in replies]
    kl = torch.randn(sum(lengths), generator=torch.Generator().manual_seed(len(lengths)))
    sums = [
        [part.sum() for part in rewards(scores, kl, lengths, lam, form).split(lengths)] for form in (True, False)
    ]
    torch.testing.assert_close(torch.stack(sums[0]), torch.stack(sums[1]), rtol=1e-4, atol=1e-5)
    expected = [s - lam * part.sum() for s, part in zip(scores, kl.split(lengths), strict=True)]
    torch.testing.assert_close(torch.stack(sums[0]), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_rewards_leave_the_divergence_alone() -> None:
    kl = torch.ones(5)
    rewards([1.0, 1.0], kl, LENGTHS, 0.5, per_token=True)
    assert torch.equal(kl, torch.ones(5))


def test_advantages_by_hand() -> None:
    # gamma 0.9, lambda 0.5, backwards from the end of each reply:
    # reply 1: delta = 1 + 0.1 = 1.1;              A = 1.1
    #          delta = 0 - 0.09 - 0.2 = -0.29;     A = -0.29 + 0.45 * 1.1 = 0.205
    #          delta = 0 + 0.18 - 0.5 = -0.32;     A = -0.32 + 0.45 * 0.205 = -0.22775
    # reply 2: delta = 2 - 0.4 = 1.6;              A = 1.6
    #          delta = -0.5 + 0.36 - 1 = -1.14;    A = -1.14 + 0.45 * 1.6 = -0.42
    found, returns = advantages(REWARDS, VALUES, LENGTHS, 0.9, 0.5)
    expected = torch.tensor([-0.22775, 0.205, 1.1, -0.42, 1.6])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(returns, expected + VALUES)


def test_lambda_one_is_return_minus_value() -> None:
    found, returns = advantages(REWARDS, VALUES, LENGTHS, 0.9, 1.0)
    expected = torch.tensor([0.81, 0.9, 1.0, -0.5 + 0.9 * 2.0, 2.0])
    torch.testing.assert_close(returns, expected)
    torch.testing.assert_close(found, expected - VALUES)


def test_lambda_zero_is_the_temporal_difference() -> None:
    found, _ = advantages(REWARDS, VALUES, LENGTHS, 0.9, 0.0)
    torch.testing.assert_close(found, torch.tensor([-0.32, -0.29, 1.1, -1.14, 1.6]))


def test_gamma_zero_looks_at_its_own_token_only() -> None:
    found, returns = advantages(REWARDS, VALUES, LENGTHS, 0.0, 0.7)
    torch.testing.assert_close(found, REWARDS - VALUES)
    torch.testing.assert_close(returns, REWARDS)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_replies_do_not_leak_into_each_other(lam: float) -> None:
    together, _ = advantages(REWARDS, VALUES, LENGTHS, 0.99, lam)
    apart = [
        advantages(r, v, [len(r)], 0.99, lam)[0]
        for r, v in zip(REWARDS.split(LENGTHS), VALUES.split(LENGTHS), strict=True)
    ]
    assert torch.equal(together, torch.cat(apart))


def test_a_critic_that_is_right_leaves_no_advantage() -> None:
    _, returns = advantages(REWARDS, torch.zeros(5), LENGTHS, 1.0, 1.0)
    for lam in (0.0, 0.5, 1.0):
        found, _ = advantages(REWARDS, returns, LENGTHS, 1.0, lam)
        torch.testing.assert_close(found, torch.zeros(5))


def test_whitened_by_hand() -> None:
    torch.testing.assert_close(whiten(torch.tensor([1.0, 3.0])), torch.tensor([-1.0, 1.0]))
    found = whiten(torch.randn(50, generator=torch.Generator().manual_seed(0)) * 7 + 3)
    torch.testing.assert_close(found.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(unbiased=False), torch.tensor(1.0))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1 / 3])
@pytest.mark.parametrize("count", [1, 3, 7, 97])
def test_a_constant_batch_whitens_to_zero(value: float, count: int) -> None:
    found = whiten(torch.full((count,), value))
    assert found.dtype == torch.float32
    assert found.abs().max() < 1e-3


def test_clipped_objective_by_hand() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0])
    new = ratio.log().requires_grad_()
    found = policy_loss(new, torch.zeros(5), advantage, 0.2)
    # min(3, 2.4), min(-3, -2.4), min(1, 1.6), min(-1, -1.6), 1.1
    torch.testing.assert_close(found.loss, torch.tensor(-(2.4 - 3.0 + 1.0 - 1.6 + 1.1)))
    assert found.clipped == 2
    assert found.approx_kl == pytest.approx(-float(ratio.log().sum()), rel=1e-5)
    (grad,) = torch.autograd.grad(found.loss, new)
    # a clipped token teaches nothing; the others by ratio * advantage
    torch.testing.assert_close(grad, torch.tensor([0.0, 3.0, -1.0, 0.0, -1.1]))


def _toy() -> tuple[Tensor, Tensor]:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).requires_grad_()
    return logits, torch.tensor([[0, 5, 2, 2], [1, 1, 0, 4], [3, 2, 5, 0]])


def test_the_first_step_is_the_plain_policy_gradient() -> None:
    """Old policy = new policy, returns for advantages, no baseline: sum of return * grad log pi (Williams 1992)."""
    logits, actions = _toy()
    lengths = [4, 4, 4]
    log_probs = torch.log_softmax(logits, -1)
    new = torch.cat([log_probs[range(4), reply] for reply in actions])
    scores = [1.0, -2.0, 0.5]
    reward = rewards(scores, torch.zeros(12), lengths, 0.0, per_token=True)
    advantage, _ = advantages(reward, torch.zeros(12), lengths, 1.0, 1.0)
    found = policy_loss(new, new.detach(), advantage, 0.2)
    assert found.clipped == 0 and found.approx_kl == 0
    (grad,) = torch.autograd.grad(found.loss, logits)
    # by hand: d log pi(a) / d logits = onehot(a) - pi
    pi = log_probs.exp().detach()
    by_hand = torch.zeros_like(pi)
    for score, reply in zip(scores, actions, strict=True):
        by_hand -= score * (torch.nn.functional.one_hot(reply, 6) - pi)
    torch.testing.assert_close(grad, by_hand)


def test_a_step_raises_what_was_better_than_expected() -> None:
    logits, actions = _toy()
    old = torch.log_softmax(logits, -1)[range(4), actions[0]].detach()
    for _ in range(30):
        new = torch.log_softmax(logits, -1)[range(4), actions[0]]
        loss = policy_loss(new, old, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2).loss
        (grad,) = torch.autograd.grad(loss, logits)
        logits = (logits - 0.1 * grad).detach().requires_grad_()
    ratio = (torch.log_softmax(logits, -1)[range(4), actions[0]] - old).exp()
    assert (ratio[[0, 2]] > 1.1).all() and (ratio[[1, 3]] < 0.9).all()
    assert ((ratio - 1).abs() < 0.35).all()  # no gradient beyond the bound of 0.2, but for one step's length


def test_value_loss_by_hand() -> None:
    old, target = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, -1.0])
    new = torch.tensor([0.8, 0.1, 0.5], requires_grad=True)
    torch.testing.assert_close(value_loss(new, old, target, 0.0), torch.tensor(0.5 * (0.04 + 0.81 + 2.25)))
    found = value_loss(new, old, target, 0.2)
    # the first moved further than 0.2: the error of 0.2 counts (0.64); the second not (0.81); the third: 2.25 > 1.44
    torch.testing.assert_close(found, torch.tensor(0.5 * (0.64 + 0.81 + 2.25)))
    (grad,) = torch.autograd.grad(found, new)
    torch.testing.assert_close(grad, torch.tensor([0.0, -0.9, 1.5]))


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(returns + 5.0, returns) == pytest.approx(1.0)
    assert explained_variance(torch.full((4,), 3.0), returns) == pytest.approx(0.0)
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])) == pytest.approx(1 - 9 / 16)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 100.1])
def test_equal_returns_leave_nothing_to_explain(value: float) -> None:
    assert explained_variance(torch.arange(7.0), torch.full((7,), value)) == 0.0


def test_adaptive_coefficient_moves_towards_the_target() -> None:
    assert adapt(0.2, 6.0, 6.0, 1000, 64) == 0.2
    assert adapt(0.2, 6.6, 6.0, 1000, 100) == pytest.approx(0.2 * (1 + 0.1 * 0.1))
    assert adapt(0.2, 5.4, 6.0, 1000, 100) == pytest.approx(0.2 * (1 - 0.1 * 0.1))
    # the error is clipped to 20 % either way
    assert adapt(0.2, 600.0, 6.0, 1000, 100) == pytest.approx(0.2 * 1.02)
    assert adapt(0.2, 0.0, 6.0, 1000, 100) == adapt(0.2, -3.0, 6.0, 1000, 100) == pytest.approx(0.2 * 0.98)


@given(st.floats(-50, 500), st.floats(0.1, 50), st.integers(1, 128))
def test_adaptive_coefficient_stays_positive(kl: float, target: float, steps: int) -> None:
    found = adapt(0.1, kl, target, 1000, steps)
    assert math.isfinite(found) and found > 0
    if abs(kl / target - 1) > 1e-6:
        assert (found > 0.1) == (kl > target)
