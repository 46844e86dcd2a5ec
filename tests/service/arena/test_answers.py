"""Replies in the background: real toy models, restarts, seeds, failures, and models that changed their name's meaning."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hall import SECRET, Hall, Said, configuration, open_hall, sources

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.model.checkpoint import save_policy
from charter.ground.settings.execution import Execution
from charter_service.arena.config import Config, Replies
from charter_service.arena.engines import LocalSpeaker, Opening, PooledSpeaker
from charter_service.arena.service import open_service
from charter_service.people.tables import TURNS
from charter_service.people.workers import first_invitation

SAMPLING = Replies(max_tokens=12)


def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")


def test_toy_models_reply_the_same_whoever_else_waits(checkpoints: Path, tmp_path: Path) -> None:
    opening = Opening(SAMPLING, Execution(), tmp_path)
    inputs = {name: toys.policy(checkpoints / name) for name in ("policy", "other")}
    speakers = {name: opening.speaker(source, SamplingStrategy()) for name, source in inputs.items()}
    assert opening.speaker(inputs["policy"], SamplingStrategy()) is speakers["policy"]
    asked = [({"role": "user", "content": text},) for text in ("one", "two birds", "three")]
    together = [speakers["policy"].say(list(m), 2, 7) for m in asked]  # type: ignore[arg-type]
    texts = [[c.text for c in answer.result(60)] for answer in together]
    alone = [[c.text for c in speakers["policy"].say(list(m), 2, 7).result(60)] for m in asked]  # type: ignore[arg-type]
    assert texts == alone and all(first != second for first, second in texts)
    for speaker in speakers.values():
        speaker.close()


def test_each_model_is_sampled_as_it_says_unless_the_configuration_does(tmp_path: Path) -> None:
    model = toys.model(4)
    model.generation = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
    save_policy(model, toys.tokenizer(), tmp_path / "own")
    source = toys.policy(tmp_path / "own")
    found = []
    for replies in (SAMPLING, Replies(temperature=0.7), Replies(top_p=0.5)):
        speaker = Opening(replies, Execution(), tmp_path).speaker(source, SamplingStrategy())
        assert isinstance(speaker, LocalSpeaker)
        found.append((speaker._sampling.temperature, speaker._sampling.top_p, speaker._sampling.max_tokens))
        speaker.close()
    assert found == [(0.2, 0.9, 12), (0.7, 1.0, 256), (1.0, 0.5, 256)]


def test_a_model_shown_in_other_modes_is_opened_once(checkpoints: Path, tmp_path: Path) -> None:
    opening = Opening(SAMPLING, Execution(), tmp_path)
    source = toys.policy(checkpoints / "policy")
    plain = opening.speaker(source, SamplingStrategy())
    ranked = opening.speaker(source, SamplingStrategy(mode="rejection", samples=3, grader=str(checkpoints / "reward")))
    prompted = opening.speaker(source, SamplingStrategy(mode="prompted", examples=1))
    assert isinstance(plain, LocalSpeaker) and isinstance(ranked, PooledSpeaker) and isinstance(prompted, PooledSpeaker)
    assert len(opening._models) == len(opening._drivers) == 1
    messages: Any = [{"role": "user", "content": "hello"}]
    sampled = {c.text.strip() for c in plain.say(messages, 3, 5).result(60)}
    best = ranked.say(messages, 2, 5).result(60)
    assert {c.text.strip() for c in best} <= sampled
    assert len(prompted.say(messages, 2, 5).result(60)) == 2
    for speaker in (ranked, prompted, plain):
        speaker.close()


def test_two_replies_of_one_model_have_their_own_chances(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        talk = (ann := hall.person()).begin("harmless", "a plan")
        ann.ask(talk, "hello")
        (turn,) = hall.rows(TURNS)
        assert turn.model_a == turn.model_b and turn.reply_a != turn.reply_b
        (asked,) = hall.models[turn.model_a].asked
        assert asked[0] == [{"role": "user", "content": "hello"}]


def test_what_waits_at_a_kill_is_answered_after_it_with_the_same_seeds(tmp_path: Path) -> None:
    config = configuration()
    with open_hall(tmp_path, config) as hall:
        for model in hall.models.values():
            model.held = []  # they never answer: the process is killed
        talk = (ann := hall.person()).begin()
        ann.post(f"{talk}/ask", number=1, text="hello")
        until(lambda: sum(len(model.asked) for model in hall.models.values()) == 2)
        first = {name: model.asked for name, model in hall.models.items()}
    with open_hall(tmp_path, config) as again:
        until(lambda: again.rows(TURNS)[0].state == "ready")
        assert {name: model.asked for name, model in again.models.items()} == first
        assert again.rows(TURNS)[0].reply_a and again.rows(TURNS)[0].reply_b


def test_nobody_sees_the_reply_that_was_ready_first(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        slow = next(iter(hall.models.values()))
        slow.held = []
        talk = (ann := hall.person()).begin()
        ann.post(f"{talk}/ask", number=1, text="hello")
        until(lambda: bool(slow.held))
        time.sleep(0.1)
        (turn,) = hall.rows(TURNS)
        assert (turn.state, turn.reply_a, turn.reply_b) == ("waiting", None, None)
        assert "A reply to" not in ann.get(talk)
        slow.held.pop()()
        ann.wait(talk)


def test_a_model_that_stumbles_is_asked_again_and_one_that_falls_is_not(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        model = next(iter(hall.models.values()))
        failures = [RuntimeError("out of memory"), RuntimeError("out of memory")]
        model.words = lambda messages, seed: (_ for _ in ()).throw(failures.pop()) if failures else "well"
        ann = hall.person()
        talk = ann.begin()

        def say(messages: Any, n: int, seed: int, say: Any = model.say) -> Any:
            try:
                return say(messages, n, seed)
            except RuntimeError as error:
                model.failing = error
                answer = say(messages, n, seed)
                model.failing = None
                return answer

        model.say = say  # type: ignore[method-assign]
        ann.ask(talk)
        assert hall.rows(TURNS)[0].state == "ready"
        model.failing = RuntimeError()
        ann.vote(talk, hall.rows(TURNS)[0].id)
        asked = len(model.asked)
        ann.ask(talk, "again", 2)
        turn = next(row for row in hall.rows(TURNS) if row.number == 2)
        assert (turn.state, turn.problem) == ("failed", "RuntimeError") and len(model.asked) - asked == 3


def test_a_model_that_was_taken_away_fails_its_turns(tmp_path: Path) -> None:
    config = configuration()
    with open_hall(tmp_path, config) as hall:
        for model in hall.models.values():
            model.held = []
        talk = (ann := hall.person()).begin()
        ann.post(f"{talk}/ask", number=1, text="hello")
    smaller = configuration(models=[{"name": f"{SECRET}-start", "model": "start"}])
    with open_hall(tmp_path, smaller) as again:
        until(lambda: again.rows(TURNS)[0].state == "failed")
        assert "no longer among the models" in again.rows(TURNS)[0].problem


def reopen(folder: Path, config: Config) -> None:
    open_service(config, folder, sources(config), {}).database.dispose()


def test_a_name_may_not_become_another_model_once_there_are_votes(tmp_path: Path) -> None:
    def named(model: str, **more: Any) -> Config:
        return configuration(models=[{"name": "one", "model": model, **more}, {"name": "two", "model": "two"}])

    with open_hall(tmp_path, named("first")):
        pass
    with open_hall(tmp_path, named("second")) as hall:  # nobody has judged it
        ann = hall.person()
        talk = ann.begin()
        ann.vote(talk, ann.ask(talk))
    reopen(tmp_path, named("second"))
    with pytest.raises(CharterError, match="one was another model when 1 votes"):
        reopen(tmp_path, named("first"))
    with pytest.raises(CharterError, match="one was another model"):
        reopen(tmp_path, named("second", mode="prompted"))


def test_the_first_admin_is_invited_as_long_as_nobody_has_joined(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        assert first_invitation(hall.service.database)
        hall.person()
        assert first_invitation(hall.service.database) is None


def test_a_database_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charter_service.arena.engines.LOOK_SECONDS", 0.02)
    with open_hall(tmp_path) as hall:
        from charter_service.arena import engines

        ann = hall.person()
        talk = ann.begin()
        work, calls = engines.writing, [0]

        def away(database: Any) -> Any:
            calls[0] += 1
            if calls[0] < 3:
                raise CharterError("the database is away")
            return work(database)

        monkeypatch.setattr(engines, "writing", away)
        ann.ask(talk)
        assert hall.rows(TURNS)[0].state == "ready" and calls[0] >= 3


def test_a_reply_that_cant_be_stored_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charter_service.arena.engines.LOOK_SECONDS", 0.05)
    with open_hall(tmp_path) as hall:
        from charter_service.arena import engines

        deliver, bad = engines.work.deliver, list[str]()

        def refuse(connection: Any, turn: str, replies: tuple[str, str]) -> None:
            bad.append(turn) if not bad else None
            if turn == bad[0]:
                raise ValueError("no database takes this")
            deliver(connection, turn, replies)

        monkeypatch.setattr(engines.work, "deliver", refuse)
        ann, bob = hall.person("ann"), hall.person("bob")
        first, second = ann.begin(), bob.begin()
        ann.post(f"{first}/ask", number=1, text="hello")
        until(lambda: bool(bad))
        bob.ask(second)
        assert sorted(row.state for row in hall.rows(TURNS)) == ["ready", "waiting"]


def test_answers_end_while_replies_are_under_way(tmp_path: Path) -> None:
    with open_hall(tmp_path) as hall:
        assert isinstance(hall, Hall) and all(isinstance(model, Said) for model in hall.models.values())
        for model in hall.models.values():
            model.held = []
        talk = (ann := hall.person()).begin()
        ann.post(f"{talk}/ask", number=1, text="hello")
        until(lambda: all(model.asked for model in hall.models.values()))
        assert hall.service.answers.close() is False
