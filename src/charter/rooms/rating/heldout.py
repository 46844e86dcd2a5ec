"""What is kept of the held-out conversations: one row each, from which every figure of the room is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.judge.fitness import Scorer
from charter.ground.judge.rater import rating_of
from charter.ground.text.dialogue import cluster_of
from charter.rooms.rating.conversations import Group


def heldout_rows(score: Scorer, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One kept row a conversation; its id is the cluster, which conversations of one first user turn share."""
    found = score([(group.messages, group.texts) for group in groups])
    return [
        {
            "id": cluster_of(dialogue),
            "conversation": dialogue.id,
            "topic": dialogue.topic,
            "rating": rating_of(dialogue),
            "score": scores[at],
            "tokens": len(group.item.replies[at]),
        }
        for group, scores in zip(groups, found, strict=True)
        for dialogue, at in group.conversations
    ]
