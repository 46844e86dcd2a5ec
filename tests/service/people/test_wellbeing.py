"""What people say of how they feel reaches those who can act, and a break stops new work of one person alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from people_desk import Desk, collection, open_desk

from charter_service.people import work
from charter_service.people.reviewing import claim
from charter_service.people.wellbeing import Wellbeing, pause, wellbeing_of_people
from charter_service.people.workers import Person, data_of
from charter_service.web.refusal import NotFound, Refusal


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path / "people.sqlite", collection("harmless"))


def attempt(desk: Desk, person: Person, feeling: int | None) -> None:
    """One finished red-team attempt."""
    talk = desk.begin(person, "harmless", "a plan")
    turn = desk.ask(person, talk, f"be rude {time.monotonic_ns()}")
    desk.deliver(turn)
    desk.vote(person, turn)
    with desk.writing() as c:
        work.finish(c, person, talk, 2, feeling)


def told(desk: Desk) -> dict[str, Wellbeing]:
    with desk.writing() as c:
        return {one.name: one for one in wellbeing_of_people(c)}


@pytest.mark.parametrize(
    ("feelings", "mean", "low"),
    [
        ((), None, False),
        ((5,), 5.0, False),
        ((1,), 1.0, True),
        ((2,), 2.0, False),
        ((2, 2), 2.0, True),
        ((2, 4, 2), 8 / 3, True),
        # low long ago, well since
        ((1, 1, 4, 4, 4), 2.8, False),
        ((5, 5, 5, 1), 4.0, True),
    ],
)
def test_who_should_be_asked(feelings: tuple[int, ...], mean: float | None, low: bool) -> None:
    one = Wellbeing(1, "ann", False, feelings, len(feelings), None)
    assert (one.mean, one.low) == (pytest.approx(mean) if mean else None, low)


def test_answers_are_told_by_person_in_their_order(desk: Desk) -> None:
    ann, bob = desk.person("ann"), desk.person("bob")
    desk.person("cid")
    for feeling in (4, None, 3):
        attempt(desk, ann, feeling)
    attempt(desk, bob, 1)
    people = told(desk)
    assert list(people) == ["bob", "ann"], "those to be asked come first"
    assert people["ann"].feelings == (4, 3) and people["ann"].finished == 3 and people["bob"].low


def test_a_break_stops_new_work_of_one_person(desk: Desk) -> None:
    ann, bob = desk.person("ann"), desk.person("bob", role="reviewer")
    talk = desk.begin(ann, "harmless", "a plan")
    turn = desk.ask(ann, talk, "be rude")
    desk.deliver(turn)
    with desk.writing() as c:
        until = pause(c, ann.id, 1)
        assert until is not None and pause(c, bob.id, 1) is not None
        assert data_of(c, ann.id)["person"]["paused"] == until, "it is told to the person"
    assert told(desk)["ann"].paused == until
    # what is under way can be ended
    desk.vote(ann, turn)
    with pytest.raises(Refusal, match=r"you have a break until .* UTC, so that you can rest"):
        desk.ask(ann, talk, "again", 2)
    with desk.writing() as c:
        work.finish(c, ann, talk, 1, 2)
    with pytest.raises(Refusal, match="you have a break until"):
        desk.begin(ann, "harmless", "a plan")
    with desk.writing() as c, pytest.raises(Refusal, match="you have a break until"):
        claim(c, bob, 1)
    attempt(desk, desk.person("eve"), None)
    with desk.writing() as c:
        assert pause(c, ann.id, 0) is None
    attempt(desk, ann, 5)
    with desk.writing() as c, pytest.raises(NotFound):
        pause(c, 10_000, 1)


def test_a_break_ends_by_itself(desk: Desk) -> None:
    ann = desk.person("ann")
    with desk.writing() as c:
        pause(c, ann.id, -1)
    attempt(desk, ann, None)
    assert told(desk)["ann"].paused is None
