"""Leave-one-out: by hand, against plain REINFORCE, and on a toy in which one token pays."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.inputs import Inputs
from charter.ground.learn.loss import token_logprobs
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.layout import documents
from charter.rooms.rl import run as room
from charter.rooms.rl.learning import accumulate, learning_modules, optimizer_of, targets_of
from charter.rooms.rl.ppo import advantages, policy_loss, rewards, value_loss, whiten
from charter.rooms.rl.prompts import read_round_prompts
from charter.rooms.rl.reward import Scale
from charter.rooms.rl.rloo import advantages_of_others, leave_one_out
from charter.rooms.rl.rollout import all_replies
from charter.rooms.rl.settings import Kl, Rewards, Rollout, Settings, Value
from toys import dialogue

OTHERS = Settings(
    steps=2, lr=1e-3, baseline="others", rollout=Rollout(prompts=3, replies=3, max_tokens=6), microbatch_tokens=128
)


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    dialogues = [dialogue(f"p{n}", f"Ask number {n}?", "Unused.") for n in range(4)]
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.preference(checkpoints / "reward", "reward"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", dialogues)),
        ]
    )


def test_each_reward_less_the_mean_of_the_others() -> None:
    assert leave_one_out([1.0, 2.0, 6.0]) == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5])
    assert leave_one_out([3.0, -1.0]) == pytest.approx([4, -4])
    assert leave_one_out([0.1] * 7) == [0.0] * 7, "equal rewards teach exactly nothing"


def test_advantages_by_hand() -> None:
    kl = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    lengths = [2, 1, 1, 3]  # two prompts of two replies
    whole = advantages_of_others([1.0, 2.0, 0.0, 3.0], kl, lengths, 2, 0.5, per_token=False)
    first = (1 - 0.15) - (2 - 0.15)
    second = (0 - 0.2) - (3 - 0.9)
    assert whole.tolist() == pytest.approx([first, first, -first, second, -second, -second, -second])
    token = advantages_of_others([1.0, 2.0, 0.0, 3.0], kl, lengths, 2, 0.5, per_token=True)
    to_come = [0.3 - 0.3, 0.2 - 0, 0.3 - 0.3, 0.4 - 1.8, 1.8 - 0.4, 1.3 - 0, 0.7 - 0]
    score = [-1, -1, 1, -3, 3, 3, 3]
    assert token.tolist() == pytest.approx([s - 0.5 * k for s, k in zip(score, to_come, strict=True)])


def test_the_gradient_is_that_of_reinforce(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    """At ratio 1, over reply tokens: -1/N sum of (R_i - mean of the other R_j) * grad log pi(reply i)."""
    policy, critic, _, sampler = room.open_models(OTHERS, inputs, toys.workspace(tmp_path / "w"))
    with torch.no_grad():  # a reference elsewhere, so that KL counts
        assert policy.reference is not None
        for parameter in policy.reference.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    episodes = sampler.sample(policy, critic, read_round_prompts(inputs)[:3], 0)
    scores = [0.3, -1.0, 2.0, 0.5, 0.5, -0.7, 1.0, 0.0, 4.0]
    targets = targets_of(policy, critic, episodes, scores, 0.4, kl_by_token=False)
    assert float(targets.kl.abs().max()) > 0.01 and targets.values is None
    figures, _ = accumulate(policy, critic, targets, range(3), OTHERS.clip)
    assert figures["clip_fraction"] == 0 and "value_loss" not in figures

    model, _ = load_policy(checkpoints / "policy")
    loss, tokens, number = torch.zeros(()), 0, 0
    for episode in episodes:
        log_probs, kept = [], []
        for reply in episode.replies:
            row, target = torch.tensor(episode.prompt_ids + reply.ids), torch.tensor(reply.ids)
            both = []
            for reader in (model, policy.reference):
                hidden = reader.hidden(row, documents([len(row)]))[len(episode.prompt_ids) - 1 : -1]
                both.append(token_logprobs(hidden, reader.head_weight(), target)[0].sum())
            log_probs.append(both[0])
            kept.append(scores[number] - 0.4 * float((both[0] - both[1]).detach()))
            number, tokens = number + 1, tokens + len(reply.ids)
        for i, log_prob in enumerate(log_probs):
            others = [kept[j] for j in range(3) if j != i]
            loss = loss - (kept[i] - sum(others) / 2) * log_prob
    (loss / tokens).backward()
    compared = [
        (mine.grad, theirs.grad)
        for mine, theirs in zip(policy.model.parameters(), model.parameters(), strict=True)
        if theirs.grad is not None
    ]
    assert compared and max(float(theirs.abs().max()) for _, theirs in compared) > 1e-3
    for ours, theirs in compared:
        assert ours is not None and torch.allclose(ours, theirs, atol=2e-5, rtol=1e-3)


def test_no_critic_is_made_trained_or_saved(inputs: Inputs, tmp_path: Path) -> None:
    policy, critic, _, sampler = room.open_models(OTHERS, inputs, toys.workspace(tmp_path / "w"))
    assert critic is None and sampler.engine.probe is None
    assert set(learning_modules(policy, critic)) == {"policy"}
    optimizer = optimizer_of(policy, critic, OTHERS.lr)
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert moved == {id(p) for p in policy.model.parameters()}
    episodes = sampler.sample(policy, critic, read_round_prompts(inputs)[:3], 0)
    assert not any(r.values for r in all_replies(episodes))
    out = toys.workspace(tmp_path / "out")
    room.run(OTHERS, inputs, out)
    log = read_log(out.path)
    assert not {"value_loss", "explained_variance"} & log[0].keys()
    assert log[0]["kl"] == pytest.approx(0, abs=1e-4) and log[0]["clip_fraction"] == 0
    assert abs(log[1]["kl"]) > 1e-4, "a step moves the policy"


def test_what_compares_replies_needs_two() -> None:
    with pytest.raises(ValidationError, match="baseline others compares the replies to a prompt"):
        Settings(baseline="others")
    with pytest.raises(ValidationError, match=r"reward\.whiten prompt compares the replies"):
        Settings(reward=Rewards(whiten="prompt"))
    with pytest.raises(ValidationError, match="makes no critic; leave value out"):
        Settings(baseline="others", rollout=Rollout(replies=2), value=Value(trunk="own"))


def test_kl_is_charged_in_the_published_form_unless_told() -> None:
    assert Settings().kl_by_token and not OTHERS.kl_by_token
    assert OTHERS.model_copy(update={"kl": Kl(form="token")}).kl_by_token


TOKENS, WEIGHTS, ROUNDS, REPLIES = 48, 64, 24, 16


def learn(seed: int, others: bool, between: float) -> float:
    """P(good first token) after a run on a toy: 48 binary tokens share 64 weights, the first alone pays, and prompts
    differ by what no action changes. Every arm has 16 replies a round: 4 prompts x 4, or 16 prompts with a critic."""
    generator = torch.Generator().manual_seed(seed)
    features_TW = torch.randn(TOKENS, WEIGHTS, generator=generator) / 8
    weights, values = torch.zeros(WEIGHTS, requires_grad=True), torch.zeros(TOKENS, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [weights], "lr": 0.05}, {"params": [values], "lr": 0.05}])
    scale, lengths = Scale(), [TOKENS] * REPLIES
    for _ in range(ROUNDS):
        chance_T = torch.sigmoid(features_TW @ weights)
        chosen_RT = (torch.rand(REPLIES, TOKENS, generator=generator) < chance_T.detach()).float()
        group = 4 if others else 1
        offsets = between * torch.randn(REPLIES // group, generator=generator).repeat_interleave(group)
        raw = (chosen_RT[:, 0] + offsets).tolist()
        scale.add(raw)
        scores = [scale.apply(score) for score in raw]
        new_N = torch.log(chosen_RT * chance_T + (1 - chosen_RT) * (1 - chance_T)).flatten()
        kl_N, value_N = torch.zeros(REPLIES * TOKENS), values.repeat(REPLIES)
        if others:
            advantage_N = advantages_of_others(scores, kl_N, lengths, 4, 0.0, per_token=False)
            loss = torch.zeros(())
        else:
            reward_N = rewards(scores, kl_N, lengths, 0.0, per_token=True)
            advantage_N, return_N = advantages(reward_N, value_N.detach(), lengths, 1.0, 1.0)
            advantage_N = whiten(advantage_N)
            loss = value_loss(value_N, value_N.detach(), return_N, 0.0)
        loss = loss + policy_loss(new_N, new_N.detach(), advantage_N, 0.2).loss
        optimizer.zero_grad()
        (loss / len(new_N)).backward()
        optimizer.step()
    return float(torch.sigmoid(features_TW[0] @ weights.detach()))


def test_where_prompts_differ_the_other_replies_are_the_better_baseline() -> None:
    by_arm = {others: [learn(seed, others, 2.0) for seed in range(4)] for others in (False, True)}
    mean = {others: statistics.fmean(chances) for others, chances in by_arm.items()}
    assert mean[True] > mean[False] + 0.1
