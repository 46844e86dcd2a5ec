"""A person's work step by step: what counts, what is refused, and that the same answer again changes nothing."""

from pathlib import Path

import pytest
from people_desk import PLAIN, Desk, collection, open_desk, singles

from charter.ground.text.ballot import Ballot
from charter_service.people import work
from charter_service.people.collection import Pace, Task
from charter_service.people.conversations import conversation_of, turn_state, waiting_turns
from charter_service.people.export import attempts_of, choices_of
from charter_service.web.refusal import NotFound, Refusal, Stale


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path / "people.sqlite")


def test_a_conversation_goes_on_with_the_chosen_reply(desk: Desk) -> None:
    ann = desk.person()
    talk = desk.begin(ann)
    first = desk.ask(ann, talk, "hello")
    with desk.writing() as c:
        (waiting,) = waiting_turns(c)
        assert waiting[0] == first and set(waiting[1:3]) == {"start", "rl"}
        assert waiting[4] == [{"role": "user", "content": "hello"}]
        assert conversation_of(c, ann, talk).turns[0].replies is None
    desk.deliver(first)
    assert desk.vote(ann, first, "b", 4) == talk
    second = desk.ask(ann, talk, "go on", 2)
    with desk.writing() as c:
        (waiting,) = waiting_turns(c)
        assert waiting[0] == second
        assert [m["content"] for m in waiting[4]] == ["hello", "second", "go on"]
    (choice,) = choices_of(desk.engine)
    assert choice.ballot == Ballot("b", 4) and choice.replies == ("first", "second")
    assert choice.source == "human" and choice.rater.startswith("r-")


def test_the_left_reply_is_drawn_for_each_turn(desk: Desk) -> None:
    ann, lefts = desk.person(), set()
    for number in range(12):
        talk = desk.begin(ann)
        turn = desk.ask(ann, talk, f"question {number}")
        desk.deliver(turn)
        with desk.writing() as c:
            shown = conversation_of(c, ann, talk).turns[0]
            assert shown.replies == (("first", "second") if shown.left == "a" else ("second", "first"))
            lefts.add(shown.left)
            work.leave(c, ann, talk, "stopped")
    assert lefts == {"a", "b"}


def test_the_same_vote_again_changes_nothing_and_another_is_refused(desk: Desk) -> None:
    ann = desk.person()
    turn = desk.ask(ann, desk.begin(ann), "hello")
    with pytest.raises(Stale, match="not complete"):
        desk.vote(ann, turn)
    desk.deliver(turn)
    desk.vote(ann, turn, "a", 3)
    desk.vote(ann, turn, "a", 3)
    with pytest.raises(Stale, match="already chosen"):
        desk.vote(ann, turn, "b", 3)
    with pytest.raises(Stale, match="already chosen"):
        desk.vote(ann, turn, "a", 2)
    assert [c.ballot for c in choices_of(desk.engine)] == [Ballot("a", 3)]


def test_others_and_forged_forms_are_refused(desk: Desk) -> None:
    ann, bob = desk.person("ann"), desk.person("bob")
    talk = desk.begin(ann)
    turn = desk.ask(ann, talk, "hello")
    desk.deliver(turn)
    for steal in (
        lambda c: conversation_of(c, bob, talk),
        lambda c: turn_state(c, bob, turn),
        lambda c: work.ask(c, desk.collection, bob, talk, 1, "x"),
        lambda c: work.vote(c, desk.collection, bob, turn, work.Vote("x", Ballot("a", 3))),
        lambda c: work.leave(c, bob, talk, "skipped"),
        lambda c: work.retry(c, bob, turn),
        lambda c: work.finish(c, bob, talk),
    ):
        with desk.writing() as c, pytest.raises(NotFound):
            steal(c)
    with desk.writing() as c, pytest.raises(Refusal, match="not made for this turn"):
        work.vote(c, desk.collection, ann, turn, work.Vote("forged", Ballot("a", 3)))
    assert choices_of(desk.engine) == []


def test_pages_out_of_date_change_nothing(desk: Desk) -> None:
    ann = desk.person()
    talk = desk.begin(ann)
    assert desk.begin(ann) == talk  # one open conversation a task
    turn = desk.ask(ann, talk, "hello")
    assert desk.ask(ann, talk, "hello") == turn  # sent twice
    with pytest.raises(Stale, match="out of date"):
        desk.ask(ann, talk, "another", 1)
    with pytest.raises(Stale, match="choose between"):
        desk.ask(ann, talk, "more", 2)
    with pytest.raises(Stale, match="out of date"):
        desk.ask(ann, talk, "more", 3)
    desk.deliver(turn)
    desk.deliver(turn, "other", "replies")  # a late answer of a server that was asked twice
    with desk.writing() as c:
        assert set(conversation_of(c, ann, talk).turns[0].replies or ()) == {"first", "second"}
        work.leave(c, ann, talk, "skipped")
    with pytest.raises(Stale, match="closed"):
        desk.vote(ann, turn)


def test_skipped_work_does_not_count_and_stopped_work_does(desk: Desk) -> None:
    ann = desk.person()
    for how, counted in (("skipped", 0), ("stopped", 1)):
        talk = desk.begin(ann)
        turn = desk.ask(ann, talk, how)
        desk.deliver(turn)
        desk.vote(ann, turn)
        with desk.writing() as c:
            work.leave(c, ann, talk, how)
        assert len(choices_of(desk.engine)) == counted


def test_turns_end(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite", collection(task=Task(turns=1, gold_share=0, repeat_share=0)))
    ann = desk.person()
    talk = desk.begin(ann)
    turn = desk.ask(ann, talk, "hello")
    desk.deliver(turn)
    desk.vote(ann, turn)
    with pytest.raises(Stale, match="all its turns"):
        desk.ask(ann, talk, "more", 2)


def test_an_edited_reply_is_kept_and_gone_on_with(desk: Desk) -> None:
    ann = desk.person()
    talk = desk.begin(ann)
    turn = desk.ask(ann, talk, "hello")
    desk.deliver(turn)
    with pytest.raises(Refusal, match="only the reply that you choose"):
        desk.vote(ann, turn, "tie", None, "better")
    desk.vote(ann, turn, "a", 2, "better words")
    desk.ask(ann, talk, "more", 2)
    with desk.writing() as c:
        assert waiting_turns(c)[0][4][1]["content"] == "better words"
    assert choices_of(desk.engine)[0].edited == "better words"


def test_an_edit_that_changes_nothing_is_none(desk: Desk) -> None:
    ann = desk.person()
    turn = desk.ask(ann, desk.begin(ann), "hello")
    desk.deliver(turn)
    desk.vote(ann, turn, "a", 2, " first ")
    assert choices_of(desk.engine)[0].edited is None


def test_a_red_team_attempt_needs_a_plan_and_a_rating(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite", collection("harmless", Task(pairing="same", gold_share=0, repeat_share=0)))
    ann = desk.person()
    with pytest.raises(Refusal, match="plan is empty"):
        desk.begin(ann, "harmless")
    talk = desk.begin(ann, "harmless", "ask for a rude poem")
    turn = desk.ask(ann, talk, "write a rude poem")
    with desk.writing() as c:
        assert len(set(waiting_turns(c)[0][1:3])) == 1
    desk.deliver(turn)
    with desk.writing() as c, pytest.raises(Stale, match="nothing was chosen"):
        work.finish(c, ann, talk, 2)
    desk.vote(ann, turn, "b", 4)
    for rating in (None, 5, -1):
        with desk.writing() as c, pytest.raises(Refusal, match="0"):
            work.finish(c, ann, talk, rating)
    with desk.writing() as c:
        work.finish(c, ann, talk, 3, 4)
        work.finish(c, ann, talk, 3)
    with desk.writing() as c, pytest.raises(Stale):
        work.finish(c, ann, talk, 1)
    (attempt,) = attempts_of(desk.engine)
    assert attempt.rating == 3 and attempt.plan == "ask for a rude poem"
    assert [m["content"] for m in attempt.messages] == ["write a rude poem", "second"]


def test_quota_and_pace(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite", collection(pace=Pace(quota=1, turns_per_hour=2, fastest=9)))
    ann, bob = desk.person("ann"), desk.person("bob", quota=5)
    turn = desk.ask(ann, desk.begin(ann), "hello")
    desk.deliver(turn)
    desk.vote(ann, turn)
    assert choices_of(desk.engine)[0].flags == ("fast",)
    with pytest.raises(Refusal, match="all 1 votes"):
        desk.ask(ann, desk.begin(ann), "more", 2)
    talk = desk.begin(bob)
    for number in (1, 2):
        turn = desk.ask(bob, talk, "the same", number)
        desk.deliver(turn)
        desk.vote(bob, turn)
    assert "duplicate" in choices_of(desk.engine)[-1].flags
    with pytest.raises(Refusal, match="for one hour") as refused:
        desk.ask(bob, talk, "third", 3)
    assert refused.value.status == 429


@pytest.mark.parametrize("text", ["", "   \n ", "x" * 5000, "a lone surrogate \ud800", "a null \0"])
def test_messages_that_say_nothing_or_too_much(desk: Desk, text: str) -> None:
    ann = desk.person()
    with pytest.raises(Refusal):
        desk.ask(ann, desk.begin(ann), text)


def test_who_is_no_worker_or_asks_for_no_task(desk: Desk) -> None:
    with pytest.raises(Refusal, match="not for this task"):
        desk.begin(desk.person("rev", "reviewer"))
    with pytest.raises(NotFound, match="no task"):
        desk.begin(desk.person("ann"), "harmless", "plan")
    assert desk.begin(desk.person("boss", "admin"))


def test_a_failed_turn_can_be_asked_again(desk: Desk) -> None:
    ann = desk.person()
    turn = desk.ask(ann, desk.begin(ann), "hello")
    with desk.writing() as c:
        work.fail(c, turn, "the server is away")
        assert turn_state(c, ann, turn) == "failed" and waiting_turns(c) == []
        work.retry(c, ann, turn)
        work.retry(c, ann, turn)
        assert [t[0] for t in waiting_turns(c)] == [turn]
    desk.deliver(turn)
    with desk.writing() as c, pytest.raises(Stale, match="has its replies"):
        work.retry(c, ann, turn)


def test_single_questions_look_alike_and_gold_is_left_out(tmp_path: Path) -> None:
    task = Task(given_share=0.4, gold_share=0.3, repeat_share=0.3)
    desk = open_desk(tmp_path / "p.sqlite", collection(task=task, **singles()))
    people = [desk.person(name) for name in ("ann", "bob", "cat")]
    kinds: dict[str, int] = {}
    for _ in range(8):
        for person in people:
            talk = desk.begin(person)
            with desk.writing() as c:
                shown = conversation_of(c, person, talk)
            kinds[shown.kind] = kinds.get(shown.kind, 0) + 1
            if shown.kind == "chat":
                with desk.writing() as c:
                    work.leave(c, person, talk, "skipped")
                continue
            (turn,) = shown.turns
            if turn.state == "waiting":
                desk.deliver(turn.id)
            desk.vote(person, turn.id, "a", 3)
            with desk.writing() as c:
                assert conversation_of(c, person, talk).state == "finished"
    assert kinds["gold"] and kinds["given"] and kinds["repeat"], kinds
    choices = choices_of(desk.engine)
    assert {c.kind for c in choices} == {"given", "repeat"}
    twice = [c for c in choices if c.kind == "repeat"]
    assert all(any(o.id == c.item and o.rater != c.rater for o in choices) for c in twice)


def test_known_replies_arrive_when_others_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = open_desk(tmp_path / "p.sqlite", collection(**singles()))
    ann, now, waits = desk.person(), [1000.0], list[float]()
    monkeypatch.setattr("time.time", lambda: now[0])
    talk = desk.begin(ann)
    for number in (1, 2, 3):
        turn = desk.ask(ann, talk, f"question {number}", number)
        now[0] += 10
        desk.deliver(turn)
        desk.vote(ann, turn)
    with desk.writing() as c:
        work.leave(c, ann, talk, "stopped")
    desk.collection.tasks["helpful"] = Task(gold_share=1, repeat_share=0)  # type: ignore[index]
    for _ in range(3):
        talk, began = desk.begin(ann), now[0]
        with desk.writing() as c:
            (turn,) = conversation_of(c, ann, talk).turns
            assert (turn.state, turn.replies) == ("waiting", None) and waiting_turns(c) == []
        with pytest.raises(Stale, match="not complete yet"):
            desk.vote(ann, turn.id)
        while turn.state == "waiting":
            now[0] += 0.1
            with desk.writing() as c:
                turn = conversation_of(c, ann, talk).turns[0]
                assert turn_state(c, ann, turn.id) == turn.state
        desk.vote(ann, turn.id)
        waits.append(now[0] - began)
    assert len(waits) == 3 and all(5.9 < wait < 14.2 for wait in waits)


def test_plain_task_has_free_conversations_only() -> None:
    assert {collection(task=PLAIN).kind_of("helpful", str(i)) for i in range(50)} == {"chat"}


def test_all_pairs_are_drawn_alike() -> None:
    drawn = collection()
    firsts = [drawn.models_of("helpful", str(i), 1)[0] for i in range(400)]
    assert 150 < firsts.count("rl") < 250


def test_replies_that_no_database_can_hold_are_made_storable(desk: Desk) -> None:
    ann = desk.person()
    turn = desk.ask(ann, desk.begin(ann), "hello")
    desk.deliver(turn, "a\0b", "c\ud800d")
    desk.vote(ann, turn)
    assert choices_of(desk.engine)[0].replies == ("a\ufffdb", "c?d")
    other = desk.ask(ann, desk.begin(ann), "more", 2)
    with desk.writing() as c:
        work.fail(c, other, "no\0t now")
        assert turn_state(c, ann, other) == "failed"
