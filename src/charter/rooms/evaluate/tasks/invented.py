"""Questions about real things, and the same questions about invented ones, which only a decline answers rightly.

A seeded generator invents the names (`ground/text/invented.py`): another `draw_seed` asks about others, so that no
model can have met them. A real thing and its twins are one cluster. The share of declines on each side shows whether a
model tells what it knows from what nobody can.
"""

from __future__ import annotations

from charter.ground.measure.counts import flag, mean
from charter.ground.measure.honesty import ANSWERABLE, UNANSWERABLE, of_answers
from charter.ground.settings.room import Role
from charter.ground.text.invented import Fact, fact_of, with_twins
from charter.rooms.evaluate.honesty import Honest, honest_task
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.reading import TEST, Row, read_split
from charter.rooms.evaluate.task import Context, Question


def parse(row: Row, name: str) -> list[Fact]:
    """A row with kind, name, question (with {name}) and golden_answers."""
    return [fact_of(row, str(row.get("id") or name))]


def load(context: Context) -> list[list[Question]]:
    """Each real fact with its invented twins."""
    facts = read_split(context.source, TEST, parse)
    groups = with_twins(facts, context.seed("names"), context.settings.honesty.twins)
    return [[_question(fact) for fact in group] for group in groups]


def _question(fact: Fact) -> Question:
    return Question(fact.id, fact.question, accepted=fact.accepted, cluster=fact.pair, group=fact.kind)


HONEST = Honest(load)
TASK = honest_task(
    "invented",
    "Real and invented things",
    HONEST,
    metrics=(
        *of_answers("invented", "questions about real and invented things"),
        lower(
            "invented_made_up", mean("attempted", UNANSWERABLE), "questions about invented things that get an answer"
        ),
        higher("invented_real_right", mean("correct", ANSWERABLE), "questions about real things: right"),
        lower("invented_real_declined", flag("declined", ANSWERABLE), "questions about real things: declined"),
    ),
    role=Role(kind="questions", default="shipped:invented.heldout"),
    cost=(120, 48),
)
