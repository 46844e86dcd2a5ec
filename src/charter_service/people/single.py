"""Single questions: a given prompt, a gold question, or replies that another person has already judged.

They look alike to the person who answers, and their replies take as long as others. Nobody sees what other people
wrote: only given prompts are repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from sqlalchemy import Connection, select

from charter_service.people.collection import Collection, Kind
from charter_service.people.tables import CONVERSATIONS, PEOPLE, TURNS, VOTES
from charter_service.people.workers import Person

GOLD_MODELS = ("gold:good", "gold:bad")
RECENT = 50  # last turns that measure how long models take
SHORTEST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Single:
    """A prompt with its models and replies, if known; None if the models are still to be drawn."""

    kind: Kind
    source: str
    prompt: str
    models: tuple[str, str] | None = None
    replies: tuple[str, str] | None = None


def draw_single(
    connection: Connection, collection: Collection, person: Person, axis: str, conversation: str, kind: Kind
) -> Single | None:
    """A question of `kind` that the person has not had; a given prompt if no repeat is left; None if there is none of
    the kind, or free conversation was drawn."""
    if kind == "chat":
        return None
    rng = collection.draw("single", conversation)
    had = set(
        connection.execute(
            select(CONVERSATIONS.c.source).where(
                CONVERSATIONS.c.person == person.id,
                CONVERSATIONS.c.axis == axis,
                CONVERSATIONS.c.kind != "chat",
            )
        ).scalars()
    )
    if kind == "gold":
        golds = [g for g in collection.golds.get(axis, ()) if g.id not in had]
        if not golds:
            return None
        gold = rng.choice(golds)
        return Single("gold", gold.id, gold.prompt, GOLD_MODELS, (gold.good, gold.bad))
    if kind == "repeat" and (repeat := _repeat(connection, person, axis, had)) is not None:
        return repeat
    openings = [o for o in collection.openings.get(axis, ()) if o.id not in had]
    if not openings:
        return None
    opening = rng.choice(openings)
    return Single("given", opening.id, opening.prompt)


def usual_wait(connection: Connection, collection: Collection, conversation: str) -> float:
    """Seconds to hold back known replies, so that speed doesn't give away a gold question or a repeat: about the recent
    time of models, 0 if they are almost instant."""
    wanted = (
        select(TURNS.c.ready - TURNS.c.created)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(CONVERSATIONS.c.kind.in_(("chat", "given")), TURNS.c.ready.is_not(None))
        .order_by(TURNS.c.created.desc())
        .limit(RECENT)
    )
    took = [float(seconds) for seconds in connection.execute(wanted).scalars()]
    wait = median(took) * collection.draw("wait", conversation).uniform(0.6, 1.4) if took else 0.0
    return 0.0 if wait < SHORTEST_WAIT else min(LONGEST_WAIT, wait)


def _repeat(connection: Connection, person: Person, axis: str, had: set[str]) -> Single | None:
    """The given prompt, judged once by somebody else, that has waited longest for a second opinion; people and
    simulated raters repeat only their own kind's."""
    repeated = select(CONVERSATIONS.c.source).where(CONVERSATIONS.c.kind == "repeat")
    wanted = (
        select(TURNS, CONVERSATIONS.c.source)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .join(VOTES, VOTES.c.turn == TURNS.c.id)
        .join(PEOPLE, PEOPLE.c.id == CONVERSATIONS.c.person)
        .where(
            PEOPLE.c.simulated.is_(person.simulated),
            CONVERSATIONS.c.kind == "given",
            CONVERSATIONS.c.axis == axis,
            CONVERSATIONS.c.person != person.id,
            TURNS.c.id.not_in(repeated),
        )
        .order_by(VOTES.c.created)
        .limit(50)
    )
    for turn in connection.execute(wanted):
        if turn.source not in had:
            return Single(
                "repeat", turn.id, turn.prompt, (turn.model_a, turn.model_b), (turn.reply_a, turn.reply_b)
            )
    return None
