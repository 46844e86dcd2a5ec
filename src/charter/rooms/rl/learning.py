"""What a round aims at (old log-probabilities, KL, advantages, returns) and one optimizer step towards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.parallel import portion, totals
from charter.ground.learn.step import autocast, backward
from charter.rooms.rl.actor import Actor
from charter.rooms.rl.ppo import advantages, policy_loss, rewards, value_loss, whiten
from charter.rooms.rl.remote import importance
from charter.rooms.rl.rloo import advantages_of_others
from charter.rooms.rl.rollout import NOTHING, Episode, all_replies, batch_of
from charter.rooms.rl.settings import Settings


@dataclass(frozen=True, slots=True)
class Targets:
    """All [N], in the order of the episodes' reply tokens; `starts` gives each episode's first token. `values` and
    `returns` are the critic's, None without one. `weights`: of importance, which the advantages are multiplied with;
    None where all are 1."""

    old: Tensor
    reference: Tensor
    kl: Tensor
    advantages: Tensor
    starts: list[int]
    values: Tensor | None = None
    returns: Tensor | None = None
    weights: Tensor | None = None


def targets_of(
    episodes: Sequence[Episode], scores: Sequence[float], coefficient: float, settings: Settings, actor: Actor
) -> Targets:
    """Frozen figures of a round. KL is estimated on the samples: log pi(token) - log pi_0(token). Advantages by a
    critic are whitened over the round; those against the other replies stay as they are."""
    replies = all_replies(episodes)
    lengths, per_token = [len(r.ids) for r in replies], settings.kl_by_token
    old_N = actor.old_logprobs(episodes)
    reference_N = actor.reference_logprobs(episodes)
    kl_N = old_N - reference_N
    values_N = return_N = weights_N = None
    if settings.has_critic:
        values_N = torch.tensor([v for r in replies for v in r.values], device=actor.device)
        reward_N = rewards(scores, kl_N, lengths, coefficient, per_token)
        how = settings.value
        advantage_N, return_N = advantages(reward_N, values_N, lengths, how.gamma, how.gae_lambda)
        advantage_N = whiten(advantage_N)
    else:
        count = settings.rollout.replies
        advantage_N = advantages_of_others(scores, kl_N, lengths, count, coefficient, per_token)
    starts, at = [], 0
    for episode in episodes:
        starts.append(at)
        at += sum(len(r.ids) for r in episode.replies)
    if (sampler := settings.rollout.sampler) is not None:
        weights_N = importance(replies, sampler)
    if weights_N is not None:
        advantage_N = advantage_N * weights_N.to(actor.device)
    return Targets(old_N, reference_N, kl_N, advantage_N, starts, values_N, return_N, weights_N)


def accumulate(
    actor: Actor, episodes: Sequence[Episode], chosen: Sequence[int], targets: Targets, settings: Settings
) -> dict[str, float]:
    """Accumulate the gradient of one minibatch (the episodes numbered `chosen`); returns means over its tokens.

    loss = mean over reply tokens of the clipped objective + coefficient * mean value loss (with a critic), whatever the
    microbatches and the processes that share them.
    """
    total = sum(len(r.ids) for i in chosen for r in episodes[i].replies)
    sums = dict.fromkeys(("loss", "policy_loss", "clip_fraction", "entropy", "approx_kl"), 0.0)
    if settings.has_critic:
        sums["value_loss"] = 0.0
    numbered = {id(episodes[i]): i for i in chosen}
    own = [episodes[i] for i in chosen]
    for group in portion([e.tokens for e in own], settings.microbatch_tokens):
        members = [own[i] for i in group]
        actor.read += sum(e.tokens for e in members)
        rows = [n for e in members for n in _tokens(e, targets.starts[numbered[id(e)]])]
        at = torch.tensor(rows, dtype=torch.int64, device=actor.device)
        batch = batch_of(members or [NOTHING], actor.device)
        with autocast(actor.device, actor.precision):
            hidden_ND = actor.states(actor.model, batch, members)
            new_N, entropy_N = token_logprobs(
                hidden_ND, actor.model.head_weight(), batch.targets, settings.rollout.temperature
            )
            value_N = actor.values(batch, hidden_ND) if settings.has_critic else None
        policy = policy_loss(new_N, targets.old[at], targets.advantages[at], settings.clip)
        loss = policy.loss
        if value_N is not None and targets.values is not None and targets.returns is not None:
            critic = value_loss(value_N, targets.values[at], targets.returns[at], settings.value.clip)
            loss = loss + settings.value.coefficient * critic
            sums["value_loss"] += float(critic.detach()) / total
        sums["loss"] += backward(loss / total)
        sums["policy_loss"] += float(policy.loss.detach()) / total
        sums["clip_fraction"] += policy.clipped / total
        sums["approx_kl"] += policy.approx_kl / total
        sums["entropy"] += float(entropy_N.sum()) / total
    return dict(zip(sums, totals(list(sums.values())), strict=True))


def _tokens(episode: Episode, start: int) -> range:
    return range(start, start + sum(len(r.ids) for r in episode.replies))
