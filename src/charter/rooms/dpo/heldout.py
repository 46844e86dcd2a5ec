"""Held-out pairs: one kept row each, scored by the policy's rewards, and what they sum up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.rankings import heldout_rows
from charter.ground.learn.loss import preference_loss
from charter.ground.measure.counts import built_pair, real_pair
from charter.ground.model.transformer import Transformer
from charter.rooms.dpo.learning import Group, read
from charter.rooms.dpo.settings import Settings


def measured(
    model: Transformer, heldout: Sequence[Group], settings: Settings, out: Workspace
) -> list[dict[str, Any]]:
    """One row a held-out pair; the scores are rewards, beta * (log pi - log pi_0)."""
    rankings = [group.ranking for group in heldout]
    found = read(model, [ranking.item for ranking in rankings], settings.microbatch_tokens, out.precision)
    rewards = [
        [settings.beta * (new - old) for new, old in zip(own, group.reference, strict=True)]
        for own, group in zip(found, heldout, strict=True)
    ]
    return heldout_rows(rankings, rewards)


def curve(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean loss of the pairs of some rows, and the share with a sure label that is ranked as labelled."""
    if not rows:
        return {}
    chosen_B, rejected_B, p_B = (
        torch.tensor([float(row[key]) for row in rows])
        for key in ("chosen_score", "rejected_score", "p_chosen")
    )
    loss = float(preference_loss(chosen_B, rejected_B, p_B).mean())
    right = [row["correct"] for row in rows if real_pair(row) or built_pair(row)]
    return {"heldout_loss": loss} | ({"heldout_accuracy": sum(right) / len(right)} if right else {})
