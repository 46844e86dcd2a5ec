"""A small collection of work for the tests, and short words for what people do in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from charter.ground.text.ballot import Ballot, Outcome
from charter_service.people import work
from charter_service.people.collection import Collection, Gold, Opening, Pace, Task
from charter_service.people.export import open_people
from charter_service.people.workers import Person, invite, join
from charter_service.web.database import writing

PLAIN = Task(gold_share=0, repeat_share=0)
OPENED: list[Engine] = []  # closed after each test


def place_of(path: Path) -> str:
    """Where the database of a path is; tests on PostgreSQL put another function here."""
    return str(path)


def collection(axis: str = "helpful", task: Task = PLAIN, pace: Pace | None = None, **more: object) -> Collection:
    """Two models and one task."""
    return Collection(("start", "rl"), {axis: task}, pace or Pace(fastest=0), **more)  # type: ignore[arg-type]


def singles(axis: str = "helpful") -> dict[str, object]:
    """Given prompts and gold questions."""
    golds = [Gold(f"g{i}", f"gold {i}?", "good", "bad") for i in range(3)]
    return {"openings": {axis: [Opening(f"o{i}", f"given {i}?") for i in range(5)]}, "golds": {axis: golds}}


class Desk:
    """A database with people in it."""

    def __init__(self, engine: Engine, what: Collection) -> None:
        self.engine, self.collection = engine, what

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with writing(self.engine) as connection:
            yield connection

    def person(self, name: str = "ann", role: str = "worker", simulated: bool = False, quota: int = 0) -> Person:
        with self.writing() as c:
            return join(c, invite(c, role, simulated=simulated, quota=quota), name)[0]

    def begin(self, person: Person, axis: str = "helpful", plan: str = "") -> str:
        with self.writing() as c:
            return work.begin(c, self.collection, person, axis, plan)

    def ask(self, person: Person, conversation: str, text: str, number: int = 1) -> str:
        with self.writing() as c:
            return work.ask(c, self.collection, person, conversation, number, text)

    def deliver(self, turn: str, a: str = "first", b: str = "second") -> None:
        with self.writing() as c:
            work.deliver(c, turn, (a, b))

    def vote(
        self, person: Person, turn: str, outcome: Outcome = "a", strength: int | None = 3, edited: str | None = None
    ) -> str:
        with self.writing() as c:
            nonce = work.own_turn(c, person, turn).nonce
            return work.vote(c, self.collection, person, turn, work.Vote(nonce, Ballot(outcome, strength), edited))


def open_desk(place: Path, what: Collection | None = None) -> Desk:
    """A desk over a new database."""
    OPENED.append(open_people(place_of(place)))
    return Desk(OPENED[-1], what or collection())
