"""The loss of pairs under the policy and its start, and the figures of a step and of held-out pairs.

    r(y) = beta * (log pi(y | x) - log pi_0(y | x));  loss = -p log sigma(r_c - r_r) - (1 - p) log sigma(r_r - r_c)

Log-probabilities are sums over a reply's tokens, including its end of turn, in nats. Letters: R replies of a row, B
pairs among them, N reply tokens.

Sources: Rafailov 2023 (2305.18290), equation 7; soft labels: Mitchell 2023, A note on DPO with noisy preferences
(conservative DPO); likelihood beside it: Pang 2024 (2404.19733), equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.preference_score import PADDING_ITEM, Item
from charter.ground.judge.rankings import Ranking, duels, heldout_rows
from charter.ground.learn.loss import preference_loss, token_logprobs
from charter.ground.learn.parallel import portion, totals
from charter.ground.learn.step import autocast, backward
from charter.ground.measure.counts import built_pair, real_pair
from charter.ground.model.branches import branches
from charter.ground.model.lora import adapter_off
from charter.ground.model.transformer import Transformer
from charter.ground.text.packing import microbatches
from charter.rooms.dpo.settings import Settings

# prompts that the reference reads and saves together
CHUNK = 64
# of a step's pairs: the loss by weight, all others plain means
FIGURES = (
    "loss",
    "batch_accuracy",
    "margin",
    "reward_chosen",
    "reward_rejected",
    "logprob_chosen",
    "logprob_rejected",
    "log_ratio",
)


@dataclass(frozen=True, slots=True)
class Group:
    """A ranking, and log pi_0 of each of its replies."""

    ranking: Ranking
    reference: tuple[float, ...]


def reply_logprobs(model: Transformer, items: Sequence[Item]) -> Tensor:
    """log pi of each reply [R] of some items, differentiable."""
    batch = branches([(item.prompt, item.replies) for item in items], model.device)
    hidden_ND = model.hidden(batch.ids, batch.layout)[batch.predicts]
    logprob_N, _ = token_logprobs(hidden_ND, model.head_weight(), batch.targets)
    lengths = [len(reply) for item in items for reply in item.replies]
    return torch.stack([part.sum() for part in torch.split(logprob_N, lengths)])


@torch.no_grad()
def read(model: Transformer, items: Sequence[Item], microbatch_tokens: int, precision: str) -> list[list[float]]:
    """log pi of the replies of each item."""
    order = sorted(range(len(items)), key=lambda i: items[i].tokens)
    logprobs: list[list[float]] = [[] for _ in items]
    for group in microbatches([items[i].tokens for i in order], microbatch_tokens):
        members = [order[at] for at in group]
        with autocast(str(model.device), precision):
            flat = reply_logprobs(model, [items[i] for i in members]).tolist()
        for i in members:
            count = len(items[i].replies)
            logprobs[i], flat = flat[:count], flat[count:]
    return logprobs


def add_reference(model: Transformer, rankings: Sequence[Ranking], settings: Settings, out: Workspace) -> list[Group]:
    """Rankings with the reference's log-probabilities, computed before the first step and kept in the step's state.
    The reference is the model as loaded, with adapters off if it has any."""
    with adapter_off(model):
        logprobs = out.chunks(
            "reference",
            [ranking.item for ranking in rankings],
            CHUNK,
            lambda part, _: read(model, part, settings.microbatch_tokens, out.precision),
            "reference",
        )
    return [Group(ranking, tuple(reference)) for ranking, reference in zip(rankings, logprobs, strict=True)]


def accumulate(
    model: Transformer, groups: Sequence[Group], settings: Settings, out: Workspace
) -> tuple[dict[str, float], int]:
    """Accumulate the gradient of one step's pairs; returns their figures, and how many tokens this process read.

    Step loss = mean over its pairs of weight * (loss + nll * nats a token of the preferred reply), whatever the
    microbatches and the processes that share them.
    """
    count = sum(len(group.ranking.pairs) for group in groups)
    sums, tokens = dict.fromkeys(FIGURES, 0.0), 0
    for members in portion([group.ranking.item.tokens for group in groups], settings.microbatch_tokens):
        batch = [groups[i] for i in members]
        items = [group.ranking.item for group in batch]
        with autocast(out.device, out.precision):
            logprob_R = reply_logprobs(model, items or [PADDING_ITEM])
        loss, figures = pair_loss(logprob_R, batch, settings, count)
        backward(loss)
        sums = {name: sums[name] + figures[name] for name in FIGURES}
        tokens += sum(item.tokens for item in items)
    return dict(zip(FIGURES, totals(list(sums.values())), strict=True)), tokens


def pair_loss(
    logprob_R: Tensor, groups: Sequence[Group], settings: Settings, count: int
) -> tuple[Tensor, dict[str, float]]:
    """What some groups contribute to a step's loss and FIGURES; `count` is the number of pairs of the step."""
    pairs = duels([group.ranking for group in groups])
    labels = [pair.comparison.p_chosen for pair, _, _ in pairs]
    # a label below one half prefers the other reply: the sides change, and the loss does not
    sides = [(c, r) if p >= 0.5 else (r, c) for p, (_, c, r) in zip(labels, pairs, strict=True)]
    chosen_B, rejected_B = (
        torch.tensor([side[n] for side in sides], dtype=torch.int64, device=logprob_R.device) for n in (0, 1)
    )
    reference = [value for group in groups for value in group.reference]
    lengths = [len(reply) for group in groups for reply in group.ranking.item.replies]
    p_B, weight_B, reference_R, tokens_R = (
        torch.tensor(row, dtype=torch.float32, device=logprob_R.device)
        for row in (
            [max(p, 1 - p) for p in labels],
            [pair.weight / count for pair, _, _ in pairs],
            reference or [0.0],
            lengths or [1],
        )
    )
    ratio_R, nats_R = logprob_R - reference_R, logprob_R / tokens_R
    better_B, worse_B = settings.beta * ratio_R[chosen_B], settings.beta * ratio_R[rejected_B]
    loss_B = preference_loss(better_B, worse_B, p_B)
    loss = (loss_B * weight_B).sum()
    total = loss - settings.nll * (nats_R[chosen_B] * weight_B).sum() if settings.nll else loss
    with torch.no_grad():
        right_B = (better_B > worse_B).float() + 0.5 * (better_B == worse_B).float()
        moved_B = 0.5 * (ratio_R[chosen_B].abs() + ratio_R[rejected_B].abs())
        means = (right_B, better_B - worse_B, better_B, worse_B, nats_R[chosen_B], nats_R[rejected_B], moved_B)
        figures = [float(loss), *(float(row.sum()) / count for row in means)]
    return total, dict(zip(FIGURES, figures, strict=True))


def score_heldout(
    model: Transformer, heldout: Sequence[Group], settings: Settings, out: Workspace
) -> list[dict[str, Any]]:
    """One row per held-out pair; scores are rewards, beta * (log pi - log pi_0)."""
    rankings = [group.ranking for group in heldout]
    logprobs = read(model, [ranking.item for ranking in rankings], settings.microbatch_tokens, out.precision)
    rewards = [
        [settings.beta * (new - old) for new, old in zip(new_logprobs, group.reference, strict=True)]
        for new_logprobs, group in zip(logprobs, heldout, strict=True)
    ]
    return heldout_rows(rankings, rewards)


def curve(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean loss of the pairs, and the share of those with a sure label that are ranked as labelled."""
    if not rows:
        return {}
    chosen_B, rejected_B, p_B = (
        torch.tensor([float(row[key]) for row in rows]) for key in ("chosen_score", "rejected_score", "p_chosen")
    )
    loss = float(preference_loss(chosen_B, rejected_B, p_B).mean())
    right = [row["correct"] for row in rows if real_pair(row) or built_pair(row)]
    return {"heldout_loss": loss} | ({"heldout_accuracy": sum(right) / len(right)} if right else {})
