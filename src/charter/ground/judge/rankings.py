"""Groups comparisons by prompt: the prompt once, its distinct replies, and the pairs among them.

All pairs of one prompt are in one optimizer step, with one pass over the prompt and each reply (Ouyang 2022,
2203.02155, section 3.5). So a reply that wins one pair and loses another gets both gradients at once. Splits are by
first user turn, so no prompt is on both sides.
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
    """A comparison within a ranking: the places of its two replies, and its weight in the loss (mean 1)."""

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
    """Training and held-out comparisons, disjoint in their first user turns. Without `heldout`, a share of the prompts
    is held out."""
    if heldout:
        heldout_shares = {share_of(c, "heldout") for c in heldout}
        return [c for c in rows if share_of(c, "heldout") not in heldout_shares], list(heldout)
    # labels worse than chance (weight 0) can't measure accuracy
    sample = [c for c in rows if share_of(c, "heldout") < share and c.weight > 0]
    return [c for c in rows if share_of(c, "heldout") >= share], sample


def rank(
    template: Template,
    rows: Sequence[Comparison],
    context: int,
    weight_of: Callable[[Comparison], float],
    prompts_alike: bool = False,
) -> list[Ranking]:
    """Comparisons grouped by prompt, in order of first appearance, within `context` tokens.

    Weights are scaled to mean 1, so the learning rate doesn't depend on them. With `prompts_alike` a pair weighs
    1 / pairs of its prompt (Ouyang 2022, section 3.5: 1 / (K choose 2) before the sum over K replies).
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
    """The number of pairs in the rankings."""
    return sum(len(ranking.pairs) for ranking in rankings)


def duels(rankings: Sequence[Ranking]) -> list[tuple[Pair, int, int]]:
    """Each pair of the rankings, with the places of its chosen and rejected replies among all replies."""
    rows, at = [], 0
    for ranking in rankings:
        rows += [(pair, at + pair.chosen, at + pair.rejected) for pair in ranking.pairs]
        at += len(ranking.texts)
    return rows


def count_origins(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """Counts pairs by origin and by axis: pairs_human, pairs_simulated, pairs_ai (under any principle), pairs_authored,
    pairs_built (by the room) ...; axis_helpful ..."""
    whose = Counter(
        "built" if c.source.endswith(BUILT) else c.source.partition(":")[0] or "unknown" for c in comparisons
    )
    axes = Counter(c.axis for c in comparisons)
    counts = {f"pairs_{name}": whose[name] for name in sorted(whose)}
    return counts | {f"axis_{name}": axes[name] for name in sorted(axes)}


def heldout_rows(rankings: Sequence[Ranking], scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """One kept row per held-out pair, from the scores of each ranking's replies; every figure is recomputed from these
    rows. `id` is the cluster: pairs with the same first user turn share it."""
    rows = []
    for ranking, reply_scores in zip(rankings, scores, strict=True):
        for pair in ranking.pairs:
            chosen, rejected = reply_scores[pair.chosen], reply_scores[pair.rejected]
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
