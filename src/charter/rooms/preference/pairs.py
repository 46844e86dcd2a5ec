"""Pairs for a preference model: read, built of single replies, split by first user turn, ranked, and cut into steps.

A row of each held-out pair is kept, from which every figure of the room can be recomputed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge import rankings as ranked
from charter.ground.judge.fitness import Scorer
from charter.ground.judge.rankings import Ranking, rank, share_of, split_heldout
from charter.ground.settings.seed import derive_seed, sample_rows
from charter.ground.text.dialogue import Comparison, cut_after_reply
from charter.ground.text.examples import read_transcripts
from charter.ground.text.packing import fill_steps
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.rooms.preference.ladder import (
    above_fixed,
    below_fixed,
    compare_revisions,
    contrasts,
    of_ratings,
    rungs,
)
from charter.rooms.preference.settings import Settings


def weight_of(settings: Settings, comparison: Comparison) -> float:
    """The weight of its axis times its own."""
    return settings.axis_weights.get(comparison.axis, 1.0) * comparison.weight


def split(
    settings: Settings, inputs: Inputs, seed: int, unsure: Counter[str] | None = None
) -> tuple[list[Comparison], list[Comparison]]:
    """Training and held-out comparisons, disjoint in their first user turns.

    `part` takes one half of all prompts: two models of opposite parts share no training prompt. Without held-out
    inputs a share of the half's prompts is held out; held-out inputs are measured whole by both. `unsure` counts pairs
    that are left out because the refusal detector is unsure of a reply.
    """
    refusals = [
        (i, [cut_after_reply(d) for d in read_dialogues(i.folder, lessons=True) if not d.meta.get("cut")])
        for i in inputs.many("refused")
    ]
    refused = [d for _, replies in refusals for d in replies]
    needless = [
        cut_after_reply(d) for i in inputs.many("overrefused") for d in read_dialogues(i.folder, lessons=True)
    ]
    limit = settings.pairs.limit
    sources = [(i, read_comparisons(i.folder), limit) for i in inputs.many("comparisons")]
    for i in inputs.many("answered"):
        answered = [cut_after_reply(d) for d in read_dialogues(i.folder, lessons=True)]
        pairs = contrasts(answered, refused, needless, seed, unsure)
        sources.append((i, pairs, min(limit or len(pairs), settings.pairs.contrasts or len(pairs))))
    sources += [
        (i, compare_revisions(read_transcripts(i.folder), unsure), limit) for i in inputs.many("transcripts")
    ]
    for i in inputs.many("drafts"):
        sources.append((i, below_fixed(read_transcripts(i.folder), refused, seed, unsure), limit))
    for i in inputs.many("rated"):
        rated = [cut_after_reply(d) for d in read_dialogues(i.folder, lessons=True)]
        sources.append((i, of_ratings(rated), limit))
    if settings.pairs.refused_above_fixed:
        sources += [(i, above_fixed(replies), limit) for i, replies in refusals]
    # the seed has the input's place, since its id changes with code
    rows = [
        c
        for place, (i, pairs, most) in enumerate(sources)
        for c in sample_rows(pairs, most, derive_seed(seed, "limit", i.role, place))
    ]
    if settings.pairs.part != "all":
        first_half = settings.pairs.part == "first"
        rows = [c for c in rows if (share_of(c, "part") < 0.5) == first_half]
    heldout_pairs = [c for i in inputs.many("heldout") for c in read_comparisons(i.folder)]
    train, heldout = split_heldout(rows, heldout_pairs, settings.pairs.heldout_share)
    unknown = set(settings.axis_weights) - {c.axis for c in rows}
    if unknown:
        raise CharterError(
            f"axis_weights names {', '.join(sorted(unknown))}; the comparisons have the axes "
            f"{', '.join(sorted({c.axis for c in rows})) or 'of none'}"
        )
    train = [c for c in train if weight_of(settings, c) > 0]
    if not train:
        raise CharterError(
            f"no comparisons are left to train on (of {len(rows)} read); give more, lower heldout_share, or "
            "raise weights"
        )
    return train + (rungs(train, unsure) if settings.pairs.ladder else []), heldout


def encode(settings: Settings, template: Template, rows: Sequence[Comparison], context: int) -> list[Ranking]:
    """Comparisons gathered by prompt, weighted by axis, within `context` tokens."""
    return rank(template, rows, context, partial(weight_of, settings), settings.pairs.weigh == "prompt")


def sample(rankings: Sequence[Ranking], pairs: int, seed: int) -> list[Ranking]:
    """Rankings drawn at random until they hold `pairs` pairs (0: all of them), in their order."""
    if not pairs:
        return list(rankings)
    places = list(range(len(rankings)))
    random.Random(derive_seed(seed, "curve")).shuffle(places)
    indices: list[int] = []
    while places and sum(len(rankings[i].pairs) for i in indices) < pairs:
        indices.append(places.pop())
    return [rankings[i] for i in sorted(indices)]


def order(rankings: Sequence[Ranking], settings: Settings, seed: int) -> list[list[Ranking]]:
    """Optimizer steps over all epochs; a step takes rankings until it has `batch` pairs."""
    return fill_steps(rankings, lambda ranking: len(ranking.pairs), settings.batch, settings.epochs, seed)


def heldout_rows(
    score: Scorer, rankings: Sequence[Ranking], gaps: Sequence[Sequence[float]] = ()
) -> list[dict[str, Any]]:
    """One row per held-out pair; `gaps`: the `score_gaps` of each averaged member."""
    rows = ranked.heldout_rows(rankings, score([(ranking.messages, ranking.texts) for ranking in rankings]))
    for row, own in zip(rows, zip(*gaps, strict=True), strict=bool(gaps)):
        row["member_gaps"] = list(own)
    return rows


def score_gaps(score: Scorer, rankings: Sequence[Ranking]) -> list[float]:
    """Score of the chosen reply less that of the rejected one, for each row of `heldout_rows`."""
    return [row["chosen_score"] - row["rejected_score"] for row in heldout_rows(score, rankings)]
