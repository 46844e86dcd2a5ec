"""The driver: what many threads ask of one engine is answered as if each had asked alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import Steps
from charter.ground.generate import engine_loop as driver_module
from charter.ground.generate.engine import Engine, Event
from charter.ground.generate.engine_limits import Bounds, Overloaded
from charter.ground.generate.engine_loop import Driver, Following, Job
from charter.ground.generate.fair import MOST, Processor
from charter.ground.generate.sampling import Sampling

SAMPLING = Sampling(temperature=1.0, max_tokens=9)


def engine() -> Engine:
    return Engine(toys.model(), toys.tokenizer(), slots=4)


def until(true: Callable[[], bool]) -> None:
    """Waits for something to come true."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def test_threads_get_what_a_batch_gets() -> None:
    prompts = [toys.tokenizer().encode(text) for text in ("one", "two birds", "three", "four", "five", "six")]
    expected = engine().generate(prompts, SAMPLING, 2, seeds=range(6))
    driver = Driver(engine())
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(driver.ask, Job(prompt, SAMPLING, 2, seed)) for seed, prompt in enumerate(prompts)]
        found = [answer.result().result(60) for answer in asked]
    driver.close()
    assert [[c.ids for c in each] for each in found] == [[c.ids for c in each] for each in expected]


def test_a_refused_prompt_spoils_no_other() -> None:
    driver = Driver(engine())
    bad, good = driver.ask(Job([], SAMPLING)), driver.ask(Job([5, 6], SAMPLING))
    with pytest.raises(CharterError, match="an empty prompt"):
        bad.result(60)
    assert len(good.result(60)) == 1
    driver.close()


class PanicException(BaseException):
    """As a library in Rust raises it."""


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), PanicException("out of memory")])
def test_a_failure_reaches_all_who_wait_and_the_next_is_served(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    served = engine()
    admit, failing = served.admit, [True]

    def once(*_: Any) -> list[Event]:
        if failing.pop() if failing else False:
            raise failure
        return admit()

    monkeypatch.setattr(served, "admit", once)
    driver = Driver(served)
    with pytest.raises(RuntimeError, match=r"out of memory|PanicException"):
        driver.ask(Job([5, 6], SAMPLING, 1, 0)).result(60)
    assert driver.ask(Job([5, 6], SAMPLING, 1, 0)).result(60)[0].ids
    driver.close()
    assert served.idle


def test_closing_answers_what_was_asked_before() -> None:
    driver = Driver(engine())
    asked = [driver.ask(Job([5, 6, 7 + n], SAMPLING, 1, n)) for n in range(9)]
    driver.close()
    assert all(len(answer.result(0)) == 1 for answer in asked)
    driver.close()


def test_a_job_is_followed_as_it_grows() -> None:
    driver, heard, ended = Driver(engine()), [], threading.Event()
    prompt = toys.tokenizer().encode("two birds")
    expected = driver.ask(Job(prompt, SAMPLING, 2, 7)).result(60)

    def hear(events: Sequence[Event] | Exception) -> None:
        assert not isinstance(events, Exception)
        heard.extend((event.sample, event.token) for event in events)
        if following[0].left == 0:
            ended.set()

    following: list[Following] = []
    following.append(driver.follow(Job(prompt, SAMPLING, 2, 7), hear))
    assert ended.wait(60)
    driver.close()
    for k in (0, 1):
        assert [token for sample, token in heard if sample == k] == expected[k].ids


def test_a_dropped_job_frees_its_slots_and_is_heard_of_no_more() -> None:
    served = engine()
    driver, heard, first = Driver(served), [], threading.Event()

    def hear(events: Sequence[Event] | Exception) -> None:
        heard.append(events)
        first.set()

    following = driver.follow(Job([5, 6], Sampling(max_tokens=100_000)), hear)
    assert first.wait(60)
    driver.drop(following)
    assert driver.call(lambda engine: engine.idle).result(60)
    count = len(heard)
    assert driver.ask(Job([5, 6], SAMPLING)).result(60)
    assert len(heard) == count
    driver.close()


def test_a_call_runs_between_two_steps() -> None:
    driver = Driver(engine())
    assert driver.call(lambda engine: engine.slots).result(60) == 4
    with pytest.raises(ZeroDivisionError):
        driver.call(lambda _: 1 // 0).result(60)
    driver.close()


def slices(count: int, done: list[str], name: str, seconds: float = 0.0) -> Callable[[Engine], Steps[str]]:
    """Work of so many steps, each of which says when it ended."""

    def work(engine: Engine) -> Steps[str]:
        for _ in range(count):
            time.sleep(seconds)
            done.append(name)
            yield
        return f"{name} of {engine.slots}"

    return work


def test_shared_work_of_many_accounts_goes_on_by_turns() -> None:
    driver, held, done = Driver(engine()), threading.Event(), list[str]()
    blocked = driver.call(lambda _: held.wait(60))
    answers = [driver.share("a", slices(20, done, "a", 0.01)) for _ in range(5)]
    answers.append(driver.share("b", slices(3, done, "b", 0.01)))
    held.set()
    assert blocked.result(60)
    assert [answer.result(60) for answer in answers] == ["a of 4"] * 5 + ["b of 4"]
    assert "".join(done[:6]).count("b") >= 2 and done.count("a") == 100
    driver.close()


def test_replies_have_the_engine_for_as_long_as_shared_work_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the work takes a second here, one of the engine a quarter."""
    clock, done, ended = [0.0], list[str](), threading.Event()
    monkeypatch.setattr(driver_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    served = engine()
    write = served.write

    def written() -> list[Event]:
        clock[0] += 0.25
        done.append("reply")
        return write()

    def work(engine: Engine) -> Steps[None]:
        while not ended.is_set():
            clock[0] += 1.0
            done.append("work")
            yield

    monkeypatch.setattr(served, "write", written)
    driver, held = Driver(served), threading.Event()
    blocked = driver.call(lambda _: held.wait(60))
    answers = [driver.share("a", work) for _ in range(3)]
    reply = driver.ask(Job([5, 6], Sampling(temperature=1.0, max_tokens=40), 1, 7, "a"))
    held.set()
    assert blocked.result(60) and reply.result(60)
    ended.set()
    driver.close()
    assert all(answer.done() for answer in answers)
    until = len(done) - done[::-1].index("reply")
    runs = ["".join(run) for run in "".join(one[0] for one in done[:until]).split("w")]
    assert len(runs) > 3 and all(len(run) >= 4 for run in runs[2:-1]) and max(map(len, runs)) <= 5


def test_work_that_rests_takes_no_turn_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, turns, done, looks, rested = (Processor(), list[str](), list[str](), list[str](), threading.Event())

    def may(account: str, background: bool = False) -> bool:
        looks.append(account)
        return rested.is_set()

    @contextmanager
    def turn() -> Iterator[None]:
        turns.append("turn")
        yield

    monkeypatch.setattr(processor.rests, "may", may)
    monkeypatch.setattr(processor, "turn", turn)
    driver = Driver(engine(), processor)
    answer = driver.share("a", slices(1, done, "a"))
    until(lambda: len(looks) > 3)
    assert not turns and not done
    rested.set()
    assert answer.result(60) == "a of 4" and turns
    driver.close()


def test_shared_work_has_bounds_errors_and_an_end() -> None:
    driver, held, done = Driver(engine()), threading.Event(), list[str]()
    blocked = driver.call(lambda _: held.wait(60))
    many = [driver.share("a", slices(1, done, "a")) for _ in range(MOST)]
    other = driver.share("b", slices(1, done, "b"))
    broken = driver.share("c", lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    unwanted = driver.share("d", slices(1, done, "d"))
    assert unwanted.cancel()
    held.set()
    assert blocked.result(60) and other.result(60) == "b of 4"
    with pytest.raises(ZeroDivisionError):
        broken.result(60)
    refused = [isinstance(answer.exception(60), Overloaded) for answer in many]
    assert refused == [False] * (MOST // 2) + [True] * (MOST // 2)
    last = driver.share("e", slices(9, done, "e"))
    driver.close()
    assert last.result(0) == "e of 4" and "d" not in done


def test_a_job_that_is_dropped_before_it_began_leaves_nothing() -> None:
    driver, held, heard = Driver(engine()), threading.Event(), []
    blocked = driver.call(lambda _: held.wait(60))
    following = driver.follow(Job([5, 6], SAMPLING), heard.append)
    driver.drop(following)
    driver.drop(following)
    held.set()
    assert blocked.result(60)
    assert driver.call(lambda engine: engine.idle).result(60) and not heard
    assert driver.ask(Job([5, 6], SAMPLING)).result(60)
    driver.close()


def test_a_cancelled_answer_drops_its_job_and_a_cancelled_call_is_not_made() -> None:
    driver, held, made = Driver(engine()), threading.Event(), []
    blocked = driver.call(lambda _: held.wait(60))
    endless = driver.ask(Job([5, 6], Sampling(max_tokens=100_000)))
    unwanted = driver.call(made.append)
    assert endless.cancel() and unwanted.cancel()
    held.set()
    assert blocked.result(60)
    assert driver.call(lambda engine: engine.idle).result(60) and not made
    assert driver.ask(Job([5, 6], SAMPLING)).result(60)
    driver.close()


def test_one_who_can_hear_no_more_spoils_no_other(caplog: pytest.LogCaptureFixture) -> None:
    driver = Driver(engine())
    deaf = driver.follow(Job([5, 6], Sampling(max_tokens=100_000)), lambda _: 1 // 0)
    assert driver.ask(Job([5, 6], SAMPLING)).result(60)
    assert driver.call(lambda engine: engine.idle).result(60) and deaf.dropped
    assert "a job was dropped" in caplog.text
    driver.close()


class _Broken:
    """A constraint that fails at its second token."""

    def __init__(self) -> None:
        self.asked = 0

    def restrict(self, logits_V: Tensor, remaining: int) -> None:
        self.asked += 1
        if self.asked == 2:
            raise ValueError("the grammar is too large")

    def accept(self, token: int) -> None:
        """Takes any."""


@pytest.mark.parametrize("broken", [_Broken, lambda: 1 // 0])
def test_a_constraint_that_fails_ends_its_job_alone(broken: Any) -> None:
    driver, held = Driver(engine()), threading.Event()
    blocked = driver.call(lambda _: held.wait(60))
    beside = driver.ask(Job([5, 6], SAMPLING, 2, 3))
    failing = driver.ask(Job([7, 8], SAMPLING, 2, 4, constraint=broken))
    held.set()
    with pytest.raises((ValueError, ZeroDivisionError), match=r"too large|by zero"):
        failing.result(60)
    assert blocked.result(60)
    assert [c.ids for c in beside.result(60)] == [c.ids for c in engine().generate([[5, 6]], SAMPLING, 2, [3])[0]]
    assert driver.call(lambda engine: engine.idle).result(60)
    driver.close()


def test_a_driver_tells_how_its_engine_stands() -> None:
    served = Engine(toys.model(), toys.tokenizer(), slots=2, bounds=Bounds(chunk=16, waiting=2))
    driver, held = Driver(served), threading.Event()
    blocked = driver.call(lambda _: held.wait(60))
    asked = [driver.ask(Job([5, 6, 7], SAMPLING, account="one")) for _ in range(4)]
    assert driver.stats.waiting >= 4, "jobs the engine has not heard of count"
    held.set()
    assert blocked.result(60)
    refused = [answer.exception(60) for answer in asked if answer.exception(60)]
    assert [type(error) for error in refused] == [Overloaded], "two in the slots, one is the account's share"
    stats = driver.call(lambda engine: engine.stats).result(60)
    assert (stats.waiting, stats.busy, stats.slots, stats.read) == (0, 0, 2, 9)
    assert stats.written == sum(len(a.result()[0].ids) for a in asked if not a.exception())
    driver.close()


def test_the_background_comes_to_an_end_once_others_are_served() -> None:
    driver = Driver(engine())
    for seed in range(3):
        others = [driver.ask(Job([5, 6], SAMPLING, 1, seed, "a")) for _ in range(3)]
        behind = driver.ask(Job([5, 6], SAMPLING, 1, seed, "b", background=True))
        assert all(answer.result(60)[0].ids for answer in (*others, behind))
    driver.close()
