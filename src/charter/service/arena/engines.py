"""The hidden models' replies: turns that wait are found in the database and answered in the background.

Checkpoints are driven by one thread each, so that whatever waits is sampled together; servers are asked by a bounded
pool. Both replies of a turn are stored at once. Nothing is kept but in the database: after a kill the turns that wait
are found again and answered with the same seeds.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from sqlalchemy import Engine as Database

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import Assistant, LocalAssistant, open_assistant, own_decoding
from charter.ground.generate.engine import Completion
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.judge.showing import Showing
from charter.ground.judge.shown import Replying, Score, open_grader, room_of, scores_of, shown
from charter.ground.model.generation import chosen
from charter.ground.settings.execution import Execution
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message, Prompt
from charter.service.arena.config import Replies
from charter.service.people import work
from charter.service.people.conversations import waiting_turns
from charter.service.web.database import reading, writing
from charter.service.web.engine_loop import Driver, Job
from charter.service.web.threads import apart

LOG = logging.getLogger("charter.service.arena")
PARALLEL = 8  # requests under way to one server
TRIES = 3
LOOK_SECONDS = 2.0  # turns are looked for when somebody asks, and at least this often


class Speaker(Protocol):
    """A model that replies sooner or later."""

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        """n replies, each with its own chances; the future raises what went wrong."""
        ...

    def close(self) -> None:
        """Takes no more."""
        ...


class LocalSpeaker:
    """A checkpoint on this machine as it is, behind a driver: all that waits is sampled together."""

    def __init__(self, assistant: LocalAssistant, sampling: Sampling) -> None:
        self._assistant, self._sampling = assistant, sampling
        self._driver = Driver(assistant.engine)

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        """n replies, when the driver has them."""
        return self._driver.ask(Job(self._assistant.encode(messages), self._sampling, n, seed))

    def driven(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int, seeds: Sequence[int] | None
    ) -> list[list[Completion]]:
        """What an assistant's `reply` gives, by way of the driver."""
        given = list(seeds) if seeds is not None else list(range(len(prompts)))
        asked = [
            self._driver.ask(Job(self._assistant.encode(prompt), sampling, n, seed))
            for prompt, seed in zip(prompts, given, strict=True)
        ]
        return [answer.result() for answer in asked]

    def close(self) -> None:
        """Ends the driver's thread once what it was asked is answered."""
        self._driver.close()


class PooledSpeaker:
    """An assistant that is asked by a few threads: a server, or a checkpoint that is shown in another mode."""

    def __init__(self, assistant: Assistant, sampling: Sampling) -> None:
        self._assistant, self._sampling = assistant, sampling
        self._pool = ThreadPoolExecutor(PARALLEL, "charter-arena")

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        """n replies, when the assistant gives them."""
        return self._pool.submit(self._ask, list(messages), n, seed)

    def _ask(self, messages: list[Message], n: int, seed: int) -> list[Completion]:
        return self._assistant.reply([messages], self._sampling, n, [seed])[0]

    def close(self) -> None:
        """Drops what was not sent yet."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Opening:
    """Opens models and graders, each once however often it is named."""

    def __init__(self, replies: Replies, execution: Execution, folder: Path) -> None:
        self._replies, self._execution, self._folder = replies, execution, folder
        self._models: dict[str, Assistant] = {}
        self._drivers: dict[str, LocalSpeaker] = {}
        self._scores: dict[str, Score] = {}

    def speaker(self, source: Input, showing: Showing) -> Speaker:
        """The speaker of a model as it is shown. Raises CharterError where it can't be opened."""
        assistant = self._models.get(source.id)
        if assistant is None:
            assistant = apart(
                open_assistant, source, self._execution.device, precision=self._execution.precision
            )
            self._models[source.id] = assistant
        score = self._score(showing.grader) if showing.ranks else None
        asked = chosen(own_decoding(assistant), self._replies.temperature, self._replies.top_p, None)
        sampling = sampling_at(asked, self._replies.max_tokens)
        if not isinstance(assistant, LocalAssistant):
            return PooledSpeaker(shown(assistant, showing, score), sampling)
        if source.id not in self._drivers:
            self._drivers[source.id] = LocalSpeaker(assistant, sampling)
        driver = self._drivers[source.id]
        if showing == Showing():
            return driver
        behind = Replying(driver.driven, assistant.capabilities)
        return PooledSpeaker(shown(behind, showing, score, room_of(assistant)), sampling)

    def _score(self, grader: str) -> Score:
        """A grader's scores, one thread at a time."""
        if grader not in self._scores:
            where = self._execution
            score = scores_of(apart(open_grader, grader, self._folder, where.device, where.precision))
            lock = threading.Lock()

            def alone(messages: Sequence[Message], replies: Sequence[str]) -> list[float]:
                with lock:
                    return apart(score, messages, replies)

            self._scores[grader] = alone
        return self._scores[grader]


@dataclass(eq=False, slots=True)
class _Asked:
    """A turn whose two replies are under way."""

    turn: str
    models: tuple[str, str]
    replies: list[Future[list[Completion]]] = field(default_factory=list)


class Answers:
    """Answers turns that wait, from a thread of its own, until it is closed."""

    def __init__(self, database: Database, speakers: Mapping[str, Speaker]) -> None:
        self._database, self._speakers = database, speakers
        self._under_way: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._done: SimpleQueue[_Asked] = SimpleQueue()
        self._nudged, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="charter-answers", daemon=True)

    def start(self) -> None:
        """Begins with the turns that wait already."""
        self._thread.start()

    def nudge(self) -> None:
        """Says that there may be a turn that waits."""
        self._nudged.set()

    def close(self) -> bool:
        """Ends the thread; True where no reply was under way. What was is asked for again at the next start."""
        self._closed.set()
        self._nudged.set()
        if self._thread.is_alive():
            self._thread.join()
        idle = not self._under_way
        for speaker in set(self._speakers.values()) if idle else ():
            speaker.close()
        return idle

    def _run(self) -> None:
        while not self._closed.is_set():
            self._nudged.wait(LOOK_SECONDS)
            self._nudged.clear()
            for what, part in (("stored", self._store), ("looked for", self._look)):
                try:
                    part()
                except Exception as error:  # the database is away, say: looked at again soon
                    LOG.error("replies can't be %s (%s); trying again", what, type(error).__name__)
                    self._closed.wait(LOOK_SECONDS)

    def _look(self) -> None:
        """Asks the models of every turn that waits and isn't under way."""
        with reading(self._database) as connection:
            waiting = waiting_turns(connection)
        for turn, model_a, model_b, seed, messages in waiting:
            if turn not in self._under_way:
                self._under_way.add(turn)
                self._begin(_Asked(turn, (model_a, model_b)), seed, messages)

    def _begin(self, asked: _Asked, seed: int, messages: Sequence[Message]) -> None:
        same = asked.models[0] == asked.models[1]
        for model, side in ((asked.models[0], "a"), *(() if same else ((asked.models[1], "b"),))):
            speaker = self._speakers.get(model)
            if speaker is None:
                asked.replies.append(_failed(CharterError(f"{model} is no longer among the models")))
                continue
            try:
                asked.replies.append(speaker.say(messages, 2 if same else 1, derive_seed(seed, side)))
            except Exception as error:  # a prompt that can't be encoded, say
                asked.replies.append(_failed(error))
        left = [len(asked.replies)]
        lock = threading.Lock()

        def done(_: Future[list[Completion]]) -> None:
            with lock:
                left[0] -= 1
                last = left[0] == 0
            if last:
                self._done.put(asked)
                self._nudged.set()

        for reply in asked.replies:
            reply.add_done_callback(done)

    def _store(self) -> None:
        """Stores whatever is complete: both replies, or why there are none. What can't be stored is kept for later, and
        holds up nothing else."""
        kept: list[_Asked] = []
        problem: Exception | None = None
        while True:
            try:
                asked = self._done.get_nowait()
            except Empty:
                break
            try:
                self._store_one(asked)
            except Exception as error:
                kept.append(asked)
                problem = error
            else:
                self._under_way.discard(asked.turn)
        for asked in kept:
            self._done.put(asked)
        if problem is not None:
            raise problem

    def _store_one(self, asked: _Asked) -> None:
        errors = [error for reply in asked.replies if (error := reply.exception()) is not None]
        if errors:
            self._tries[asked.turn] += 1
            final = isinstance(errors[0], CharterError) or self._tries[asked.turn] >= TRIES
            LOG.warning(
                "no reply of %s (%s)%s",
                " and ".join(dict.fromkeys(asked.models)),
                type(errors[0]).__name__,
                "" if final else "; asking again",
            )
            if not final:
                return
        with writing(self._database) as connection:
            if errors:
                work.fail(connection, asked.turn, str(errors[0]) or type(errors[0]).__name__)
            else:
                first, second = (one.text.strip() for reply in asked.replies for one in reply.result())
                work.deliver(connection, asked.turn, (first, second))
        self._tries.pop(asked.turn, None)


def _failed(error: Exception) -> Future[list[Completion]]:
    found: Future[list[Completion]] = Future()
    found.set_exception(error)
    return found
