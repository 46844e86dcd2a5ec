"""Many at once: whatever several people or pages do in the same instant counts once."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from people_desk import Desk, collection, open_desk
from sqlalchemy import Engine, func, select

from charter.ground.text.ballot import Ballot
from charter.ground.text.dialogue import assistant, user
from charter_service.people import reviewing, work
from charter_service.people.collection import Pace
from charter_service.people.export import open_people
from charter_service.people.reviewing import Item, Verdict
from charter_service.people.tables import CONVERSATIONS, PEOPLE, REVIEWS, TURNS, VOTES
from charter_service.people.workers import consent, invite, join
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal, Stale


@pytest.fixture
def desk(tmp_path) -> Desk:
    return open_desk(tmp_path / "people.sqlite")


def at_once(tasks: Sequence[Callable[[], object]]) -> list[object]:
    """What each task returned or raised, all begun in one instant, each in a thread of its own."""
    start, found = threading.Barrier(len(tasks)), [None] * len(tasks)

    def run(number: int) -> None:
        start.wait()
        try:
            found[number] = tasks[number]()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def count(desk: Desk, table, *where) -> int:
    with reading(desk.engine) as c:
        return c.execute(select(func.count()).select_from(table).where(*where)).scalar_one()


def test_twenty_threads_vote_on_one_turn(desk: Desk) -> None:
    ann = desk.person()
    turn = desk.ask(ann, desk.begin(ann), "hello")
    desk.deliver(turn)
    with desk.writing() as c:
        nonce = work.own_turn(c, ann, turn).nonce
    ballots = [Ballot("a" if n % 2 else "b", 1 + n % 4) for n in range(20)]

    def vote(ballot: Ballot) -> Ballot:
        with writing(desk.engine) as c:
            work.vote(c, desk.collection, ann, turn, work.Vote(nonce, ballot))
        return ballot

    found = at_once([lambda b=b: vote(b) for b in ballots])
    taken = [f for f in found if isinstance(f, Ballot)]
    assert taken and set(map(type, found)) <= {Ballot, Stale}, found
    with reading(desk.engine) as c:
        (row,) = c.execute(select(VOTES)).all()
    # several threads may say the same; whoever was told "taken" said what is stored
    assert {(b.outcome, b.strength) for b in taken} == {(row.outcome, row.strength)}


def test_one_page_sent_many_times_at_once_is_one_vote(desk: Desk) -> None:
    ann = desk.person()
    turn = desk.ask(ann, desk.begin(ann), "hello")
    desk.deliver(turn)
    found = at_once([lambda: desk.vote(ann, turn, "a", 3)] * 12)
    assert set(map(type, found)) == {str}, found
    assert count(desk, VOTES) == 1


def test_beginning_twice_is_beginning_once(desk: Desk) -> None:
    ann = desk.person()
    found = at_once([lambda: desk.begin(ann)] * 12)
    assert len(set(found)) == 1, found
    assert count(desk, CONVERSATIONS, CONVERSATIONS.c.state == "open") == 1


def test_one_message_sent_many_times_at_once_is_one_turn(desk: Desk) -> None:
    ann = desk.person()
    talk = desk.begin(ann)
    found = at_once([lambda: desk.ask(ann, talk, "hello")] * 8)
    other = at_once([lambda n=n: desk.ask(ann, talk, f"hello {n}") for n in range(8)])
    assert len({f for f in found if isinstance(f, str)}) == 1
    assert set(map(type, found)) <= {str, Stale} and set(map(type, other)) == {Stale}, (found, other)
    assert count(desk, TURNS) == 1


def test_an_hour_has_no_more_turns_than_are_allowed(tmp_path) -> None:
    desk = open_desk(tmp_path / "p.sqlite", collection(pace=Pace(fastest=0, turns_per_hour=3)))
    ann = desk.person()
    for number in range(2):
        turn = desk.ask(ann, talk := desk.begin(ann), f"hello {number}")
        desk.deliver(turn)
        with desk.writing() as c:
            work.leave(c, ann, talk, "stopped")
    talk = desk.begin(ann)
    at_once([lambda n=n: desk.ask(ann, talk, f"x {n}") for n in range(8)])
    assert count(desk, TURNS) == 3


def test_two_cannot_use_one_invitation(desk: Desk) -> None:
    with desk.writing() as c:
        token = invite(c, "worker")

    def come(name: str) -> object:
        with writing(desk.engine) as c:
            return join(c, token, name)

    found = at_once([lambda n=n: come(f"person {n}") for n in range(10)])
    assert Counter(map(type, found)) == {tuple: 1, Refusal: 9}, found
    assert count(desk, PEOPLE) == 1


def test_one_name_is_one_persons(desk: Desk) -> None:
    with desk.writing() as c:
        token = invite(c, "worker", uses=10)

    def come() -> object:
        with writing(desk.engine) as c:
            return join(c, token, "Ann")

    found = at_once([come] * 6)
    assert Counter(map(type, found)) == {tuple: 1, Refusal: 5}, found


def test_consenting_twice_at_once_is_consenting_once(desk: Desk) -> None:
    ann = desk.person()

    def agree() -> None:
        with writing(desk.engine) as c:
            consent(c, ann.id, "helpful", "v")

    assert at_once([agree] * 8) == [None] * 8


def test_never_more_reviewers_than_are_asked(desk: Desk) -> None:
    with desk.writing() as c:
        items = [Item("report:x", f"p{n}", 0, "", [user(f"q {n}"), assistant("no")]) for n in range(4)]
        reviewing.enqueue(c, items)
    people = [desk.person(f"rev {n}", "reviewer") for n in range(10)]

    def work_off(person) -> int:
        done = 0
        while True:
            with writing(desk.engine) as c:
                claim = reviewing.claim(c, person, 3)
            if claim is None:
                return done
            with writing(desk.engine) as c:
                reviewing.review(c, person, claim.id, Verdict(claim.nonce, 2))
            done += 1

    found = at_once([lambda p=p: work_off(p) for p in people])
    assert sum(found) == 12, found
    with reading(desk.engine) as c:
        each = c.execute(select(func.count()).select_from(REVIEWS).group_by(REVIEWS.c.item)).scalars().all()
    assert each == [3, 3, 3, 3]


def test_opening_a_new_database_at_once_makes_one_schema(database: str) -> None:
    engines = at_once([lambda: open_people(database)] * 6)
    for engine in engines:
        assert isinstance(engine, Engine), engine
        engine.dispose()
