"""One answered turn as rows: a vote for the Elo fit, and comparisons for preference models.

Both rows name the rater (`rater`, a pseudonym) and the kind of rater (`source`: human or simulated), so the two are
never mixed unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from charter.ground.text.ballot import Ballot, Side, better
from charter.ground.text.dialogue import Comparison, Dialogue, Message, cluster_of
from charter.ground.text.judgments import HUMAN

VOTES, COMPARISONS, RATINGS = "votes.jsonl", "comparisons.jsonl", "ratings.jsonl"


@dataclass(frozen=True, slots=True)
class Choice:
    """Two replies to messages that end with a user's, and one person's answer.

    All answers about the same two replies share `item`. `edited` is the picked reply after the person's edits. `flags`
    say why the answer is suspicious. `left` is the reply on the left, if known.
    """

    id: str
    item: str
    axis: str
    kind: str
    messages: tuple[Message, ...]
    replies: tuple[str, str]
    models: tuple[str, str]
    ballot: Ballot
    rater: str
    source: str = HUMAN
    edited: str | None = None
    flags: tuple[str, ...] = ()
    seconds: float = 0.0
    topic: str = ""
    left: Side | None = None


def vote_row(choice: Choice) -> dict[str, Any]:
    """The row that `charter elo` reads: `winner` is the better reply by the axis ("a", "b"), or "unsure", "tie",
    "both_bad". Votes with the same first user turn share `prompt`; `left` is the reply on the left."""
    ballot = choice.ballot
    unsure = ballot.outcome in ("a", "b") and not ballot.decided
    return {
        "id": choice.id,
        "item": choice.item,
        "prompt": cluster_of(Dialogue(choice.item, choice.messages)),
        "axis": choice.axis,
        "kind": choice.kind,
        "model_a": choice.models[0],
        "model_b": choice.models[1],
        "winner": "unsure" if unsure else better(choice.axis, ballot.outcome),
        "strength": ballot.strength,
        "left": choice.left,
        "rater": choice.rater,
        "source": choice.source,
        "flags": list(choice.flags),
        "seconds": round(choice.seconds, 1),
    }


def comparisons_of(choice: Choice) -> list[Comparison]:
    """The comparisons in an answer: the better reply over the other, unless the answer is unsure or neither; and an
    edited reply over its original."""
    comparisons = []
    meta = {"rater": choice.rater, "models": list(choice.models), "strength": choice.ballot.strength}
    if choice.ballot.decided and choice.replies[0] != choice.replies[1]:
        winner = better(choice.axis, choice.ballot.outcome)
        chosen, rejected = choice.replies if winner == "a" else choice.replies[::-1]
        comparisons.append(_comparison(choice, choice.id, chosen, rejected, meta))
    picked = choice.ballot.outcome
    if choice.edited is not None and picked in ("a", "b"):
        original = choice.replies[0 if picked == "a" else 1]
        comparisons.append(_comparison(choice, f"{choice.id}-edit", choice.edited, original, meta | {"edited": True}))
    return comparisons


def _comparison(choice: Choice, id: str, chosen: str, rejected: str, meta: dict[str, Any]) -> Comparison:
    axis, source = choice.axis, choice.source
    return Comparison(id, choice.messages, chosen, rejected, 1.0, axis, source, choice.topic, meta)


def counts_of(choices: Iterable[Choice]) -> dict[str, int]:
    """The number of answers, and of those without a preference, by reason."""
    counts = {"votes": 0, "unsure": 0, "ties": 0, "both_bad": 0, "edits": 0, "flagged": 0}
    for choice in choices:
        counts["votes"] += 1
        counts["ties"] += choice.ballot.outcome == "tie"
        counts["both_bad"] += choice.ballot.outcome == "both_bad"
        counts["unsure"] += choice.ballot.outcome in ("a", "b") and not choice.ballot.decided
        counts["edits"] += choice.edited is not None
        counts["flagged"] += bool(choice.flags)
    return counts
