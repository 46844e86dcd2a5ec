"""Shares a few threads, and the processor, between many accounts: who has had the least work done is next.

Work is counted in seconds; an account that had nothing waiting starts level with the others, so that nobody saves up
turns (fair queueing; Demers, Keshav and Shenker 1989). Background work waits for all other work. Work may come in
steps: between two of them another account may have a turn. No account may fill more than its share of the queue, and
work that nobody waits for any more is dropped, at the latest after the running step.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, ParamSpec, TypeVar

from charter.ground.artifact.steps import Steps
from charter.ground.generate.engine_limits import Overloaded
from charter.ground.generate.shares import Rests

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")
May = Callable[[str, bool], bool]  # whether an account may have a turn, or its background
MOST = 256  # waiting pieces of work
BEHIND = 10  # niceness of threads that let others go first
SHARE = 0.5  # of these, for one account
AGAIN_SECONDS = 0.01  # until resting accounts are checked again
REMEMBERED = 1000  # accounts without work whose seconds are remembered


class Processor:
    """A lock for whoever has waited longest, of a processor shared by threads that each compute on all cores.

    Two matrix products at once take longer than one after the other: each waits for helpers that the other keeps from
    a core. So one thread computes at a time, in the order of arrival (a ticket lock). After work for an account, that
    account rests as long as the work took if others want something, whichever thread did it.
    """

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._drawn = self._done = 0  # tickets
        self.rests = Rests()

    @property
    def wanted(self) -> bool:
        """Whether a thread waits for a turn."""
        return self._drawn - self._done > 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a turn and keeps it until the end of the block. Don't nest it."""
        with self._news:
            ticket = self._drawn
            self._drawn += 1
            self._news.wait_for(lambda: self._done == ticket)
        try:
            yield
        finally:
            with self._news:
                self._done += 1
                self._news.notify_all()


def apart(work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """The result or error of `work`, run in a new thread that ends with it. An interrupt doesn't wait for it.

    For rare computations in processes whose engine has its own thread. A thread that has computed keeps OpenMP's
    helpers as long as it lives. If there are more helpers than processors, none waits awake for the next product: all
    sleep, also the engine's, which on two cores is then half as fast.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work(*arguments, **keywords))
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="charter-apart", daemon=True)
    thread.start()
    error = answer.exception()
    thread.join()
    if error is not None:
        raise error
    return answer.result()


class FairQueue(Generic[W]):
    """Pieces of work by account. Not safe for several threads at once."""

    def __init__(self, most: int = MOST, share: float = SHARE, name: str = "") -> None:
        self._most, self._own, self._name = most, max(1, int(share * most)), name
        self._waiting: dict[bool, dict[str, deque[W]]] = {False: {}, True: {}}
        self._served: dict[tuple[bool, str], float] = {}  # seconds
        self._level = {False: 0.0, True: 0.0}  # seconds of the account that last had its turn
        self.count = 0

    def check(self, account: str, background: bool, what: str) -> None:
        """Raises Overloaded if nothing more may wait; `what` names such work."""
        account_count = sum(len(waiting.get(account, ())) for waiting in self._waiting.values())
        # an account with nothing waiting gets a place even if others fill all of them
        if account_count >= self._own or self.count >= (self._most if account_count else 2 * self._most):
            raise Overloaded(
                f"{account_count if account_count >= self._own else self.count} {what}",
                account_count >= self._own,
                self._name,
            )

    def each(self) -> Iterator[W]:
        """Waiting work outside the background."""
        return chain.from_iterable(self._waiting[False].values())

    def add(self, work: W, account: str, background: bool = False, again: bool = False) -> None:
        """Puts work behind the account's other work, or in front of it if it has already begun."""
        waiting, key = self._waiting[background], (background, account)
        if account not in waiting:
            waiting[account] = deque()
            if not again:
                self._served[key] = max(self._served.get(key, 0.0), self._level[background])
        (waiting[account].appendleft if again else waiting[account].append)(work)
        self.count += 1

    def take(self, may: May = lambda account, background: True) -> tuple[W, str, bool] | None:
        """The next piece, with its account and whether it runs in the background; None if no account that `may` have a
        turn has any."""
        for background, waiting in self._waiting.items():
            ready = [account for account in waiting if may(account, background)]
            if ready:
                account = min(ready, key=lambda name: self._served.get((background, name), 0.0))
                self._level[background] = max(self._level[background], self._served.get((background, account), 0.0))
                work = waiting[account].popleft()
                self._emptied(account, background)
                return work, account, background
        return None

    def any(self, may: May) -> bool:
        """Whether an account that `may` have a turn has something waiting."""
        return any(may(account, behind) for behind, waiting in self._waiting.items() for account in waiting)

    @property
    def accounts(self) -> list[str]:
        """Accounts with waiting work outside the background."""
        return list(self._waiting[False])

    def charge(self, account: str, background: bool, seconds: float) -> None:
        """Adds seconds of work to an account."""
        key = (background, account)
        self._served[key] = self._served.get(key, self._level[background]) + seconds
        if len(self._served) > 2 * REMEMBERED:
            self._served = {
                (back, name): seconds_done
                for (back, name), seconds_done in self._served.items()
                if seconds_done > self._level[back] or name in self._waiting[back]
            }

    def remove(self, work: W, account: str, background: bool) -> None:
        """Removes waiting work that nobody wants any more."""
        line = self._waiting[background].get(account, deque())
        if work in line:
            line.remove(work)
            self._emptied(account, background)

    def _emptied(self, account: str, background: bool) -> None:
        self.count -= 1
        if not self._waiting[background][account]:
            del self._waiting[background][account]


@dataclass(slots=True, eq=False)
class Task:
    """Work that somebody waits for; `steps` once it has begun, if it comes in steps. `since`: when it last had a turn,
    or was requested."""

    work: Callable[[], Any]
    answer: Future[Any] = field(default_factory=Future)
    steps: Steps[Any] | None = None
    since: float = field(default_factory=time.monotonic)

    def step(self, do: Callable[[Callable[[], Any]], Any]) -> bool:
        """Does a step by calling `do`; returns whether it was the last one, whose value or error the answer then
        has."""
        value: Any = None
        error: BaseException | None = None
        try:
            if self.answer.cancelled():
                if self.steps is not None:
                    self.steps.close()
                return True
            value = do(self._next)
            if self.steps is not None:
                return False
        except _Ended as ended:
            value = ended.value
        except StopIteration as raised:  # no future can hold it
            error = RuntimeError(f"StopIteration: {raised}")
        except BaseException as raised:
            error = raised
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error) if error is not None else self.answer.set_result(value)
        return True

    def _next(self) -> Any:
        """The work's value, or its first or next step."""
        if self.steps is None:
            value = self.work()
            if not isinstance(value, Generator):
                return value
            self.steps = value
        try:
            next(self.steps)
        except StopIteration as ended:
            raise _Ended(ended.value) from None


def step_back() -> None:
    """Lets the process's other threads go first on the processor, on systems where each thread has its own priority."""
    if sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)


class FairThreads:
    """A few threads that do the work of accounts, beside the event loop. One account never has all of several
    threads."""

    def __init__(
        self,
        threads: int,
        what: str,
        most: int = MOST,
        name: str = "",
        behind: bool = False,
        processor: Processor | None = None,
        rests: Rests | None = None,
    ) -> None:
        """`what`: name of such work in a refusal; `name`: name of its queue in figures; `behind`: whether others, such
        as the engine, go first on the processor; `processor`: the one that the work computes on, in its turn; `rests`:
        the accounts that let others go first, for work that takes no turns."""
        self._what, self._each, self._behind, self._processor = what, max(1, threads - 1), behind, processor
        self._rests = processor.rests if processor else rests
        self._queue: FairQueue[Task] = FairQueue(most, name=name)
        self._running: dict[str, int] = {}
        self._news, self._closed = threading.Condition(), False
        self._threads = [
            threading.Thread(target=self._run, name=f"charter-fair-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of unfinished pieces of work."""
        return self._queue.count + sum(self._running.values())

    @property
    def oldest(self) -> float:
        """Seconds that the first in line has had no turn; 0 if nobody waits. Background work is left out."""
        with self._news:
            return oldest(task.since for task in self._queue.each())

    async def do(self, account: str, work: Callable[[], T | Steps[T]], background: bool = False) -> T:
        """The result of `work`, or of the generator that it returns, run step by step. Raises Overloaded if too much
        waits."""
        task = Task(work)
        with self._news:
            if self._closed:
                raise RuntimeError("these threads have ended")
            self._queue.check(account, background, self._what)
            self._queue.add(task, account, background)
            self._news.notify()
        try:
            value: T = await asyncio.wrap_future(task.answer)
            return value
        except asyncio.CancelledError:
            task.answer.cancel()
            with self._news:
                self._queue.remove(task, account, background)
            raise

    def close(self, wait: bool = True) -> None:
        """Ends the threads after the waiting work; without `wait` that is dropped, and only running work is
        finished."""
        with self._news:
            self._closed = True
            while not wait and (entry := self._queue.take()) is not None:
                entry[0].answer.cancel()
            self._news.notify_all()
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        if self._behind:
            step_back()
        while self._turn():  # a turn's objects are freed before the wait for the next one
            pass

    def _turn(self) -> bool:
        """Does a step of the next work; False if there will be none."""
        with self._news:
            if not self._awaited():
                return False
        with self._processor.turn() if self._processor else nullcontext():
            with self._news:
                entry = self._take()  # a newcomer may be next; none if another thread took it
            return entry is None or self._do(*entry)

    def _awaited(self) -> bool:
        """Waits for work that may run; False if there will be none."""
        while not self._queue.any(self._may):
            if self._closed and not self._queue.count:
                return False
            self._news.wait(AGAIN_SECONDS if self._queue.count and self._rests else None)
        return True

    def _may(self, account: str, background: bool) -> bool:
        if self._running.get(account, 0) >= self._each:
            return False
        return self._rests is None or self._rests.may(account, background)

    def _take(self) -> tuple[Task, str, bool] | None:
        if self._rests is not None:
            self._rests.see(self._queue.accounts)
        if (entry := self._queue.take(self._may)) is not None:
            self._running[entry[1]] = self._running.get(entry[1], 0) + 1
        return entry

    def _do(self, task: Task, account: str, background: bool) -> bool:
        began, cpu_began = time.monotonic(), time.thread_time()
        over = task.step(apart if self._processor else lambda work: work())
        if self._rests is not None:
            # without turns the waiting time counts for nobody
            took = time.monotonic() - began if self._processor else time.thread_time() - cpu_began
            self._rests.charge(account, background, took)
        with self._news:
            if self._rests is not None:
                self._rests.see(self._queue.accounts)
            self._running[account] -= 1
            if not self._running[account]:
                del self._running[account]
            self._queue.charge(account, background, time.monotonic() - began)
            if not over:
                task.since = time.monotonic()
                self._queue.add(task, account, background, again=True)
            self._news.notify_all()
        return True


def oldest(since: Iterable[float]) -> float:
    """Seconds since the earliest of some moments (of `time.monotonic`); 0 for none."""
    return max(0.0, time.monotonic() - min(since, default=math.inf))


class _Ended(Exception):
    """A generator's value: a future can't carry StopIteration."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value
