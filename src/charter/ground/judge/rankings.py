"""Comparisons gathered by prompt: a prompt once, its distinct replies behind it, and the pairs among them.

All pairs of one prompt stand in one optimizer step, behind one pass over the prompt and each reply (Ouyang 2022,
2203.02155, section 3.5): a reply that wins one pair and loses another is pulled both ways at once. Splits are by first
user turn, so that no prompt stands on both sides.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.judge.preference_score import Item, encode_item
from charter.ground.measure.counts import BUILT
from charter.ground.measure.score import rank_accuracy
from charter.ground.text.dialogue import Comparison, Message, cluster_of, first_turn
from charter.ground.text.template import Template


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison within a ranking: where its two replies stand there, and its weight in the loss, 1 on average."""

    comparison: Comparison
    chosen: int
    rejected: int
    weight: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """One prompt, its distinct replies in tokens, and the pairs among them."""

    item: Item
    texts: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.pairs[0].comparison.messages


def share_of(comparison: Comparison, purpose: str) -> float:
    """A number in [0, 1) that depends on the first user turn alone, so that pairs of one prompt stay together."""
    return int(first_turn(comparison, purpose)[:14], 16) / 2**56


def split_heldout(
    rows: Sequence[Comparison], heldout: Sequence[Comparison], share: float
) -> tuple[list[Comparison], list[Comparison]]:
    """Training and held-out comparisons, disjoint in their first user turns: those given are held out whole; without
    any, a share of the prompts is."""
    if heldout:
        heldout_shares = {share_of(c, "heldout") for c in heldout}
        return [c for c in rows if share_of(c, "heldout") not in heldout_shares], list(heldout)
    # a labeller worse than chance is no truth to measure by
    sample = [c for c in rows if share_of(c, "heldout") < share and c.weight > 0]
    return [c for c in rows if share_of(c, "heldout") >= share], sample


def rank(
    template: Template,
    rows: Sequence[Comparison],
    context: int,
    weight_of: Callable[[Comparison], float],
    prompts_alike: bool = False,
) -> list[Ranking]:
    """Comparisons gathered by prompt, in the order of their first, within `context` tokens.

    Weights have mean 1, so that the learning rate means the same whatever they are. Where prompts count equally, a pair
    weighs 1 / pairs of its prompt (Ouyang 2022, section 3.5: 1 / (K choose 2) before the sum over K replies).
    """
    gathered: dict[str, list[Comparison]] = {}
    for c in rows:
        gathered.setdefault(json.dumps(c.messages), []).append(c)
    weighed = [
        (members, [weight_of(c) / (len(members) if prompts_alike else 1) for c in members])
        for members in gathered.values()
    ]
    mean = sum(sum(weights) for _, weights in weighed) / max(1, len(rows)) or 1.0
    rankings = []
    for members, weights in weighed:
        texts = tuple(dict.fromkeys(text for c in members for text in (c.chosen, c.rejected)))
        place = {text: at for at, text in enumerate(texts)}
        pairs = tuple(
            Pair(c, place[c.chosen], place[c.rejected], weight / mean)
            for c, weight in zip(members, weights, strict=True)
        )
        rankings.append(Ranking(encode_item(template, members[0].messages, texts, context), texts, pairs))
    return rankings


def count_pairs(rankings: Sequence[Ranking]) -> int:
    """How many pairs there are among some rankings."""
    return sum(len(ranking.pairs) for ranking in rankings)


def duels(rankings: Sequence[Ranking]) -> list[tuple[Pair, int, int]]:
    """Each pair of some rankings, and where its chosen and its rejected reply stand among all their replies."""
    rows, at = [], 0
    for ranking in rankings:
        rows += [(pair, at + pair.chosen, at + pair.rejected) for pair in ranking.pairs]
        at += len(ranking.texts)
    return rows


def count_origins(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """How many pairs come from whom and of which axis: pairs_human, pairs_simulated, pairs_ai (whatever the principle),
    pairs_authored, pairs_built (made by the room) ...; axis_helpful ..."""
    whose = Counter(
        "built" if c.source.endswith(BUILT) else c.source.partition(":")[0] or "unknown" for c in comparisons
    )
    axes = Counter(c.axis for c in comparisons)
    counts = {f"pairs_{name}": whose[name] for name in sorted(whose)}
    return counts | {f"axis_{name}": axes[name] for name in sorted(axes)}


def heldout_rows(rankings: Sequence[Ranking], scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """One kept row a held-out pair, by the scores of the replies of each ranking: every figure is computed again from
    these rows. Its id is the cluster, which pairs of one first user turn share."""
    rows = []
    for ranking, own in zip(rankings, scores, strict=True):
        for pair in ranking.pairs:
            chosen, rejected = own[pair.chosen], own[pair.rejected]
            lengths = [len(ranking.item.replies[at]) for at in (pair.chosen, pair.rejected)]
            rows.append(
                {
                    "id": cluster_of(pair.comparison),
                    "pair": pair.comparison.id,
                    "axis": pair.comparison.axis,
                    "source": pair.comparison.source,
                    "chosen_score": chosen,
                    "rejected_score": rejected,
                    "p_chosen": pair.comparison.p_chosen,
                    "correct": rank_accuracy(pair.comparison.p_chosen, chosen, rejected),
                    "chosen_tokens": lengths[0],
                    "rejected_tokens": lengths[1],
                }
            )
    return rows
