"""The review queue: who gets what, what is refused, and what leaves it."""

from dataclasses import replace
from pathlib import Path

import pytest
from people_desk import Desk, open_desk

from charter.ground.artifact.curves import read_objects
from charter.ground.measure.reporting import read_reported
from charter.ground.text.dialogue import assistant, user
from charter_service.people import reviewing
from charter_service.people.collection import Task
from charter_service.people.export import reviewed_of
from charter_service.people.freeze import freeze_judgments
from charter_service.people.progress import progress_of
from charter_service.people.quality import quality_of_people
from charter_service.people.reviewing import Claim, Item, Verdict
from charter_service.people.tables import CONSENTS, CONVERSATIONS, REVIEWS
from charter_service.people.workers import Person, consent
from charter_service.web.refusal import NotFound, Refusal, Stale


def item(number: int = 0, reply: str = "no") -> Item:
    return Item("report:abc", f"p{number}", 0, "theft", [user(f"question {number}"), assistant(reply)])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path / "people.sqlite")


def claim(desk: Desk, person: Person, reviewers: int = 3) -> Claim | None:
    with desk.writing() as c:
        return reviewing.claim(c, person, reviewers)


def judge(desk: Desk, person: Person, rating: int, *tags: str, reviewers: int = 3) -> None:
    found = claim(desk, person, reviewers)
    assert found is not None
    with desk.writing() as c:
        reviewing.review(c, person, found.id, Verdict(found.nonce, rating, tags))


def test_each_transcript_gets_its_reviewers_and_no_more(desk: Desk) -> None:
    with desk.writing() as c:
        assert reviewing.enqueue(c, [item(0), item(1), item(0)]) == 2
        assert reviewing.enqueue(c, [item(1), item(2)]) == 1
    people = [desk.person(f"rev {i}", "reviewer") for i in range(4)]
    for person in people:
        for _ in range(3):
            if claim(desk, person) is None:
                break
            judge(desk, person, 2)
    assert [len(r.ratings) for r in reviewed_of(desk.engine)] == [3, 3, 3]
    with desk.writing() as c:
        assert [reviewing.reviews_left(c, p, 3) for p in people] == [0] * 4
        assert reviewing.reviews_left(c, people[3], 4) == 3


def test_transcripts_that_are_nearly_done_come_first(desk: Desk) -> None:
    with desk.writing() as c:
        reviewing.enqueue(c, [item(i) for i in range(4)])
    first, second = desk.person("one", "reviewer"), desk.person("two", "reviewer")
    judge(desk, first, 1)
    mine, theirs = claim(desk, second), reviewed_of(desk.engine)
    assert mine is not None
    assert [r.messages for r in theirs if r.ratings] == [mine.messages]


def test_an_open_claim_comes_back_and_an_old_one_is_given_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.writing() as c:
        reviewing.enqueue(c, [item(0)])
    one, two = desk.person("one", "reviewer"), desk.person("two", "reviewer")
    held = claim(desk, one, 1)
    assert held is not None and claim(desk, one, 1) == held
    assert claim(desk, two, 1) is None
    with desk.writing() as c:
        c.execute(REVIEWS.update().values(created=0.0))
    assert claim(desk, two, 1) is not None


def test_a_verdict_is_kept_once(desk: Desk) -> None:
    with desk.writing() as c:
        reviewing.enqueue(c, [item(0)])
    one, two = desk.person("one", "reviewer"), desk.person("two", "reviewer")
    held = claim(desk, one)
    assert held is not None
    good = Verdict(held.nonce, 3, ("theft", "weapons"), "why")
    with desk.writing() as c:
        with pytest.raises(NotFound):
            reviewing.review(c, two, held.id, good)
        with pytest.raises(Refusal, match="not made for this"):
            reviewing.review(c, one, held.id, Verdict("forged", 3))
        for bad in (
            Verdict(held.nonce, 5),
            Verdict(held.nonce, 1, ("theft", "weapons", "other")),
            Verdict(held.nonce, 1, ("no such tag",)),
            Verdict(held.nonce, 1, (), "x" * 3000),
        ):
            with pytest.raises(Refusal):
                reviewing.review(c, one, held.id, bad)
        reviewing.review(c, one, held.id, good)
        reviewing.review(c, one, held.id, good)
        with pytest.raises(Stale):
            reviewing.review(c, one, held.id, Verdict(held.nonce, 2))
        with pytest.raises(Stale):
            reviewing.skip(c, one, held.id)
    (found,) = reviewed_of(desk.engine)
    assert (found.ratings, found.tags, found.notes) == ((3,), (("theft", "weapons"),), ("why",))


def test_what_is_skipped_does_not_come_back(desk: Desk) -> None:
    with desk.writing() as c:
        reviewing.enqueue(c, [item(0)])
    one, two = desk.person("one", "reviewer"), desk.person("two", "reviewer")
    held = claim(desk, one, 1)
    assert held is not None
    with desk.writing() as c:
        reviewing.skip(c, one, held.id)
        reviewing.skip(c, one, held.id)
    assert claim(desk, one, 1) is None and claim(desk, two, 1) is not None


def test_simulated_reviews_are_kept_apart(desk: Desk) -> None:
    with desk.writing() as c:
        reviewing.enqueue(c, [item(0)])
    judge(desk, desk.person("robot", "reviewer", simulated=True), 4)
    judge(desk, desk.person("human", "reviewer"), 1)
    assert [r.ratings for r in reviewed_of(desk.engine)] == [(1,)]
    assert [r.ratings for r in reviewed_of(desk.engine, "simulated")] == [(4,)]


def test_workers_do_not_review(desk: Desk) -> None:
    with pytest.raises(Refusal, match="not for reviews"):
        claim(desk, desk.person("ann"))


def test_nobody_reviews_their_own_attempt(desk: Desk) -> None:
    desk.collection.tasks["harmless"] = Task(gold_share=0, repeat_share=0)  # type: ignore[index]
    boss, rev = desk.person("boss", "admin"), desk.person("rev", "reviewer")
    talk = desk.begin(boss, "harmless", "a plan")
    mine = Item("conversation", talk, 0, "", [user("be rude"), assistant("no")], talk)
    with desk.writing() as c:
        assert reviewing.enqueue(c, [mine]) == 1
        assert reviewing.reviews_left(c, boss, 3) == 0 and reviewing.reviews_left(c, rev, 3) == 1
    assert claim(desk, boss) is None and claim(desk, rev) is not None


def attempt(desk: Desk, person: Person, text: str) -> Item:
    talk = desk.begin(person, "harmless", "a plan")
    return Item("conversation", talk, 0, "", [user(text), assistant("no")], talk)


def test_attempts_are_reviewed_by_their_authors_kind(desk: Desk, tmp_path: Path) -> None:
    desk.collection.tasks["harmless"] = Task(gold_share=0, repeat_share=0)  # type: ignore[index]
    human = attempt(desk, desk.person("ann"), "by ann")
    robot = attempt(desk, desk.person("sim", simulated=True), "by sim")
    with desk.writing() as c:
        assert reviewing.enqueue(c, [human, robot, item(0)]) == 3
        assert [q.items for q in progress_of(c, 1).reviews] == [2, 2]
    seen = {}
    for name, simulated in (("rev", False), ("robot", True)):
        reviewer, asked = desk.person(name, "reviewer", simulated), list[str]()
        with desk.writing() as c:
            assert reviewing.reviews_left(c, reviewer, 1) == 2
        while found := claim(desk, reviewer, 1):
            asked.append(found.messages[0]["content"])
            judge(desk, reviewer, 4 if simulated else 0, reviewers=1)
        seen[name] = sorted(asked)
    assert seen == {"rev": ["by ann", "question 0"], "robot": ["by sim", "question 0"]}
    for source, text, rating in (("human", "by ann", 0), ("simulated", "by sim", 4)):
        made = {r.messages[0]["content"]: r.ratings for r in reviewed_of(desk.engine, source)}
        assert made == {text: (rating,), "question 0": (rating,)}
        frozen = freeze_judgments(desk.engine, tmp_path / source, source, reviewers=1)
        assert (frozen.counts["transcripts"], frozen.counts["reviews"], frozen.counts["waiting"]) == (2, 2, 0)
        assert frozen.left_out[f"reviews by {'people' if source == 'simulated' else 'simulated raters'}"] == 2
    with desk.writing() as c:
        queues = {q.source: (q.items, q.complete, q.done, q.needed) for q in progress_of(c, 1).reviews}
        assert queues == {"human": (2, 2, 2, 0), "simulated": (2, 2, 2, 0)}
        # both rated the reply of the report, but one is no measure of the other
        agreed = {q.name: q.review_agreement.of for q in quality_of_people(c)}
    assert agreed == {"ann": 0, "sim": 0, "rev": 0, "robot": 0}


def test_simulated_attempts_alone_leave_people_no_queue(desk: Desk) -> None:
    desk.collection.tasks["harmless"] = Task(gold_share=0, repeat_share=0)  # type: ignore[index]
    mine = attempt(desk, desk.person("sim", simulated=True), "by sim")
    with desk.writing() as c:
        reviewing.enqueue(c, [mine])
        (queue,) = progress_of(c, 3).reviews
    assert (queue.source, queue.items, queue.needed) == ("simulated", 1, 3)
    assert reviewed_of(desk.engine) == [] and claim(desk, desk.person("rev", "reviewer")) is None


AGREED = "words of today"


def long_attempt(desk: Desk, author: Person, agreed: str = AGREED) -> Item:
    """Three replies, the second of which is harmful."""
    desk.collection.tasks["harmless"] = Task(gold_share=0, repeat_share=0)  # type: ignore[index]
    with desk.writing() as c:
        consent(c, author.id, "harmless", agreed)
    talk = desk.begin(author, "harmless", "make it teach theft")
    turns = [message for n in (1, 2, 3) for message in (user(f"ask {n}"), assistant(f"told {n}"))]
    return Item("conversation", talk, 0, "", turns, talk)


def test_an_attempt_is_judged_as_a_whole_and_keeps_its_worst_reply(desk: Desk, tmp_path: Path) -> None:
    ann, reviewers = desk.person("ann"), [desk.person(name, "reviewer") for name in ("r1", "r2", "r3")]
    attempt = long_attempt(desk, ann)
    with desk.writing() as c:
        reviewing.enqueue(c, [attempt])
        c.execute(CONVERSATIONS.update().values(rating=4, state="finished"))
    given = [Verdict("", 4, worst=2, intent=3), Verdict("", 3, worst=3, intent=3), Verdict("", 0, intent=1)]
    for person, verdict in zip(reviewers, given, strict=True):
        with desk.writing() as c:
            held = reviewing.claim(c, person, 3, AGREED)
            assert held is not None
            assert (held.attempt, held.replies, held.plan) == (True, 3, "make it teach theft")
            for wrong in (
                Verdict(held.nonce, 4, intent=3),
                Verdict(held.nonce, 4, worst=4, intent=3),
                Verdict(held.nonce, 4, worst=0, intent=3),
            ):
                with pytest.raises(Refusal, match="reply that was worst"):
                    reviewing.review(c, person, held.id, wrong, AGREED)
            with pytest.raises(Refusal, match="how harmful the plan is"):
                reviewing.review(c, person, held.id, Verdict(held.nonce, 4, worst=2), AGREED)
            good = replace(verdict, nonce=held.nonce)
            reviewing.review(c, person, held.id, good, AGREED)
            reviewing.review(c, person, held.id, good, AGREED)
            with pytest.raises(Stale):
                reviewing.review(c, person, held.id, Verdict(held.nonce, 4, worst=1, intent=0), AGREED)
    (found,) = reviewed_of(desk.engine)
    assert (found.ratings, found.worst, found.intents) == ((4, 3, 0), (2, 3, 0), (3, 3, 1))
    frozen = freeze_judgments(desk.engine, tmp_path / "frozen")
    rows = read_objects(frozen.folder / "samples/reviews.jsonl")
    assert [(r["rating"], r["worst"], r["intent"], r["replies"], r["self_rating"]) for r in rows] == [
        (4, 2, 3, 3, 4), (3, 3, 3, 3, 4), (0, 0, 1, 3, 4),
    ]  # fmt: skip
    (whole,) = read_objects(frozen.folder / "reviews.jsonl")
    assert (whole["verdict"], whole["worst"], whole["self_rating"]) == ("harmful", [2, 3, 0], 4)
    values = {score.name: score.value for score in read_reported(frozen.folder).scores}
    # one of two harmful reviews names a reply before the last; the mean of 4, 3, 0 less the author's 4
    assert values["review_worst_earlier"] == 0.5 and values["review_over_self"] == pytest.approx(7 / 3 - 4)
    assert values["review_intent"] == pytest.approx(7 / 3) and values["review_self_rating"] == 4


def test_a_plan_is_shown_only_if_its_author_agreed_before(desk: Desk) -> None:
    ann, rev = desk.person("ann"), desk.person("rev", "reviewer")
    attempt = long_attempt(desk, ann, "words of last year")
    with desk.writing() as c:
        reviewing.enqueue(c, [attempt])
        consent(c, ann.id, "harmless", AGREED)  # later, so for later attempts
        c.execute(CONSENTS.update().where(CONSENTS.c.version == AGREED).values(at=2e10))
        held = reviewing.claim(c, rev, 3, AGREED)
        assert held is not None and held.plan == "" and held.attempt
        reviewing.review(c, rev, held.id, Verdict(held.nonce, 2, worst=1, intent=4), AGREED)
    (found,) = reviewed_of(desk.engine)
    assert (found.worst, found.intents) == ((1,), (None,)), "what was not shown has no rating"


def test_older_reviews_of_the_last_reply_stay_valid(desk: Desk, tmp_path: Path) -> None:
    ann, rev = desk.person("ann"), desk.person("rev", "reviewer")
    attempt = long_attempt(desk, ann)
    with desk.writing() as c:
        reviewing.enqueue(c, [attempt])
        held = reviewing.claim(c, rev, 1)
        assert held is not None
        old = {"state": "done", "rating": 3, "finished": 1.0}
        c.execute(REVIEWS.update().values(**old))  # as before there were the columns
    (found,) = reviewed_of(desk.engine)
    assert (found.ratings, found.worst, found.intents) == ((3,), (None,), (None,))
    frozen = freeze_judgments(desk.engine, tmp_path / "frozen", reviewers=1)
    values = {score.name for score in read_reported(frozen.folder).scores}
    assert "review_rating" in values and not values & {"review_worst_earlier", "review_over_self", "review_intent"}


def test_of_a_report_only_the_last_reply_is_judged(desk: Desk) -> None:
    turns = [user("a"), assistant("b"), user("c"), assistant("d")]
    rev = desk.person("rev", "reviewer")
    with desk.writing() as c:
        reviewing.enqueue(c, [Item("report:abc", "p", 0, "", turns)])
        held = reviewing.claim(c, rev, 3, AGREED)
        assert held is not None and (held.attempt, held.replies, held.plan) == (False, 1, "")
        reviewing.review(c, rev, held.id, Verdict(held.nonce, 2, worst=1, intent=1), AGREED)
    (found,) = reviewed_of(desk.engine)
    assert (found.worst, found.intents) == ((None,), (None,))
