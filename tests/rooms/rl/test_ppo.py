"""PPO's formulas by hand."""

import math
import statistics

import pytest
import torch

from charter.rooms.rl.ppo import adapt, advantages, explained_variance, policy_loss, rewards, value_loss, whiten
from charter.rooms.rl.prompts import label
from charter.rooms.rl.reward import Scale


def test_rewards_charge_kl_where_it_arises_or_at_the_end() -> None:
    kl = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    token = rewards([1.0, -2.0], kl, [2, 3], 0.5, per_token=True)
    assert token.tolist() == pytest.approx([-0.05, 1 - 0.1, -0.15, -0.2, -2 - 0.25])
    whole = rewards([1.0, -2.0], kl, [2, 3], 0.5, per_token=False)
    assert whole.tolist() == pytest.approx([0, 1 - 0.15, 0, 0, -2 - 0.6])
    assert token.sum().item() == pytest.approx(whole.sum().item())
    assert kl.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5]), "the input is left alone"


def test_advantages_and_returns_by_hand() -> None:
    reward, value = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, 0.25, 1.0])
    advantage, returns = advantages(reward, value, [2, 1], gamma=0.9, lam=0.8)
    second = 1.0 - 0.25
    first = 0.0 + 0.9 * 0.25 - 0.5 + 0.9 * 0.8 * second
    assert advantage.tolist() == pytest.approx([first, second, 1.0]), "replies don't see each other"
    assert returns.tolist() == pytest.approx([first + 0.5, 1.0, 2.0])


def test_with_lambda_and_gamma_one_returns_are_the_sums_to_come() -> None:
    reward = torch.tensor([1.0, 2.0, 4.0])
    _, returns = advantages(reward, torch.tensor([9.0, -3.0, 5.0]), [3], 1.0, 1.0)
    assert returns.tolist() == pytest.approx([7.0, 6.0, 4.0])


def test_whitening() -> None:
    whitened = whiten(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert whitened.mean().item() == pytest.approx(0, abs=1e-6) and whitened.square().mean().item() == pytest.approx(
        1, rel=1e-5
    )
    assert whiten(torch.full((3,), 2.0)).tolist() == [0, 0, 0]


def test_ratio_one_gives_the_plain_gradient_and_clips_nothing() -> None:
    old, advantage = torch.tensor([-1.0, -2.0]), torch.tensor([1.5, -0.5])
    new = old.clone().requires_grad_()
    objective = policy_loss(new, old, advantage, 0.2)
    objective.loss.backward()
    assert objective.loss.item() == pytest.approx(-1.0) and objective.clipped == 0 and objective.approx_kl == 0
    assert new.grad is not None and new.grad.tolist() == pytest.approx([-1.5, 0.5])


def test_beyond_the_clip_a_good_move_earns_nothing_more_and_a_bad_one_costs_on() -> None:
    new = torch.tensor([math.log(1.5), math.log(0.5), math.log(1.5), math.log(0.5)], requires_grad=True)
    objective = policy_loss(new, torch.zeros(4), torch.tensor([1.0, -1.0, -1.0, 1.0]), 0.2)
    assert objective.loss.item() == pytest.approx(-(1.2 - 0.8 - 1.5 + 0.5)) and objective.clipped == 2
    objective.loss.backward()
    assert new.grad is not None and new.grad.tolist() == pytest.approx([0, 0, 1.5, -0.5])


def test_value_loss_takes_the_worse_of_free_and_clipped() -> None:
    new, old, returns = torch.tensor([1.0, 0.1]), torch.zeros(2), torch.tensor([1.0, 1.0])
    assert value_loss(new, old, returns, 0).item() == pytest.approx(0.5 * (0 + 0.81))
    assert value_loss(new, old, returns, 0.2).item() == pytest.approx(0.5 * (0.64 + 0.81))


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns + 5, returns) == pytest.approx(1)
    assert explained_variance(torch.zeros(3), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) < 0
    assert explained_variance(returns, torch.ones(3)) == 0


def test_the_adaptive_coefficient_steers_towards_the_target_within_bounds() -> None:
    assert adapt(0.1, 2.0, 2.0, 1000, 50) == pytest.approx(0.1)
    assert adapt(0.1, 2.2, 2.0, 1000, 50) == pytest.approx(0.1 * (1 + 0.1 * 50 / 1000))
    assert adapt(0.1, 9.0, 2.0, 1000, 50) == pytest.approx(0.1 * (1 + 0.2 * 50 / 1000))
    assert adapt(0.1, 0.0, 2.0, 1000, 50) == pytest.approx(0.1 * (1 - 0.2 * 50 / 1000))
    assert adapt(0.1, 0.0, 2.0, 10, 640) == pytest.approx(0.08), "a short horizon turns no penalty into a reward"


def test_scores_are_scaled_by_all_so_far() -> None:
    scores = [1.0, 4.0, 2.0, 8.0]
    scale = Scale()
    scale.add(scores[:1])
    assert scale.apply(1.0) == 0.0, "one score has no spread"
    scale.add(scores[1:])
    assert scale.mean == pytest.approx(statistics.fmean(scores))
    assert scale.apply(8.0) == pytest.approx((8 - statistics.fmean(scores)) / statistics.pstdev(scores))
    assert Scale(**scale.state()) == scale


def test_labels_of_prompt_sources() -> None:
    names = {
        "shipped:red_team.train": "red_team",
        "revisions": "revisions",
        "./mine.jsonl": "mine",
        "./unsafe/prompts.jsonl": "unsafe_prompts",
        "../harmless/prompts.jsonl": "harmless_prompts",
        "data:hh_rlhf/harmless-base": "hh_rlhf_harmless-base",
    }
    assert {source: label(source) for source in names} == names
