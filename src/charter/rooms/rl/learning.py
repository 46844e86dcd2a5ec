"""The targets of a round (old log-probabilities, KL, advantages, returns) and the gradient of a minibatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import portion, totals
from charter.ground.learn.step import autocast, backward
from charter.rooms.rl.critic import Critic
from charter.rooms.rl.policy import Policy
from charter.rooms.rl.ppo import advantages, policy_loss, rewards, value_loss, whiten
from charter.rooms.rl.rloo import advantages_of_others
from charter.rooms.rl.rollout import PADDING_EPISODE, Episode, all_replies, batch_of


@dataclass(frozen=True, slots=True)
class Targets:
    """A round's episodes and their fixed figures, all [N]; `starts`: each episode's first token. `values` and `returns`
    are the critic's, None without one. `weights`: importance weights, already multiplied into the advantages; None if
    all are 1."""

    episodes: Sequence[Episode]
    old: Tensor
    reference: Tensor
    kl: Tensor
    advantages: Tensor
    starts: list[int]
    values: Tensor | None = None
    returns: Tensor | None = None
    weights: Tensor | None = None

    @property
    def mean_kl(self) -> float:
        """KL to the start, nats a reply."""
        return float(self.kl.sum()) / len(all_replies(self.episodes))


def targets_of(
    policy: Policy,
    critic: Critic | None,
    episodes: Sequence[Episode],
    scores: Sequence[float],
    coefficient: float,
    kl_by_token: bool,
    weights_N: Tensor | None = None,
) -> Targets:
    """The targets of a round, before any update. KL is estimated on the samples: log pi(token) - log pi_0(token), and
    charged at `coefficient`. A critic's advantages are whitened over the round; leave-one-out advantages are not."""
    replies = all_replies(episodes)
    lengths = [len(r.ids) for r in replies]
    old_N = policy.old_logprobs(episodes)
    reference_N = policy.reference_logprobs(episodes)
    kl_N = old_N - reference_N
    values_N = return_N = None
    if critic is not None:
        values_N = torch.tensor([v for r in replies for v in r.values], device=old_N.device)
        reward_N = rewards(scores, kl_N, lengths, coefficient, kl_by_token)
        how = critic.settings
        advantage_N, return_N = advantages(reward_N, values_N, lengths, how.gamma, how.gae_lambda)
        advantage_N = whiten(advantage_N)
    else:
        count = len(episodes[0].replies)
        advantage_N = advantages_of_others(scores, kl_N, lengths, count, coefficient, kl_by_token)
    starts, at = [], 0
    for episode in episodes:
        starts.append(at)
        at += episode.reply_tokens
    if weights_N is not None:
        advantage_N = advantage_N * weights_N.to(old_N.device)
    return Targets(episodes, old_N, reference_N, kl_N, advantage_N, starts, values_N, return_N, weights_N)


def learning_modules(policy: Policy, critic: Critic | None) -> dict[str, nn.Module]:
    """All trained modules, by their names in resume states."""
    modules: dict[str, nn.Module] = {"policy": policy.model}
    if critic is not None:
        modules["value"] = critic.head
        if critic.trunk is not None:
            modules["value_trunk"] = critic.trunk
    return modules


def optimizer_of(policy: Policy, critic: Critic | None, lr: float) -> torch.optim.Optimizer:
    """AdamW over all trained weights; a critic's trunk has a tenth of its head's rate."""
    rates = [(policy.model.parameters(), lr)]
    if critic is not None:
        rates.append((critic.head.parameters(), critic.settings.lr))
        if critic.trunk is not None:
            rates.append((critic.trunk.parameters(), critic.settings.lr / 10))
    return adamw(rates, betas=(0.9, 0.95))


def accumulate(
    policy: Policy, critic: Critic | None, targets: Targets, indices: Sequence[int], clip: float
) -> tuple[dict[str, float], int]:
    """Accumulate the gradient of one minibatch (the episodes at `indices`). Returns means over its tokens, and how many
    tokens this process read.

    loss = mean over reply tokens of the clipped objective + coefficient * mean value loss (with a critic), whatever the
    microbatches and the processes that share them.
    """
    episodes = [targets.episodes[i] for i in indices]
    starts = [targets.starts[i] for i in indices]
    total, tokens = sum(e.reply_tokens for e in episodes), 0
    sums = dict.fromkeys(("loss", "policy_loss", "clip_fraction", "entropy", "approx_kl"), 0.0)
    if critic is not None:
        sums["value_loss"] = 0.0
    device, precision = policy.microbatches.device, policy.microbatches.precision
    for group in portion([e.tokens for e in episodes], policy.microbatches.most_tokens):
        members = [episodes[i] for i in group]
        tokens += sum(e.tokens for e in members)
        rows = [n for i in group for n in range(starts[i], starts[i] + episodes[i].reply_tokens)]
        at = torch.tensor(rows, dtype=torch.int64, device=device)
        batch = batch_of(members or [PADDING_EPISODE], device)
        with autocast(device, precision):
            hidden_ND = policy.states(policy.model, batch, members)
            new_N, entropy_N = policy.of_states(policy.model, hidden_ND, batch)
            value_N = critic.values(batch, hidden_ND) if critic is not None else None
        objective = policy_loss(new_N, targets.old[at], targets.advantages[at], clip)
        loss = objective.loss
        if critic is not None and value_N is not None:
            assert targets.values is not None and targets.returns is not None
            how = critic.settings
            squares = value_loss(value_N, targets.values[at], targets.returns[at], how.clip)
            loss = loss + how.coefficient * squares
            sums["value_loss"] += float(squares.detach()) / total
        sums["loss"] += backward(loss / total)
        sums["policy_loss"] += float(objective.loss.detach()) / total
        sums["clip_fraction"] += objective.clipped / total
        sums["approx_kl"] += objective.approx_kl / total
        sums["entropy"] += float(entropy_N.sum()) / total
    return dict(zip(sums, totals(list(sums.values())), strict=True)), tokens
