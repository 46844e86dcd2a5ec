"""How far a collection is: conversations, votes and attempts by task and kind of rater, and the review queue.

All numbers are read in one transaction. Votes are those that exports hold: what was skipped doesn't count, and gold
questions are counted apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, distinct, func, select

from charter.ground.text.ballot import HARMLESS, UNSURE
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter_service.people.reviewing import reviewed_by
from charter_service.people.tables import CONVERSATIONS, ITEMS, PEOPLE, REVIEWS, TURNS, VOTES

STATES = ("open", "finished", "stopped", "skipped")
_COUNTED = ("votes", "decided", "unsure", "ties", "both_bad", "edits", "flagged", "gold", "raters")
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """One axis and one kind of rater. `states`: conversations by state. `success`: mean rating, 0 to 4, of the rated
    red-team attempts, None without one."""

    axis: str
    source: str
    states: Mapping[str, int]
    votes: int
    decided: int
    unsure: int
    ties: int
    both_bad: int
    edits: int
    flagged: int
    gold: int
    raters: int
    attempts: int
    success: float | None


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """The review queue of one kind of rater: transcripts, those with enough reviews, reviews done, and those that are
    still needed."""

    source: str
    items: int
    complete: int
    done: int
    needed: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the tasks that somebody has begun, and of the queue if there is one."""

    tasks: tuple[TaskProgress, ...]
    reviews: tuple[ReviewProgress, ...]
    waiting: int  # turns whose replies aren't there yet
    failed: int  # turns whose models failed

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def progress_of(connection: Connection, reviewers: int) -> Progress:
    """How far the collection is, when each transcript needs that many reviews."""
    states, votes, attempts = _states(connection), _votes(connection), _attempts(connection)
    tasks = []
    for key in sorted(states):
        rated, success = attempts.get(key, (0, None))
        counts: dict[str, Any] = votes.get(key) or dict.fromkeys(_COUNTED, 0)
        tasks.append(TaskProgress(*key, states=states[key], attempts=rated, success=success, **counts))
    return Progress(tuple(tasks), _reviews(connection, reviewers), *_pending(connection))


def _states(connection: Connection) -> dict[Key, dict[str, int]]:
    query = (
        select(CONVERSATIONS.c.axis, PEOPLE.c.simulated, CONVERSATIONS.c.state, func.count())
        .join(PEOPLE, PEOPLE.c.id == CONVERSATIONS.c.person)
        .group_by(CONVERSATIONS.c.axis, PEOPLE.c.simulated, CONVERSATIONS.c.state)
    )
    states: dict[Key, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STATES, 0))
    for axis, simulated, state, count in connection.execute(query):
        states[axis, _source(simulated)][state] = count
    return states


def _votes(connection: Connection) -> dict[Key, dict[str, Any]]:
    counted = CONVERSATIONS.c.kind != "gold"
    sided = VOTES.c.outcome.in_(("a", "b"))
    columns = (
        _count(counted),
        _count(and_(counted, sided, VOTES.c.strength > UNSURE)),
        _count(and_(counted, sided, VOTES.c.strength <= UNSURE)),
        _count(and_(counted, VOTES.c.outcome == "tie")),
        _count(and_(counted, VOTES.c.outcome == "both_bad")),
        _count(and_(counted, VOTES.c.edited.is_not(None))),
        _count(and_(counted, VOTES.c.flags != "")),
        _count(CONVERSATIONS.c.kind == "gold"),
        func.count(distinct(case((counted, VOTES.c.person)))),
    )
    query: Select[Any] = (
        select(CONVERSATIONS.c.axis, PEOPLE.c.simulated, *columns)
        .select_from(VOTES)
        .join(TURNS, TURNS.c.id == VOTES.c.turn)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .join(PEOPLE, PEOPLE.c.id == VOTES.c.person)
        .where(CONVERSATIONS.c.state != "skipped")
        .group_by(CONVERSATIONS.c.axis, PEOPLE.c.simulated)
    )
    return {
        (axis, _source(simulated)): dict(zip(_COUNTED, map(int, counts), strict=True))
        for axis, simulated, *counts in connection.execute(query)
    }


def _attempts(connection: Connection) -> dict[Key, tuple[int, float | None]]:
    query = (
        select(CONVERSATIONS.c.axis, PEOPLE.c.simulated, func.count(), func.avg(CONVERSATIONS.c.rating))
        .join(PEOPLE, PEOPLE.c.id == CONVERSATIONS.c.person)
        .where(CONVERSATIONS.c.axis == HARMLESS, CONVERSATIONS.c.rating.is_not(None))
        .group_by(CONVERSATIONS.c.axis, PEOPLE.c.simulated)
    )
    return {
        (axis, _source(simulated)): (count, None if mean is None else float(mean))
        for axis, simulated, count, mean in connection.execute(query)
    }


def _reviews(connection: Connection, reviewers: int) -> tuple[ReviewProgress, ...]:
    """The queue of people, and that of simulated reviewers if they have items of their own or have begun."""
    queues = [_queue(connection, reviewers, source) for source in (HUMAN, SIMULATED)]
    people, simulated = (queue.items for queue in queues)
    attempts = select(func.count()).where(ITEMS.c.conversation.is_not(None), reviewed_by(simulated=True))
    simulated_reviews = simulated and (queues[1].done or connection.execute(attempts).scalar_one())
    return tuple(queue for queue, any_reviews in zip(queues, (people, simulated_reviews), strict=True) if any_reviews)


def _queue(connection: Connection, reviewers: int, source: str) -> ReviewProgress:
    simulated = source == SIMULATED
    done = (
        select(func.count())
        .select_from(REVIEWS)
        .join(PEOPLE, PEOPLE.c.id == REVIEWS.c.person)
        .where(REVIEWS.c.item == ITEMS.c.id, REVIEWS.c.state == "done", PEOPLE.c.simulated.is_(simulated))
        .scalar_subquery()
    )
    counts = connection.execute(select(done).where(reviewed_by(simulated))).scalars().all()
    needed = sum(max(0, reviewers - count) for count in counts)
    return ReviewProgress(source, len(counts), sum(c >= reviewers for c in counts), sum(counts), needed)


def _pending(connection: Connection) -> tuple[int, int]:
    """Turns of open conversations that wait for replies, and those whose models failed."""
    query = (
        select(TURNS.c.state, func.count())
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(CONVERSATIONS.c.state == "open", TURNS.c.state.in_(("waiting", "failed")))
        .group_by(TURNS.c.state)
    )
    counts: dict[str, int] = {row.state: row[1] for row in connection.execute(query)}
    return counts.get("waiting", 0), counts.get("failed", 0)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _source(simulated: bool) -> str:
    return SIMULATED if simulated else HUMAN
