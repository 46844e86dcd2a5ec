"""Pairs for a preference model: read, split by first user turn, ranked and encoded behind their shared prompt.

All pairs of one prompt stand in one optimizer step, behind one pass over the prompt and each reply (Ouyang 2022,
2203.02155, section 3.5): a reply that wins one pair and loses another is pulled both ways at once.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import Item, encode_item
from charter.ground.measure.counts import BUILT
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Comparison, Dialogue, Message, first_turn
from charter.ground.text.exhibits import read_transcripts
from charter.ground.text.packing import filled_steps
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.preference.ladder import above_fixed, below_fixed, contrasts, revised, rungs
from charter.preference.settings import Settings


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison within a ranking: where its two replies stand there, and its weight in the loss, 1 on average over
    all pairs."""

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


def weight_of(settings: Settings, comparison: Comparison) -> float:
    """The weight of its axis times its own."""
    return settings.axis_weights.get(comparison.axis, 1.0) * comparison.weight


def split(settings: Settings, inputs: Inputs, seed: int) -> tuple[list[Comparison], list[Comparison]]:
    """Training and held-out comparisons, disjoint in their first user turns.

    `part` takes one half of all prompts: two models of opposite parts share no training prompt. Without held-out
    inputs a share of the half's prompts is kept out; given ones are measured whole by both.
    """
    refusals = [
        (i, [ended(d) for d in read_dialogues(i.folder, lessons=True)]) for i in inputs.many("refused")
    ]
    refused = [d for _, found in refusals for d in found]
    needless = [ended(d) for i in inputs.many("overrefused") for d in read_dialogues(i.folder, lessons=True)]
    limit = settings.pairs.limit
    sources = [(i, read_comparisons(i.folder), limit) for i in inputs.many("comparisons")]
    for i in inputs.many("answered"):
        answered = [ended(d) for d in read_dialogues(i.folder, lessons=True)]
        found = contrasts(answered, refused, needless, seed)
        sources.append((i, found, min(limit or len(found), settings.pairs.contrasts or len(found))))
    sources += [(i, revised(read_transcripts(i.folder)), limit) for i in inputs.many("transcripts")]
    sources += [(i, below_fixed(read_transcripts(i.folder)), limit) for i in inputs.many("drafts")]
    if settings.pairs.refused_above_fixed:
        sources += [(i, above_fixed(found), limit) for i, found in refusals]
    rows = [
        c for place, (i, found, most) in enumerate(sources) for c in _drawn(i.role, place, found, most, seed)
    ]
    if settings.pairs.part != "all":
        wanted = settings.pairs.part == "first"
        rows = [c for c in rows if (share_of(c, "part") < 0.5) == wanted]
    given = [c for i in inputs.many("heldout") for c in read_comparisons(i.folder)]
    if given:
        known = {share_of(c, "heldout") for c in given}
        train = [c for c in rows if share_of(c, "heldout") not in known]
    else:
        kept_out = [c for c in rows if share_of(c, "heldout") < settings.pairs.heldout_share]
        given = [
            c for c in kept_out if c.weight > 0
        ]  # a labeller worse than chance is no truth to measure by
        train = [c for c in rows if share_of(c, "heldout") >= settings.pairs.heldout_share]
    unknown = set(settings.axis_weights) - {c.axis for c in rows}
    if unknown:
        raise CharterError(
            f"axis_weights names {', '.join(sorted(unknown))}; the comparisons have the axes "
            f"{', '.join(sorted({c.axis for c in rows})) or 'of none'}"
        )
    train = [c for c in train if weight_of(settings, c) > 0]
    if not train:
        raise CharterError(
            f"no comparisons are left to train on (of {len(rows)} read); give more, lower the split, or weigh them"
        )
    return train + (rungs(train) if settings.pairs.ladder else []), given


def count_origins(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """How many pairs come from whom and of which axis: pairs_human, pairs_simulated, pairs_ai (whatever the principle),
    pairs_authored, pairs_built (made by this room) ...; axis_helpful ..."""
    whose = Counter(
        "built" if c.source.endswith(BUILT) else c.source.partition(":")[0] or "unknown" for c in comparisons
    )
    axes = Counter(c.axis for c in comparisons)
    found = {f"pairs_{name}": whose[name] for name in sorted(whose)}
    return found | {f"axis_{name}": axes[name] for name in sorted(axes)}


def ended(dialogue: Dialogue) -> Dialogue:
    """The dialogue up to its last reply; what a user said after it is left out."""
    last = max(n for n, message in enumerate(dialogue.messages) if message["role"] == "assistant")
    return replace(dialogue, messages=dialogue.messages[: last + 1])


def _drawn(role: str, place: int, rows: list[Comparison], limit: int, seed: int) -> list[Comparison]:
    """At most `limit` pairs of a source, drawn by its place among them: an id changes with code."""
    if limit and limit < len(rows):
        rows = random.Random(derive_seed(seed, "limit", role, place)).sample(rows, limit)
    return rows


def encode(settings: Settings, template: Template, rows: Sequence[Comparison], context: int) -> list[Ranking]:
    """Comparisons gathered by prompt, in the order of their first, within `context` tokens.

    Weights have mean 1, so that the learning rate means the same whatever they are.
    """
    gathered: dict[str, list[Comparison]] = {}
    for c in rows:
        gathered.setdefault(json.dumps(c.messages), []).append(c)
    mean = sum(sum(_weights(settings, members)) for members in gathered.values()) / max(1, len(rows))
    return [_ranking(settings, template, members, context, mean or 1.0) for members in gathered.values()]


def _weights(settings: Settings, members: Sequence[Comparison]) -> list[float]:
    """What the pairs of one prompt weigh; where prompts count equally, each 1 / pairs of the prompt (Ouyang 2022,
    2203.02155, section 3.5: 1 / (K choose 2) before the sum over K replies)."""
    count = len(members) if settings.pairs.weigh == "prompt" else 1
    return [weight_of(settings, c) / count for c in members]


def _ranking(
    settings: Settings, template: Template, members: Sequence[Comparison], context: int, mean: float
) -> Ranking:
    texts = tuple(dict.fromkeys(text for c in members for text in (c.chosen, c.rejected)))
    place = {text: at for at, text in enumerate(texts)}
    return Ranking(
        encode_item(template, members[0].messages, texts, context),
        texts,
        tuple(
            Pair(c, place[c.chosen], place[c.rejected], weight / mean)
            for c, weight in zip(members, _weights(settings, members), strict=True)
        ),
    )


def sample(rankings: Sequence[Ranking], pairs: int, seed: int) -> list[Ranking]:
    """Rankings drawn at random until they hold `pairs` pairs (0: all of them), in their order."""
    if not pairs:
        return list(rankings)
    drawn = list(range(len(rankings)))
    random.Random(derive_seed(seed, "curve")).shuffle(drawn)
    chosen: list[int] = []
    while drawn and sum(len(rankings[i].pairs) for i in chosen) < pairs:
        chosen.append(drawn.pop())
    return [rankings[i] for i in sorted(chosen)]


def order(rankings: Sequence[Ranking], settings: Settings, seed: int) -> list[list[Ranking]]:
    """Optimizer steps over all epochs; a step takes rankings until it has its pairs."""
    return filled_steps(rankings, lambda ranking: len(ranking.pairs), settings.batch, settings.epochs, seed)
