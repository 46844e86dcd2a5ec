"""One answered turn as rows: a vote, which Elo is fitted to, and comparisons, which preference models learn from.

Both rows say by whom (`rater`, a name that tells nobody who it is) and of which kind the rater is (`source`: human or
simulated), so that the two are never mixed unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.text.ballot import Ballot, Side, better
from charter.ground.text.dialogue import Comparison, Dialogue, Message, cluster_of
from charter.ground.text.judgments import HUMAN

VOTES, COMPARISONS, RATINGS = "votes.jsonl", "comparisons.jsonl", "ratings.jsonl"


@dataclass(frozen=True, slots=True)
class Choice:
    """Two replies to messages that end with a user's, and what one person said of them.

    `item` is shared by all answers about the same two replies; `edited` is the picked reply as the person would have
    it; `flags` say what is suspicious about the answer; `left` is the reply that stood on the left, where known.
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
    "both_bad"; `prompt` is shared by the votes of one first user turn, `left` is the reply shown on the left."""
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
    """What can be learnt from an answer: the better of the two replies, unless the answer is unsure or neither; and an
    edited reply over the one that it was made from."""
    comparisons = []
    meta = {"rater": choice.rater, "models": list(choice.models), "strength": choice.ballot.strength}
    if choice.ballot.decided and choice.replies[0] != choice.replies[1]:
        winner = better(choice.axis, choice.ballot.outcome)
        chosen, rejected = choice.replies if winner == "a" else choice.replies[::-1]
        comparisons.append(_comparison(choice, choice.id, chosen, rejected, meta))
    picked = choice.ballot.outcome
    if choice.edited is not None and picked in ("a", "b"):
        original = choice.replies[0 if picked == "a" else 1]
        comparisons.append(
            _comparison(choice, f"{choice.id}-edit", choice.edited, original, meta | {"edited": True})
        )
    return comparisons


def _comparison(choice: Choice, id: str, chosen: str, rejected: str, meta: dict[str, Any]) -> Comparison:
    axis, source = choice.axis, choice.source
    return Comparison(id, choice.messages, chosen, rejected, 1.0, axis, source, choice.topic, meta)


def counts_of(choices: Iterable[Choice]) -> dict[str, int]:
    """How many answers there are, and how many say nothing to learn from, by reason."""
    counts = {"votes": 0, "unsure": 0, "ties": 0, "both_bad": 0, "edits": 0, "flagged": 0}
    for choice in choices:
        counts["votes"] += 1
        counts["ties"] += choice.ballot.outcome == "tie"
        counts["both_bad"] += choice.ballot.outcome == "both_bad"
        counts["unsure"] += choice.ballot.outcome in ("a", "b") and not choice.ballot.decided
        counts["edits"] += choice.edited is not None
        counts["flagged"] += bool(choice.flags)
    return counts


def sources_of(choices: Sequence[Choice]) -> list[str]:
    """Which kinds of raters answered."""
    return sorted({choice.source for choice in choices})
