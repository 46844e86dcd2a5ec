"""Pairs for a preference model: read, split by first user turn, encoded behind one shared prompt."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.judge.preference_score import Item, encode_item
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Comparison
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.preference.ladder import contrasts, rungs
from charter.preference.settings import Settings


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison and its tokens: replies[0] is the chosen one."""

    comparison: Comparison
    item: Item
    weight: float


def share_of(comparison: Comparison, purpose: str) -> float:
    """A number in [0, 1) that depends on the first user turn alone, so that pairs of one prompt stay together."""
    return int(_digest(comparison, purpose)[:14], 16) / 2**56


def cluster_of(comparison: Comparison) -> str:
    """What pairs of one first user turn have in common: they are not independent."""
    return _digest(comparison, "cluster")[:12]


def _digest(comparison: Comparison, purpose: str) -> str:
    first = next((m["content"] for m in comparison.messages if m["role"] == "user"), "")
    return hashlib.sha256(f"{purpose}|{first.strip().lower()}".encode()).hexdigest()


def split(settings: Settings, inputs: Inputs, seed: int) -> tuple[list[Comparison], list[Comparison]]:
    """Training and held-out comparisons, disjoint in their first user turns.

    `part` takes one half of all prompts: two models of opposite parts share no training prompt. Without held-out
    inputs a share of the half's prompts is kept out; given ones are measured whole by both.
    """
    rows = [c for i in inputs.many("comparisons") for c in _drawn(i, settings.pairs.limit, seed)]
    answered, refused = (
        [d for i in inputs.many(role) for d in read_dialogues(i.folder)] for role in ("answered", "refused")
    )
    rows += contrasts(answered, refused, seed)
    if settings.pairs.part != "all":
        wanted = settings.pairs.part == "first"
        rows = [c for c in rows if (share_of(c, "part") < 0.5) == wanted]
    given = [c for i in inputs.many("heldout") for c in read_comparisons(i.folder)]
    if given:
        known = {share_of(c, "heldout") for c in given}
        train = [c for c in rows if share_of(c, "heldout") not in known]
    else:
        given = [c for c in rows if share_of(c, "heldout") < settings.pairs.heldout_share]
        train = [c for c in rows if share_of(c, "heldout") >= settings.pairs.heldout_share]
    if not train:
        raise CharterError(
            f"no comparisons are left to train on (of {len(rows)} read); give more or lower the split"
        )
    return train + (rungs(train) if settings.pairs.ladder else []), given


def _drawn(source: Input, limit: int, seed: int) -> list[Comparison]:
    rows = read_comparisons(source.folder)
    if limit and limit < len(rows):
        rows = random.Random(derive_seed(seed, "limit", source.id)).sample(rows, limit)
    return rows


def encode(settings: Settings, template: Template, rows: Sequence[Comparison]) -> list[Pair]:
    """Tokens of each pair within the context, with the weight of its axis."""
    return [
        Pair(
            c,
            encode_item(template, c.messages, (c.chosen, c.rejected), settings.context),
            settings.axis_weights.get(c.axis, 1.0),
        )
        for c in rows
    ]


def order(pairs: Sequence[Pair], settings: Settings, seed: int) -> list[list[Pair]]:
    """Optimizer steps over all epochs, each epoch shuffled anew."""
    steps: list[list[Pair]] = []
    for epoch in range(settings.epochs):
        shuffled = list(pairs)
        random.Random(derive_seed(seed, "order", epoch)).shuffle(shuffled)
        steps += [shuffled[at : at + settings.batch] for at in range(0, len(shuffled), settings.batch)]
    return steps
