"""People's answers as rows that outlive the database: choices, rated attempts, reviewed transcripts.

A digest names each rater; without the database nobody can trace it back. Gold questions are left out, since they
measure the rater. Skipped conversations don't count.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, select

from charter.ground.artifact.errors import CharterError
from charter.ground.text.ballot import HARMLESS, Ballot
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter.ground.text.votes import Choice, vote_row
from charter_service.people.conversations import picked_reply
from charter_service.people.reviewing import reviewed_by
from charter_service.people.tables import (
    ADDRESS,
    CONVERSATIONS,
    FACTS,
    ITEMS,
    METADATA,
    MIGRATIONS,
    PEOPLE,
    REVIEWS,
    TURNS,
    VOTES,
)
from charter_service.web.database import alone, migrate, open_database, reading, writing
from charter_service.web.tokens import digest_of, new_token

ATTEMPT = "conversation"  # the origin of attempts in the review queue


def open_people(place: str, folder: Path | None = None, new: bool = True) -> Engine:
    """The database of a collection, with its schema up to date; with `new` a missing one is created and gets its own
    name.

    Raises CharterError if it can't be opened, and without `new` if there is no collection.
    """
    engine = open_database(place, folder, new)
    try:
        migrate(engine, MIGRATIONS, METADATA, new)
    except CharterError:
        engine.dispose()
        raise
    with writing(engine) as connection:
        alone(connection)
        if connection.execute(select(FACTS.c.value).where(FACTS.c.name == "collection")).scalar() is None:
            connection.execute(FACTS.insert().values(name="collection", value=new_token()))
    return engine


def address_of(connection: Connection) -> str | None:
    """The address where the collection was last served; None if it never was."""
    address: str | None = connection.execute(select(FACTS.c.value).where(FACTS.c.name == ADDRESS)).scalar()
    return address


def votes_of(place: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The vote rows of a collection's database, as `charter elo` reads them. Raises CharterError if there is no
    collection."""
    engine = open_people(place, folder, new=False)
    try:
        return [vote_row(choice) for choice in choices_of(engine)]
    finally:
        engine.dispose()


def choices_of(engine: Engine, axes: Collection[str] | None = None) -> list[Choice]:
    """All choices that count, oldest first, of `axes` or of all axes."""
    name, conversations = _conversations(engine)
    dated = []
    for members in conversations:
        messages: list[Message] = []
        for turn in members:
            messages.append(user(turn.prompt))
            if turn.outcome is None:
                break
            if turn.kind != "gold" and turn.conversation_state != "skipped" and (axes is None or turn.axis in axes):
                dated.append((turn.voted, _choice(turn, tuple(messages), name[turn.person])))
            messages.append(assistant(picked_reply(turn) or ""))
    return [choice for _, choice in sorted(dated, key=lambda entry: (entry[0], entry[1].id))]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished red-team attempt: its transcript, the attacker's plan and rating of success, 0 to 4, and the model of
    each chosen reply."""

    id: str
    messages: tuple[Message, ...]
    rating: int
    plan: str
    models: tuple[str, ...]
    rater: str
    source: str

    def row(self) -> dict[str, Any]:
        """A row of `ratings.jsonl`, which the rating room reads."""
        facts = {"plan": self.plan, "models": list(self.models), "rater": self.rater}
        return {"id": self.id, "messages": list(self.messages), "rating": self.rating, "source": self.source, **facts}


def attempts_of(engine: Engine) -> list[Attempt]:
    """All finished and rated red-team attempts, oldest first."""
    name, conversations = _conversations(engine)
    rated = [turns for turns in conversations if turns[0].axis == HARMLESS and turns[0].rating is not None]
    answered = [[turn for turn in turns if turn.outcome is not None] for turns in rated]
    return [_attempt(turns, name[turns[0].person]) for turns in answered if turns]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A transcript of the queue with its reviews: ratings, tags, notes, worst replies and intents in the same order.
    `self_rating`: of an attempt, its success as its author rated it."""

    id: str
    origin: str
    prompt_id: str
    sample: int
    topic: str
    messages: tuple[Message, ...]
    ratings: tuple[int, ...] = ()
    tags: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    raters: tuple[str, ...] = ()
    worst: tuple[int | None, ...] = ()
    intents: tuple[int | None, ...] = ()
    self_rating: int | None = None

    @property
    def attempt(self) -> bool:
        """Whether it is a red-team attempt, judged as a whole."""
        return self.origin == ATTEMPT


def reviewed_of(engine: Engine, source: str = HUMAN) -> list[Reviewed]:
    """Every transcript for one kind of rater, with their finished reviews, in the queue's order."""
    with reading(engine) as connection:
        name = rater_names(connection)
        queue = select(ITEMS, CONVERSATIONS.c.rating.label("self_rating")).where(reviewed_by(source == SIMULATED))
        queue = queue.outerjoin(CONVERSATIONS, CONVERSATIONS.c.id == ITEMS.c.conversation)
        items = connection.execute(queue.order_by(ITEMS.c.place, ITEMS.c.id)).all()
        query = (
            select(REVIEWS, PEOPLE.c.simulated)
            .join(PEOPLE, PEOPLE.c.id == REVIEWS.c.person)
            .where(REVIEWS.c.state == "done", PEOPLE.c.simulated.is_(source == SIMULATED))
            .order_by(REVIEWS.c.finished, REVIEWS.c.id)
        )
        by_item: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in connection.execute(query):
            by_item[row.item].append(row)
    return [_reviewed(item, by_item[item.id], name) for item in items]


def rater_names(connection: Connection) -> dict[int, str]:
    """Each person's name in exports: a digest of the collection's secret name and the person's number."""
    secret = connection.execute(select(FACTS.c.value).where(FACTS.c.name == "collection")).scalar() or ""
    people = connection.execute(select(PEOPLE.c.id)).scalars()
    return {person: f"r-{digest_of(f'{secret}|{person}')[:10]}" for person in people}


def _conversations(engine: Engine) -> tuple[dict[int, str], list[list[Row[Any]]]]:
    """Each person's name in exports, and the turns of each conversation, oldest first."""
    with reading(engine) as connection:
        name = rater_names(connection)
        turns = connection.execute(_turns()).all()
    by_conversation: dict[str, list[Row[Any]]] = defaultdict(list)
    for turn in turns:
        by_conversation[turn.conversation].append(turn)
    return name, list(by_conversation.values())


def _turns() -> Any:
    """All turns with replies, with their conversations, votes and people, in order."""
    return (
        select(
            TURNS,
            CONVERSATIONS.c.axis,
            CONVERSATIONS.c.kind,
            CONVERSATIONS.c.source,
            CONVERSATIONS.c.plan,
            CONVERSATIONS.c.rating,
            CONVERSATIONS.c.state.label("conversation_state"),
            CONVERSATIONS.c.person,
            PEOPLE.c.simulated,
            VOTES.c.outcome,
            VOTES.c.strength,
            VOTES.c.edited,
            VOTES.c.seconds,
            VOTES.c.flags,
            VOTES.c.created.label("voted"),
        )
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .join(PEOPLE, PEOPLE.c.id == CONVERSATIONS.c.person)
        .outerjoin(VOTES, VOTES.c.turn == TURNS.c.id)
        .order_by(CONVERSATIONS.c.created, CONVERSATIONS.c.id, TURNS.c.number)
    )


def _choice(turn: Row[Any], messages: tuple[Message, ...], rater: str) -> Choice:
    return Choice(
        id=turn.id,
        item=turn.source if turn.kind == "repeat" else turn.id,
        axis=turn.axis,
        kind=turn.kind,
        messages=messages,
        replies=(turn.reply_a, turn.reply_b),
        models=(turn.model_a, turn.model_b),
        ballot=Ballot(turn.outcome, turn.strength),
        rater=rater,
        source=_source(turn),
        edited=turn.edited,
        flags=tuple(turn.flags.split()),
        seconds=turn.seconds,
        left=turn.shown_left,
    )


def _attempt(turns: Sequence[Row[Any]], rater: str) -> Attempt:
    messages: list[Message] = []
    models = []
    for turn in turns:
        messages += [user(turn.prompt), assistant(picked_reply(turn) or "")]
        side = turn.outcome if turn.outcome in ("a", "b") else turn.shown_left
        models.append(turn.model_a if side == "a" else turn.model_b)
    first = turns[0]
    facts = (first.rating, first.plan, tuple(models), rater, _source(first))
    return Attempt(first.conversation, tuple(messages), *facts)


def _reviewed(item: Row[Any], reviews: Sequence[Row[Any]], name: dict[int, str]) -> Reviewed:
    return Reviewed(
        item.id,
        item.origin,
        item.prompt_id,
        item.sample,
        item.topic,
        tuple(json.loads(item.messages)),
        tuple(row.rating for row in reviews),
        tuple(tuple(json.loads(row.tags)) for row in reviews),
        tuple(row.note for row in reviews),
        tuple(name[row.person] for row in reviews),
        tuple(row.worst for row in reviews),
        tuple(row.intent for row in reviews),
        item.self_rating,
    )


def _source(row: Row[Any]) -> str:
    return SIMULATED if row.simulated else HUMAN
