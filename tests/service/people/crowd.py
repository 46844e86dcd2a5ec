"""A collection with some of everything in it, on two axes, by people and by simulated raters."""

from __future__ import annotations

import random
from pathlib import Path

from people_desk import Desk, collection, open_desk, singles

from charter.ground.text.dialogue import assistant, user
from charter_service.people import reviewing, work
from charter_service.people.collection import Pace, Task
from charter_service.people.conversations import conversation_of
from charter_service.people.reviewing import Item, Verdict
from charter_service.people.workers import Person

MIXED = Task(given_share=0.3, gold_share=0.2, repeat_share=0.2)
HOW = ("finished", "stopped", "skipped", "open")
BALLOTS = [("a", 4), ("a", 1), ("b", 2), ("b", 3), ("tie", None), ("both_bad", None)]


def crowd(place: Path, votes: int = 30, seed: int = 3) -> Desk:
    """Two people and a simulated rater, each with so many conversations on each axis."""
    helpful, harmless = singles("helpful"), singles("harmless")
    more = {key: {**helpful[key], **harmless[key]} for key in helpful}  # type: ignore[dict-item]
    desk = open_desk(place, collection(task=MIXED, pace=Pace(fastest=0, turns_per_hour=10_000), **more))
    desk.collection.tasks["harmless"] = Task(turns=2, pairing="same", gold_share=0.1, repeat_share=0)  # type: ignore[index]
    people = [desk.person("ann"), desk.person("bob"), desk.person("sim", simulated=True)]
    draw = random.Random(seed)
    for number in range(votes):
        for person in people:
            for axis in ("helpful", "harmless"):
                _converse(desk, person, axis, draw, number)
    return desk


def _converse(desk: Desk, person: Person, axis: str, draw: random.Random, number: int) -> None:
    talk = desk.begin(person, axis, "a plan")
    with desk.writing() as c:
        shown = conversation_of(c, person, talk)
    if shown.kind == "chat":
        repeated = number % 5 == 4  # flagged, as it is asked on both axes
        turn = desk.ask(person, talk, f"question {number}{'' if repeated else axis}")
        desk.deliver(turn, f"first {number}", f"second {number}")
    else:
        turn = shown.turns[0].id
        desk.deliver(turn, f"first {number}", f"second {number}")
    outcome, strength = BALLOTS[(number + person.id) % 6]
    edited = "better words" if outcome in ("a", "b") and draw.random() < 0.2 else None
    desk.vote(person, turn, outcome, strength, edited)  # type: ignore[arg-type]
    if shown.kind == "chat" and (how := HOW[number % 4]) != "open":
        with desk.writing() as c:
            if how == "finished":
                work.finish(c, person, talk, draw.randrange(5))
            else:
                work.leave(c, person, talk, how)
    elif shown.kind == "chat":
        with desk.writing() as c:
            work.leave(c, person, talk, "stopped")


def review_all(desk: Desk, ratings: dict[str, list[int]], simulated: bool = False, origin: str = "report:r") -> None:
    """One item for each entry, rated by as many reviewers as it has ratings, with tag and note."""
    items = {name: Item(origin, name, 0, "theft", [user(f"{name}?"), assistant(f"{name}!")]) for name in ratings}
    with desk.writing() as c:
        reviewing.enqueue(c, items.values())
    kind = "sim" if simulated else "rev"
    for place in range(max(map(len, ratings.values()))):
        person = desk.person(f"{kind} {place} {origin[-1]}", "reviewer", simulated)
        while True:
            with desk.writing() as c:
                claim = reviewing.claim(c, person, 9)
            if claim is None:
                break
            name = claim.messages[0]["content"].rstrip("?")
            given = ratings.get(name, [])
            with desk.writing() as c:
                if place < len(given):
                    verdict = Verdict(claim.nonce, given[place], ("theft",), f"note {place}")
                    reviewing.review(c, person, claim.id, verdict)
                else:
                    reviewing.skip(c, person, claim.id)
