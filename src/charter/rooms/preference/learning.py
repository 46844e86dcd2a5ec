"""One optimizer step's gradient of a preference model.

Loss of a pair = cross-entropy of its label with sigma(r_chosen - r_rejected); all replies to a prompt follow it in
one pass. The gradient is that of

    sum over the step's pairs of weight * loss / batch

with `batch` from the settings, whatever the step holds. So a pair counts equally in a short last step and in one that a
prompt of many pairs overfills. Microbatches and the processes that share them change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.preference_score import PADDING_ITEM, forward_scores
from charter.ground.judge.rankings import Ranking, duels
from charter.ground.learn.loss import preference_loss
from charter.ground.learn.parallel import portion, totals
from charter.ground.learn.step import autocast, backward
from charter.ground.measure.score import rank_accuracy
from charter.ground.model.heads import ScoreHead
from charter.ground.model.transformer import Transformer
from charter.rooms.preference.settings import Settings


def gradient(
    model: Transformer, head: ScoreHead, rankings: Sequence[Ranking], settings: Settings, out: Workspace
) -> tuple[float, float, int]:
    """Accumulate one step's gradient; returns the weighted mean of its pairs' losses in nats, the share of pairs ranked
    right, and the tokens that this process read."""
    pairs = [pair for ranking in rankings for pair in ranking.pairs]
    loss, right, tokens = 0.0, 0.0, 0
    for group in portion([ranking.item.tokens for ranking in rankings], settings.microbatch_tokens):
        members = [rankings[i] for i in group]
        items = [ranking.item for ranking in members]
        tokens += sum(item.tokens for item in items)
        with autocast(out.device, out.precision):
            scores_R = forward_scores(model, head, items or [PADDING_ITEM], out.device)
        pairs_B = duels(members)
        p_B = torch.tensor([pair.comparison.p_chosen for pair, _, _ in pairs_B], device=out.device)
        weight_B = torch.tensor([pair.weight / settings.batch for pair, _, _ in pairs_B], device=out.device)
        chosen_B, rejected_B = scores_R[[c for _, c, _ in pairs_B]], scores_R[[r for _, _, r in pairs_B]]
        loss += backward((preference_loss(chosen_B, rejected_B, p_B) * weight_B).sum())
        right += sum(
            rank_accuracy(pair.comparison.p_chosen, *scores)
            for (pair, _, _), *scores in zip(pairs_B, chosen_B.tolist(), rejected_B.tolist(), strict=True)
        )
    loss, right = totals([loss, right])
    return loss * settings.batch / sum(pair.weight for pair in pairs), right / len(pairs), tokens
