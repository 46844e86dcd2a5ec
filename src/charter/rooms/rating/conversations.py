"""Rated conversations: read, split by first user turn, and grouped by their prompts.

A row has `messages` that end with a reply, and a `rating` from 0 to 4; or it is one of the published red-team attempts
(Ganguli et al. 2022, 2209.07858), with `transcript` and `rating`. A row of each held-out conversation is kept, from
which every figure of the room can be recomputed.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.fitness import Scorer
from charter.ground.judge.preference_score import Item, encode_item
from charter.ground.judge.rater import rating_of
from charter.ground.settings.seed import derive_seed, sample_rows
from charter.ground.text.dialogue import Dialogue, Message, cluster_of, first_turn
from charter.ground.text.packing import fill_steps
from charter.ground.text.parsing import LeftOut, dialogue_of_row
from charter.ground.text.records import read_records
from charter.ground.text.template import Template
from charter.ground.text.votes import RATINGS, VOTES
from charter.rooms.rating.settings import Settings


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt with its distinct replies in tokens, and the rated conversations, each with the place of its reply
    in `texts`."""

    item: Item
    texts: tuple[str, ...]
    conversations: tuple[tuple[Dialogue, int], ...]

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages before the reply, which all conversations share."""
        return self.conversations[0][0].messages[:-1]


def rated_of_row(row: Mapping[str, Any]) -> Dialogue:
    """A rated conversation that ends with a reply. Raises LeftOut for a transcript without a last reply or with turns
    out of order, CharterError for any other unusable row."""
    dialogue = dialogue_of_row(row)
    rating_of(dialogue)
    if dialogue.messages[-1]["role"] != "assistant":
        if "transcript" in row:
            raise LeftOut("no last reply")
        raise CharterError("a rated conversation that ends with a user's turn; end it with the reply")
    return dialogue


def read_rated(path: Path, dropped: Counter[str]) -> list[Dialogue]:
    """Rated conversations of a file or folder; unusable transcripts are counted in `dropped` by reason. A folder of
    votes gives the red-team attempts that people rated.

    Raises CharterError naming file:line, and for votes without such attempts.
    """
    if (path / VOTES).is_file() and not (path / RATINGS).is_file():
        raise CharterError(f"{path.name} holds votes without rated attempts; give a step whose votes are harmless")
    return read_records(path, "ratings" if (path / RATINGS).is_file() else "dialogues", rated_of_row, dropped)


def split(
    settings: Settings, inputs: Inputs, seed: int, dropped: Counter[str]
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Training and held-out conversations, disjoint in their first user turns.

    Both `limit` and the held-out share draw by place: of the input among the inputs, of the row or first turn among
    those read. A file's name and folder change nothing.
    """
    rows: list[Dialogue] = []
    for place, source in enumerate(inputs.many("ratings")):
        rated = read_rated(source.folder, dropped)
        rows += sample_rows(rated, settings.limit, derive_seed(seed, "limit", place))
    turns = list(dict.fromkeys(first_turn(d, "heldout") for d in rows))
    if len(turns) < 2:
        raise CharterError(
            f"the ratings have {len(turns)} first user turn; at least 2 are needed, one of them held out"
        )
    count = min(len(turns) - 1, max(1, round(settings.heldout_share * len(turns))))
    kept_out = set(random.Random(derive_seed(seed, "heldout")).sample(turns, count))
    parts = [[d for d in rows if (first_turn(d, "heldout") in kept_out) == out] for out in (False, True)]
    return parts[0], parts[1]


def encode(template: Template, rows: Sequence[Dialogue], context: int) -> list[Group]:
    """Conversations grouped by prompt, in order of first occurrence, within `context` tokens."""
    gathered: dict[str, list[Dialogue]] = {}
    for d in rows:
        gathered.setdefault(json.dumps(d.messages[:-1]), []).append(d)
    return [_group(template, members, context) for members in gathered.values()]


def _group(template: Template, members: Sequence[Dialogue], context: int) -> Group:
    replies = [d.messages[-1]["content"] for d in members]
    texts = tuple(dict.fromkeys(replies))
    item = encode_item(template, members[0].messages[:-1], texts, context)
    return Group(item, texts, tuple(zip(members, map(texts.index, replies), strict=True)))


def order(groups: Sequence[Group], settings: Settings, seed: int) -> list[list[Group]]:
    """Optimizer steps over all epochs; a step takes prompts until it has `batch` conversations."""
    return fill_steps(groups, lambda group: len(group.conversations), settings.batch, settings.epochs, seed)


def count(groups: Sequence[Group]) -> int:
    """How many conversations the groups have."""
    return sum(len(group.conversations) for group in groups)


def heldout_rows(score: Scorer, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One row per conversation; its id is the cluster, which conversations with equal first user turns share."""
    scored = score([(group.messages, group.texts) for group in groups])
    return [
        {
            "id": cluster_of(dialogue),
            "conversation": dialogue.id,
            "topic": dialogue.topic,
            "rating": rating_of(dialogue),
            "score": scores[at],
            "tokens": len(group.item.replies[at]),
        }
        for group, scores in zip(groups, scored, strict=True)
        for dialogue, at in group.conversations
    ]
