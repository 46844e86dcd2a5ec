"""Turns at one processor: one at a time, in their order, and who had one lets others go first."""

from __future__ import annotations

import asyncio
import threading
import time

from charter.ground.generate.fair import FairThreads, Processor
from charter.ground.generate.shares import LONGEST_REST, RECENT, Rests


def test_turns_come_one_at_a_time_in_their_order() -> None:
    processor, order, inside = Processor(), list[int](), list[int]()

    def want(number: int) -> None:
        with processor.turn():
            inside.append(number)
            assert len(inside) == 1
            order.append(number)
            inside.remove(number)

    threads = [threading.Thread(target=want, args=(n,)) for n in range(20)]
    with processor.turn():
        assert not processor.wanted
        for n, thread in enumerate(threads):
            thread.start()
            while processor._drawn < n + 2:  # it has its ticket
                time.sleep(0.001)
        assert processor.wanted
    for thread in threads:
        thread.join(60)
    assert order == list(range(20)) and not processor.wanted


def test_a_turn_that_fails_is_given_back() -> None:
    processor = Processor()
    for _ in range(2):
        try:
            with processor.turn():
                raise KeyError("a")
        except KeyError:
            pass
    with processor.turn():
        pass


def test_who_had_the_processor_rests_as_long_while_others_want_it() -> None:
    now = [100.0]
    rests = Rests(lambda: now[0])
    now[0] = 100.1
    rests.rest(("a",), 0.1)
    assert rests.may("a") and rests.may("b"), "nobody else wants anything"
    rests.see(["a", "b"])
    assert not rests.may("a") and rests.may("b")
    now[0] = 100.1 + RECENT
    assert rests.may("a"), "b was not seen for long"
    now[0] = 100.16
    rests.rest(("b",), 0.06)
    rests.see(["a", "b"])
    assert (rests.may("a"), rests.may("b")) == (True, False), "a rests until 100.2, b until 100.22"
    now[0] = 100.23
    assert rests.may("a") and rests.may("b")


def test_rests_add_up_to_a_bound() -> None:
    now = [0.0]
    rests = Rests(lambda: now[0])
    for _ in range(100):
        now[0] += 0.1
        rests.rest(("a",), 0.1)
    for waited in (LONGEST_REST - 0.01, LONGEST_REST + 0.01):
        now[0] = 10.0 + waited
        rests.see(["b"])
        assert rests.may("a") is (waited > LONGEST_REST)


def test_work_on_a_processor_is_chosen_once_it_has_its_turn() -> None:
    processor, done = Processor(), list[str]()
    threads = FairThreads(1, "pieces", processor=processor)

    async def ask() -> None:
        with processor.turn():
            first = [asyncio.create_task(threads.do("many", lambda n=n: done.append(f"many {n}"))) for n in range(5)]
            await asyncio.sleep(0.05)
            processor.rests.rest(("many",), 0.2)
            other = asyncio.create_task(threads.do("few", lambda: done.append("few")))
            await asyncio.sleep(0.05)
            assert not done
        await asyncio.gather(*first, other)

    asyncio.run(ask())
    threads.close()
    assert done == ["few", *(f"many {n}" for n in range(5))]


def test_rests_may_be_changed_by_several_threads() -> None:
    rests, failed = Rests(), list[Exception]()

    def change(name: str) -> None:
        try:
            for n in range(3000):
                rests.see([f"{name}{n % 50}"])
                rests.rest([f"{name}{n % 50}"], 0.001)
                rests.may(f"{name}{n % 50}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=change, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_threads_live_on_where_somebody_is_seen_between_two_looks() -> None:
    rests = Rests()
    threads = FairThreads(2, "pieces", rests=rests)
    look = rests.may
    rests.rest(["a"], 0.2)

    def may(account: str, background: bool = False) -> bool:
        may_go = look(account, background)
        rests.see(["few"])  # as an engine's thread does at any moment
        return may_go

    rests.may = may  # type: ignore[method-assign]

    async def ask() -> list[int]:
        return list(await asyncio.gather(*(threads.do("a", lambda n=n: n) for n in range(3))))

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == [0, 1, 2]
    assert all(thread.is_alive() for thread in threads._threads)
    threads.close()


def test_what_seldom_computes_is_charged_what_it_computed() -> None:
    rests = Rests()
    threads = FairThreads(1, "pieces", rests=rests)
    asyncio.run(threads.do("a", lambda: time.sleep(0.2)))
    rests.see(["b"])
    assert rests.may("a")
    threads.close()
