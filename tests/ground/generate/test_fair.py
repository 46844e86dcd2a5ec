"""Accounts share threads: who asks little never waits long for who asks much."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from charter.ground.generate.engine_limits import Overloaded
from charter.ground.generate.fair import FairQueue, FairThreads


def order(queue: FairQueue[str], seconds: dict[str, float]) -> list[str]:
    """Takes all that waits; each account's pieces last so long."""
    found = []
    while (taken := queue.take()) is not None:
        work, account, background = taken
        queue.charge(account, background, seconds.get(account, 1.0))
        found.append(work)
    return found


def filled(*work: str) -> FairQueue[str]:
    """`a1` is the account a's; `-a1` in the background."""
    queue: FairQueue[str] = FairQueue()
    for one in work:
        queue.add(one, one.lstrip("-")[0], one.startswith("-"))
    return queue


def test_who_had_least_done_is_next() -> None:
    assert order(filled("a1", "a2", "a3", "b1", "b2"), {}) == ["a1", "b1", "a2", "b2", "a3"]
    # three seconds each against one: b is served three times as often
    slow = order(filled("a1", "a2", "b1", "b2", "b3", "b4"), {"a": 3.0})
    assert slow == ["a1", "b1", "b2", "b3", "a2", "b4"]


def test_what_runs_in_the_background_comes_last() -> None:
    assert order(filled("-a1", "-b1", "a1", "b1", "-a2"), {}) == ["a1", "b1", "-a1", "-b1", "-a2"]


def test_nobody_saves_up_turns_and_nobody_is_punished_for_having_been_alone() -> None:
    queue = filled(*(f"a{n}" for n in range(9)))
    for _ in range(5):
        _, account, background = queue.take() or pytest.fail("nothing waits")
        queue.charge(account, background, 10.0)
    queue.add("b1", "b")
    queue.add("b2", "b")
    # a was alone for 50 seconds: b has one turn more at most, since it began level with a's last turn
    assert order(queue, {"a": 10.0, "b": 10.0}) == ["b1", "a5", "b2", "a6", "a7", "a8"]


def test_work_that_was_begun_stays_in_front_of_its_account() -> None:
    queue = filled("a1", "a2")
    work, account, background = queue.take() or pytest.fail("nothing waits")
    queue.add(work, account, background, again=True)
    assert order(queue, {}) == ["a1", "a2"] and queue.count == 0


def test_too_much_is_refused_and_a_share_is_left_to_others() -> None:
    queue: FairQueue[str] = FairQueue(most=6, share=0.5)
    for account in ("a", "a", "a", "b", "c"):
        queue.check(account, False, "prompts")
        queue.add("work", account)
    with pytest.raises(Overloaded, match="3 prompts of yours wait already") as own:
        queue.check("a", False, "prompts")
    queue.check("b", False, "prompts")
    queue.add("work", "b")
    with pytest.raises(Overloaded, match="6 prompts wait already") as all_of_them:
        queue.check("c", False, "prompts")
    for account in "defghi":  # who has nothing waiting finds a place all the same
        queue.check(account, False, "prompts")
        queue.add("work", account)
    with pytest.raises(Overloaded, match="12 prompts wait already"):
        queue.check("j", False, "prompts")
    assert own.value.own and not all_of_them.value.own


def test_what_waits_in_the_background_counts_as_one_s_own() -> None:
    queue: FairQueue[str] = FairQueue(most=6, share=0.5)
    for background in (True, True, False):
        queue.check("a", background, "prompts")
        queue.add("work", "a", background)
    for background in (True, False):
        with pytest.raises(Overloaded, match="of yours"):
            queue.check("a", background, "prompts")


def test_what_is_raised_at_a_close_or_after_the_end_loses_nobody() -> None:
    threads = FairThreads(1, "pieces")

    def stubborn() -> Generator[None, None, None]:
        try:
            while True:
                time.sleep(0.01)
                yield
        finally:
            raise ValueError("closed")

    def ending() -> None:
        raise StopIteration("ended")

    async def all_of_them() -> None:
        task = asyncio.ensure_future(threads.do("a", stubborn))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(RuntimeError, match="StopIteration: ended"):
            await threads.do("a", ending)
        assert await threads.do("b", lambda: 7) == 7
        threads.close()
        with pytest.raises(RuntimeError, match="have ended"):
            await threads.do("b", lambda: 7)

    asyncio.run(all_of_them())


def run(threads: FairThreads, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    try:
        return asyncio.run(work())
    finally:
        threads.close()


def test_a_short_piece_passes_many_long_ones_of_another() -> None:
    threads, done = FairThreads(1, "pieces"), list[str]()

    def work(name: str, seconds: float) -> Callable[[], None]:
        return lambda: (time.sleep(seconds), done.append(name))[1]

    async def all_of_them() -> None:
        long = [asyncio.ensure_future(threads.do("a", work("long", 0.05))) for _ in range(10)]
        await asyncio.sleep(0.08)
        await threads.do("b", work("short", 0.0))
        await asyncio.gather(*long)

    run(threads, all_of_them)
    assert done.index("short") <= 3 and done.count("long") == 10


def test_long_work_in_steps_lets_others_in_between() -> None:
    threads, seen = FairThreads(1, "pieces"), list[str]()

    def long() -> Generator[None, None, str]:
        for number in range(20):
            time.sleep(0.02)
            seen.append(f"step {number}")
            yield
        return "long"

    async def both() -> tuple[str, str]:
        first = asyncio.ensure_future(threads.do("a", long))
        await asyncio.sleep(0.05)
        second = await threads.do("b", lambda: seen.append("other") or "short")
        return await first, second

    assert run(threads, both) == ("long", "short")
    assert 1 <= seen.index("other") < 10


def test_one_account_never_has_all_threads() -> None:
    threads, gate, under_way = FairThreads(3, "pieces"), threading.Event(), Counter[str]()

    def work(name: str) -> Callable[[], object]:
        return lambda: (under_way.update([name]), gate.wait())

    async def all_of_them() -> None:
        greedy = [asyncio.ensure_future(threads.do("a", work("a"))) for _ in range(9)]
        await asyncio.sleep(0.1)
        assert under_way["a"] == 2
        other = asyncio.ensure_future(threads.do("b", work("b")))
        await asyncio.sleep(0.1)
        assert under_way["b"] == 1
        gate.set()
        await asyncio.gather(*greedy, other)

    run(threads, all_of_them)


def test_what_nobody_waits_for_is_dropped() -> None:
    threads, gate, made, closed = FairThreads(1, "pieces"), threading.Event(), list[int](), list[bool]()

    def steps() -> Generator[None, None, None]:
        try:
            while True:
                gate.wait()
                yield
        finally:
            closed.append(True)

    async def dropped() -> None:
        begun = asyncio.ensure_future(threads.do("a", steps))
        waiting = [asyncio.ensure_future(threads.do("a", lambda: made.append(1))) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in (begun, *waiting):
            task.cancel()
        await asyncio.gather(begun, *waiting, return_exceptions=True)
        assert threads.waiting == 1, "the one under way"
        gate.set()
        assert await threads.do("b", lambda: "free") == "free"

    run(threads, dropped)
    assert not made and closed == [True]


@pytest.mark.parametrize("steps", [False, True])
def test_errors_and_values_come_back(steps: bool) -> None:
    threads = FairThreads(1, "pieces")

    def failing() -> Any:
        raise KeyError("broken")

    def failing_later() -> Generator[None, None, None]:
        yield
        raise KeyError("broken")

    async def fails() -> None:
        with pytest.raises(KeyError, match="broken"):
            await threads.do("a", failing_later if steps else failing)
        assert await threads.do("a", lambda: 7) == 7

    run(threads, fails)
