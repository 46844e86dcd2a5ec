"""One thread owns the engine; callers in other threads ask for samples and wait for a future, or follow their growth.

All requests are stepped together, so that requests which come one by one still fill the slots.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import Steps
from charter.ground.generate.constraint import Constraint
from charter.ground.generate.engine import Completion, Engine, Event
from charter.ground.generate.engine_limits import Overloaded, Stats
from charter.ground.generate.fair import FairQueue, Processor, Task, oldest
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.threads import Threads

LOG = logging.getLogger("charter.engine")
T = TypeVar("T")
SHARED_AT_ONCE = 4  # accounts whose texts are scored at the same time
PAUSE_SECONDS = 0.002  # between looks while all waiting accounts rest
SLOW_SECONDS = 0.25  # a step that takes longer counts as slow: nobody else gets anything meanwhile
REPLIES, SCORING = "replies", "scoring"  # names of the queues


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A request of an account for n samples of a prompt, held to a form or free, at once or in the background when
    there is room."""

    prompt: Sequence[int]
    sampling: Sampling
    n: int = 1
    seed: int = 0
    account: str = ""
    constraint: Callable[[], Constraint] | None = None
    background: bool = False


# a follower's callback, in the engine's thread: it gets the events of one step, or the error that ended it
Heard = Callable[[Sequence[Event] | Exception], None]


@dataclass(eq=False, slots=True)
class Following:
    """A running job: `hear` is called after every step with events for it, until all samples are done."""

    job: Job
    hear: Heard
    left: int
    number: int = 0  # the engine's number, after submitting
    dropped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    work: Callable[[Engine], Any]
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    task: Task
    account: str
    background: bool


class Driver:
    """Steps an engine in its own thread while there are requests. `slow_steps`: number of steps so far that took longer
    than `SLOW_SECONDS`."""

    def __init__(self, engine: Engine, processor: Processor | None = None) -> None:
        """`processor`: shared with other threads that compute."""
        self._engine, self._processor = engine, processor or Processor()
        self._inbox: SimpleQueue[Following | _Call | _Shared | None] = SimpleQueue()
        self._shared: FairQueue[Task] = FairQueue(name=SCORING)
        self._begun: set[str] = set()  # accounts with work that holds memory
        self._next_share = 0.0  # the time from which such work may have the engine again
        self._under_way: dict[int, Following] = {}
        # since when nothing came of what somebody waits for
        self._unheard: dict[Following | Task, float] = {}
        self.slow_steps = 0
        self._threads = Threads()
        engine.hurry = lambda: self._processor.wanted or not self._inbox.empty()
        engine.rests = self._processor.rests
        self._thread = threading.Thread(target=self._run, name="charter-engine", daemon=True)
        self._thread.start()

    def ask(self, job: Job) -> Future[list[Completion]]:
        """The job's completions. The future raises CharterError if the prompt is empty or too long, and Overloaded if
        too much waits; cancelling it drops the job."""
        answer: Future[list[Completion]] = Future()
        completions: dict[int, Completion] = {}

        def hear(heard: Sequence[Event] | Exception) -> None:
            if not isinstance(heard, Exception):
                completions.update({event.sample: event.completion for event in heard if event.done})
                if len(completions) < job.n:
                    return
            if not answer.set_running_or_notify_cancel():
                return
            if isinstance(heard, Exception):
                answer.set_exception(heard)
            else:
                answer.set_result([completions[k] for k in range(job.n)])

        following = self.follow(job, hear)
        answer.add_done_callback(lambda future: self.drop(following) if future.cancelled() else None)
        return answer

    def follow(self, job: Job, hear: Heard) -> Following:
        """Begins a job; `hear` must be quick. If it raises, the job is dropped."""
        following = Following(job, hear, job.n)
        if not job.background:
            self._unheard[following] = time.monotonic()
        self._inbox.put(following)
        return following

    def drop(self, following: Following) -> None:
        """Ends a job that nobody waits for any more, at the next step; it makes no further calls."""
        following.dropped = True
        self._inbox.put(following)

    def share(self, account: str, work: Callable[[Engine], Steps[T]], background: bool = False) -> Future[T]:
        """The result of `work`, such as scoring texts, which runs on the engine in its own steps, in the account's
        turn. Between two steps, replies have the engine for as long as the last step took. The future raises Overloaded
        if too much waits; cancelling it drops the work."""
        shared = _Shared(Task(lambda: work(self._engine)), account, background)
        if not background:
            self._unheard[shared.task] = shared.task.since
        self._inbox.put(shared)
        return shared.task.answer

    def call(self, work: Callable[[Engine], T]) -> Future[T]:
        """The result of `work`, which must be quick and runs between two steps of the engine."""
        call = _Call(work)
        self._inbox.put(call)
        return call.answer

    @property
    def waits(self) -> dict[str, float]:
        """Seconds that the first in line has waited, 0 if nobody waits: for the first token of a reply, and for a turn
        of a text to score. Background work is left out."""
        unheard = list(self._unheard.items())
        return {
            REPLIES: oldest(since for request, since in unheard if isinstance(request, Following)),
            SCORING: oldest(since for request, since in unheard if isinstance(request, Task)),
        }

    @property
    def stats(self) -> Stats:
        """The engine's counts; jobs that it has not received yet count as waiting."""
        engine_stats = self._engine.stats
        return replace(engine_stats, waiting=engine_stats.waiting + self._inbox.qsize())

    def close(self) -> None:
        """Ends the thread once all requests are answered; no requests may follow."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._take() or self._under_way or self._shared.count:
            try:
                due = self._shared.count and not (self._under_way and time.monotonic() < self._next_share)
                if due and not (self._share() or self._under_way):
                    time.sleep(PAUSE_SECONDS)
                if self._under_way:
                    self._step()
            except BaseException as error:
                # whoever waits must hear of it, whatever it is: a library's panic, too
                reason = error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
                for following in list(self._under_way.values()):
                    self._end(following, reason)

    def _take(self, wait: bool = True) -> bool:
        """Submits all new requests; with `wait`, waits for one if nothing runs. False once it is closed."""
        while True:
            if self._inbox.empty() and (self._under_way or self._shared.count or not wait):
                return True
            request = self._inbox.get()
            if request is None:
                self._inbox.put(None)  # stays at the end, for the next look
                return False
            with self._timed():
                self._accept(request)

    def _accept(self, request: Following | _Call | _Shared) -> None:
        if isinstance(request, _Call):
            self._do(request)
        elif isinstance(request, _Shared):
            self._line_up(request)
        elif request.dropped:
            self._forget(request)
        else:
            self._submit(request)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Counts slow steps."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.slow_steps += time.monotonic() - began > SLOW_SECONDS

    def _submit(self, following: Following) -> None:
        job = following.job
        try:
            following.number = self._engine.submit(
                job.prompt,
                job.sampling,
                job.n,
                job.seed,
                account=job.account,
                constraint=job.constraint,
                background=job.background,
            )
        except CharterError as error:
            self._tell(following, error)
        else:
            self._under_way[following.number] = following

    def _do(self, call: _Call) -> None:
        if not call.answer.set_running_or_notify_cancel():
            return
        try:
            call.answer.set_result(call.work(self._engine))
        except Exception as error:
            call.answer.set_exception(error)

    def _line_up(self, shared: _Shared) -> None:
        try:
            self._shared.check(shared.account, shared.background, "texts to score")
        except Overloaded as error:
            self._unheard.pop(shared.task, None)
            if shared.task.answer.set_running_or_notify_cancel():
                shared.task.answer.set_exception(error)
        else:
            self._shared.add(shared.task, shared.account, shared.background)

    def _share(self) -> bool:
        """A step of other work; whether any was due. Nothing waits for the processor if whoever asks for such work
        rests."""
        self._processor.rests.see(self._shared.accounts)
        if not self._shared.any(self._may_share):
            return False
        with self._processor.turn(), self._timed():
            return self._share_step()

    def _share_step(self) -> bool:
        began = time.monotonic()
        rests = self._processor.rests
        rests.see(self._shared.accounts)
        if (entry := self._shared.take(self._may_share)) is None:  # whoever came meanwhile goes first
            return False
        task, account, background = entry
        over = task.step(lambda work: work())
        took = time.monotonic() - began
        self._shared.charge(account, background, took)
        rests.charge(account, background, took)
        self._next_share = began + 2 * took
        if over:
            self._unheard.pop(task, None)
            self._begun.discard(account)
        else:
            if not background:
                self._unheard[task] = time.monotonic()
            self._begun.add(account)
            self._shared.add(task, account, background, again=True)
        return True

    def _may_share(self, account: str, background: bool) -> bool:
        """Whether an account may have a step of such work now."""
        room = account in self._begun or len(self._begun) < SHARED_AT_ONCE
        return room and self._processor.rests.may(account, background)

    def _step(self) -> None:
        """A step of the engine: followers get their tokens before others' prompts are read, and new requests join
        then."""
        if self._engine.writes:
            with self._processor.turn(), self._timed(), self._threads.step():
                events = self._engine.write()
            self._hear(events)
        if self._engine.waits or not self._inbox.empty():
            with self._processor.turn(), self._timed():
                self._take(wait=False)
                with self._threads.step():
                    events = self._engine.admit()
            self._hear(events)
        if self._engine.resting:
            time.sleep(PAUSE_SECONDS)

    def _hear(self, events: Sequence[Event]) -> None:
        heard: dict[int, list[Event]] = {}
        for event in events:
            heard.setdefault(event.request, []).append(event)
        for number, events in heard.items():
            following = self._under_way.get(number)
            if following is None:  # a request made directly to the engine, in a call
                continue
            error = next((event.error for event in events if event.error is not None), None)
            if error is not None:
                self._end(following, error)
                continue
            following.left -= sum(event.done for event in events)
            if following.left == 0:
                del self._under_way[number]
            self._tell(following, events)

    def _end(self, following: Following, error: Exception) -> None:
        """Ends a job that failed."""
        self._forget(following)
        self._tell(following, error)

    def _forget(self, following: Following) -> None:
        self._unheard.pop(following, None)
        self._engine.cancel(following.number)
        self._under_way.pop(following.number, None)

    def _tell(self, following: Following, heard: Sequence[Event] | Exception) -> None:
        """Calls a follower, unless it was dropped; one whose callback fails, for example on a closed loop, is
        dropped."""
        self._unheard.pop(following, None)
        if following.dropped:
            return
        try:
            following.hear(heard)
        except Exception:
            LOG.exception("a job was dropped: its follower failed")
            following.dropped = True
            self._forget(following)
