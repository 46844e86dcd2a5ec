"""Quality of people's work and progress, against counts made by hand from the exported rows."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from crowd import crowd, review_all
from people_desk import Desk, open_desk

from charter.ground.measure.intervals import wilson
from charter_service.people.export import attempts_of, choices_of, rater_names
from charter_service.people.progress import progress_of
from charter_service.people.quality import Answer, Rated, Share, agreement_of, measure_people, quality_of_people
from charter_service.web.database import reading


def person(id: int = 1, simulated: bool = False) -> SimpleNamespace:
    return SimpleNamespace(id=id, name=f"p{id}", role="worker", simulated=simulated, disabled=False)


def answer(outcome: str = "a", strength: int | None = 3, **more: object) -> Answer:
    facts: dict[str, object] = {
        "person": 1,
        "item": "t",
        "axis": "helpful",
        "gold": False,
        "left": "a",
        "seconds": 5.0,
        "flags": "",
    }
    return Answer(outcome=outcome, strength=strength, **{**facts, **more})  # type: ignore[arg-type]


def test_shares_with_their_intervals() -> None:
    (found,) = measure_people(
        [person()],
        [
            answer("a", 4, seconds=1.0, flags="fast"),
            answer("b", 2, seconds=9.0, flags="fast duplicate"),
            answer("a", 1, seconds=3.0),
            answer("tie", None, seconds=4.0),
            answer("both_bad", None, seconds=100.0),
        ],
        [],
    )
    assert (found.votes, found.seconds, found.strength) == (5, 4.0, (4 + 2 + 1) / 3)
    assert (found.fast, found.duplicate) == (Share(2, 5), Share(1, 5))
    assert (found.unsure, found.tie, found.both_bad) == (Share(1, 5), Share(1, 5), Share(1, 5))
    assert found.left == Share(1, 2)
    assert found.fast.interval == wilson(2, 5) and found.fast.row()["share"] == 0.4


@pytest.mark.parametrize(("axis", "right"), [("helpful", "a"), ("honest", "a"), ("harmless", "b")])
def test_gold_on_the_harmless_axis_is_right_where_the_more_harmful_reply_is_picked(axis: str, right: str) -> None:
    answers = [answer(o, s, axis=axis, gold=True) for o, s in (("a", 3), ("b", 1), ("tie", None))]
    (found,) = measure_people([person()], answers, [])
    assert found.gold == Share(1, 3) and found.votes == 0
    (picked,) = measure_people([person()], [answer(right, 4, axis=axis, gold=True)], [])
    assert picked.gold == Share(1, 1)


def test_agreement_counts_the_decided_votes_of_others() -> None:
    answers = [
        answer("a", 3, person=1, item="x"),
        answer("a", 2, person=2, item="x"),
        answer("b", 4, person=3, item="x"),
        answer("b", 1, person=4, item="x"),
        answer("a", 3, person=1, item="y"),
    ]
    found = measure_people([person(n) for n in (1, 2, 3, 4)], answers, [])
    assert [q.agreement for q in found] == [Share(1, 2), Share(1, 2), Share(0, 2), Share(0, 0)]
    assert found[3].agreement.value is None and found[3].agreement.interval is None


def test_agreement_is_of_pairs() -> None:
    said = [("x", p, w) for p, w in enumerate("aaab")]
    found = agreement_of(said)
    assert found == {0: Share(2, 3), 1: Share(2, 3), 2: Share(2, 3), 3: Share(0, 3)}


def test_reviewers_agree_whether_it_is_harmful() -> None:
    reviews = [Rated(1, "x", 4), Rated(2, "x", 3), Rated(3, "x", 2), Rated(1, "y", 0)]
    found = measure_people([person(n) for n in (1, 2, 3)], [], reviews)
    assert [(q.reviews, q.review_agreement) for q in found] == [(2, Share(1, 2)), (1, Share(1, 2)), (1, Share(0, 2))]


def test_progress_and_quality_are_what_the_exported_rows_say(tmp_path: Path) -> None:
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    choices = choices_of(desk.engine)
    with reading(desk.engine) as c:
        progress, people, names = progress_of(c, 3), quality_of_people(c), rater_names(c)
    assert {(t.axis, t.source) for t in progress.tasks} == {
        (axis, source) for axis in ("helpful", "harmless") for source in ("human", "simulated")
    }
    for task in progress.tasks:
        mine = [c for c in choices if (c.axis, c.source) == (task.axis, task.source)]
        assert task.votes == len(mine) == task.decided + task.unsure + task.ties + task.both_bad
        assert task.decided == sum(c.ballot.decided for c in mine)
        assert task.edits == sum(c.edited is not None for c in mine)
        assert task.flagged == sum(bool(c.flags) for c in mine)
        assert task.raters == len({c.rater for c in mine})
        rated = [a.rating for a in attempts_of(desk.engine) if a.source == task.source]
        if task.axis == "harmless":
            assert task.attempts == len(rated)
            assert task.success == (pytest.approx(sum(rated) / len(rated)) if rated else None)
        else:
            assert (task.attempts, task.success) == (0, None)
    assert sum(t.gold for t in progress.tasks) == sum(q.gold.of for q in people) > 0
    counted = Counter(c.rater for c in choices)
    assert {names[q.person]: q.votes for q in people} == counted
    lefts = Counter(c.rater for c in choices if c.ballot.decided and c.ballot.outcome == c.left)
    assert {names[q.person]: q.left.hits for q in people} == lefts


def test_reviews_that_are_needed(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    with reading(desk.engine) as c:
        assert progress_of(c, 3).reviews == ()
    review_all(desk, {"one": [4, 4, 0], "two": [1], "three": [2, 2, 2, 2]})
    with reading(desk.engine) as c:
        (queue,) = progress_of(c, 3).reviews
    assert (queue.items, queue.complete, queue.done, queue.needed) == (3, 2, 8, 2)


def test_an_empty_collection(desk: Desk) -> None:
    with reading(desk.engine) as c:
        progress, people = progress_of(c, 3), quality_of_people(c)
    assert (progress.tasks, progress.waiting, progress.failed, people) == ((), 0, 0, [])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path / "people.sqlite")
