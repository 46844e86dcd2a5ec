"""One thread owns the engine; callers in any other ask for samples and wait for a future.

Whatever has been asked is stepped together, so that requests which come one by one still fill the slots.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.sampling import Sampling


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """n samples of a prompt that somebody waits for, and those that are done."""

    prompt: Sequence[int]
    sampling: Sampling
    n: int
    seed: int
    answer: Future[list[Completion]] = field(default_factory=Future)
    found: dict[int, Completion] = field(default_factory=dict)


class Driver:
    """Steps an engine in a thread of its own for as long as something is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inbox: SimpleQueue[_Asked | None] = SimpleQueue()
        self._waiting: dict[int, _Asked] = {}
        self._thread = threading.Thread(target=self._run, name="charter-engine", daemon=True)
        self._thread.start()

    def ask(self, prompt: Sequence[int], sampling: Sampling, n: int, seed: int) -> Future[list[Completion]]:
        """n completions of a prompt; the future raises CharterError for one that is empty or too long."""
        asked = _Asked(prompt, sampling, n, seed)
        self._inbox.put(asked)
        return asked.answer

    def close(self) -> None:
        """Ends the thread once all that was asked is answered; nothing may be asked afterwards."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._take() or self._waiting:
            try:
                self._step()
            except Exception as error:  # whoever waits must hear of it, whatever it is
                for number, asked in self._waiting.items():
                    self._engine.cancel(number)
                    asked.answer.set_exception(error)
                self._waiting.clear()

    def _take(self) -> bool:
        """Submits all that has come in, waiting for something where nothing runs; False once it is closed."""
        while not self._waiting or not self._inbox.empty():
            asked = self._inbox.get()
            if asked is None:
                self._inbox.put(None)  # stays at the end, for the next look
                return False
            try:
                number = self._engine.submit(asked.prompt, asked.sampling, asked.n, asked.seed)
                self._waiting[number] = asked
            except CharterError as error:
                asked.answer.set_exception(error)
        return True

    def _step(self) -> None:
        for event in self._engine.step():
            if event.done:
                asked = self._waiting[event.request]
                asked.found[event.sample] = event.completion
                if len(asked.found) == asked.n:
                    del self._waiting[event.request]
                    asked.answer.set_result([asked.found[k] for k in range(asked.n)])
