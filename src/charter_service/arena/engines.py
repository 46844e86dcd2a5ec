"""The unnamed models' replies: finds waiting turns in the database and answers them in the background.

One thread drives each checkpoint, so that all waiting turns are sampled together; a bounded pool asks servers. Both
replies of a turn are stored at once. All state is in the database: after a kill, the waiting turns are found again and
answered with the same seeds.
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
from charter.ground.generate.engine_loop import Driver, Job
from charter.ground.generate.fair import apart
from charter.ground.generate.sampling import Sampling, sampling_at
from charter.ground.judge.best_of_n import (
    FunctionAssistant,
    Score,
    apply_strategy,
    context_check,
    open_grader,
    scores_of,
)
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.model.generation import choose_decoding
from charter.ground.settings.execution import Execution
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Message, Prompt
from charter_service.arena.config import Replies
from charter_service.people import work
from charter_service.people.conversations import waiting_turns
from charter_service.web.database import reading, writing

LOG = logging.getLogger("charter_service.arena")
PARALLEL = 8  # simultaneous requests to one server
TRIES = 3
LOOK_SECONDS = 2.0  # seconds between looks for turns, if no request comes earlier


class Speaker(Protocol):
    """A model that replies in the background."""

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        """n replies, each sampled on its own; the future raises errors."""
        ...

    def close(self) -> None:
        """Accepts no more requests."""
        ...


class LocalSpeaker:
    """A plain checkpoint on this machine behind a driver, which samples all waiting requests together."""

    def __init__(self, assistant: LocalAssistant, sampling: Sampling) -> None:
        self._assistant, self._sampling = assistant, sampling
        self._driver = Driver(assistant.engine)

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        """n replies, when the driver has them."""
        return self._driver.ask(Job(self._assistant.encode(messages), self._sampling, n, seed))

    def driven(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int, seeds: Sequence[int] | None
    ) -> list[list[Completion]]:
        """The same as an assistant's `reply`, through the driver."""
        all_seeds = list(seeds) if seeds is not None else list(range(len(prompts)))
        futures = [
            self._driver.ask(Job(self._assistant.encode(prompt), sampling, n, seed))
            for prompt, seed in zip(prompts, all_seeds, strict=True)
        ]
        return [answer.result() for answer in futures]

    def close(self) -> None:
        """Ends the driver's thread after it has answered its requests."""
        self._driver.close()


class PooledSpeaker:
    """An assistant called by a few threads: a server, or a checkpoint shown in another mode."""

    def __init__(self, assistant: Assistant, sampling: Sampling) -> None:
        self._assistant, self._sampling = assistant, sampling
        self._pool = ThreadPoolExecutor(PARALLEL, "charter-arena")

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        """n replies, when the assistant gives them."""
        return self._pool.submit(self._ask, list(messages), n, seed)

    def _ask(self, messages: list[Message], n: int, seed: int) -> list[Completion]:
        return self._assistant.reply([messages], self._sampling, n, [seed])[0]

    def close(self) -> None:
        """Drops requests that were not sent yet."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Opening:
    """Opens models and graders, each only once."""

    def __init__(self, replies: Replies, execution: Execution, folder: Path) -> None:
        self._replies, self._execution, self._folder = replies, execution, folder
        self._models: dict[str, Assistant] = {}
        self._drivers: dict[str, LocalSpeaker] = {}
        self._scores: dict[str, Score] = {}

    def speaker(self, source: Input, showing: SamplingStrategy) -> Speaker:
        """The speaker of a model in its mode. Raises CharterError if it can't be opened."""
        assistant = self._models.get(source.id)
        if assistant is None:
            assistant = apart(open_assistant, source, self._execution.device, precision=self._execution.precision)
            self._models[source.id] = assistant
        score = self._score(showing.grader) if showing.ranks else None
        decoding = choose_decoding(own_decoding(assistant), self._replies.temperature, self._replies.top_p, None)
        sampling = sampling_at(decoding, self._replies.max_tokens)
        if not isinstance(assistant, LocalAssistant):
            return PooledSpeaker(apply_strategy(assistant, showing, score), sampling)
        if source.id not in self._drivers:
            self._drivers[source.id] = LocalSpeaker(assistant, sampling)
        driver = self._drivers[source.id]
        if showing == SamplingStrategy():
            return driver
        behind = FunctionAssistant(driver.driven, assistant.capabilities)
        return PooledSpeaker(apply_strategy(behind, showing, score, context_check(assistant)), sampling)

    def _score(self, grader: str) -> Score:
        """A grader's scores, one thread at a time."""
        if grader not in self._scores:
            execution = self._execution
            score = scores_of(apart(open_grader, grader, self._folder, execution.device, execution.precision))
            lock = threading.Lock()

            def alone(messages: Sequence[Message], replies: Sequence[str]) -> list[float]:
                with lock:
                    return apart(score, messages, replies)

            self._scores[grader] = alone
        return self._scores[grader]


@dataclass(eq=False, slots=True)
class _TurnRequest:
    """A turn whose two replies are being sampled."""

    turn: str
    models: tuple[str, str]
    replies: list[Future[list[Completion]]] = field(default_factory=list)


class Answers:
    """Answers waiting turns in its own thread, until it is closed."""

    def __init__(self, database: Database, speakers: Mapping[str, Speaker]) -> None:
        self._database, self._speakers = database, speakers
        self._under_way: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._done: SimpleQueue[_TurnRequest] = SimpleQueue()
        self._nudged, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="charter-answers", daemon=True)

    def start(self) -> None:
        """Starts the thread, which first answers the turns already waiting."""
        self._thread.start()

    def nudge(self) -> None:
        """Wakes the thread: there may be a waiting turn."""
        self._nudged.set()

    def close(self) -> bool:
        """Ends the thread; True if no reply was being sampled. Unfinished ones are sampled again at the next start."""
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
            for act, part in (("stored", self._store), ("looked for", self._look)):
                try:
                    part()
                except Exception as error:  # for example, the database is away: try again soon
                    LOG.error("replies can't be %s (%s); trying again", act, type(error).__name__)
                    self._closed.wait(LOOK_SECONDS)

    def _look(self) -> None:
        """Asks the models of every waiting turn that isn't being answered."""
        with reading(self._database) as connection:
            waiting = waiting_turns(connection)
        for turn, model_a, model_b, seed, messages in waiting:
            if turn not in self._under_way:
                self._under_way.add(turn)
                self._begin(_TurnRequest(turn, (model_a, model_b)), seed, messages)

    def _begin(self, request: _TurnRequest, seed: int, messages: Sequence[Message]) -> None:
        same = request.models[0] == request.models[1]
        for model, side in ((request.models[0], "a"), *(() if same else ((request.models[1], "b"),))):
            speaker = self._speakers.get(model)
            if speaker is None:
                request.replies.append(_failed(CharterError(f"{model} is no longer among the models")))
                continue
            try:
                request.replies.append(speaker.say(messages, 2 if same else 1, derive_seed(seed, side)))
            except Exception as error:  # for example, a prompt that can't be encoded
                request.replies.append(_failed(error))
        waiting = [len(request.replies)]
        lock = threading.Lock()

        def done(_: Future[list[Completion]]) -> None:
            with lock:
                waiting[0] -= 1
                last = waiting[0] == 0
            if last:
                self._done.put(request)
                self._nudged.set()

        for reply in request.replies:
            reply.add_done_callback(done)

    def _store(self) -> None:
        """Stores whatever is complete: both replies, or the error. Turns that can't be stored stay for later and don't
        block the others."""
        unstored: list[_TurnRequest] = []
        problem: Exception | None = None
        while True:
            try:
                request = self._done.get_nowait()
            except Empty:
                break
            try:
                self._store_one(request)
            except Exception as error:
                unstored.append(request)
                problem = error
            else:
                self._under_way.discard(request.turn)
        for request in unstored:
            self._done.put(request)
        if problem is not None:
            raise problem

    def _store_one(self, request: _TurnRequest) -> None:
        errors = [error for reply in request.replies if (error := reply.exception()) is not None]
        if errors:
            self._tries[request.turn] += 1
            final = isinstance(errors[0], CharterError) or self._tries[request.turn] >= TRIES
            LOG.warning(
                "no reply of %s (%s)%s",
                " and ".join(dict.fromkeys(request.models)),
                type(errors[0]).__name__,
                "" if final else "; asking again",
            )
            if not final:
                return
        with writing(self._database) as connection:
            if errors:
                work.fail(connection, request.turn, str(errors[0]) or type(errors[0]).__name__)
            else:
                first, second = (sample.text.strip() for reply in request.replies for sample in reply.result())
                work.deliver(connection, request.turn, (first, second))
        self._tries.pop(request.turn, None)


def _failed(error: Exception) -> Future[list[Completion]]:
    reply: Future[list[Completion]] = Future()
    reply.set_exception(error)
    return reply
