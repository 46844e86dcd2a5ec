"""A process that runs steps, one at a time.

It reads lines of JSON: an `Order`, then a `Work` for each step. It answers in lines of JSON: its progress, then `end`
with the error, if any. It ends when its standard input does, even during a step: nobody waits for it then.
"""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import Environment, External, Parent
from charter.ground.artifact.progress import Bar
from charter.ground.settings.environment import difference, environment_of
from charter.ground.settings.execution import Execution
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.problems import validate
from charter.ground.settings.recipe import Step
from charter.runner.directory import RunDirectory
from charter.runner.identity import SOURCES_EDITED, step_id
from charter.runner.pace import Pace
from charter.runner.plan import PlannedStep
from charter.runner.rooms import open_room
from charter.runner.step_runner import Runner, disk_errors


class Order(Frozen):
    """What all steps have in common."""

    recipe: str
    run: Path
    environment: Environment
    cache: Path | None
    command: str = ""


class Work(Frozen):
    """A planned step, and its place among all ("step 3 of 20")."""

    step: Step
    resolved: dict[str, Any]
    inputs: tuple[Input, ...]
    parents: tuple[Parent, ...]
    external: tuple[External, ...]
    seed: int
    id: str
    place: str

    @classmethod
    def of(cls, planned: PlannedStep, place: str) -> Self:
        """What a process needs to know of a step."""
        return cls(
            step=planned.step,
            resolved=planned.resolved,
            inputs=planned.inputs,
            parents=planned.parents,
            external=planned.external,
            seed=planned.seed,
            id=planned.id,
            place=place,
        )

    def restore(self, execution: Execution) -> PlannedStep:
        """The planned step. Raises CharterError if this process has other sources."""
        room = open_room(self.step.room)
        settings = validate(room.settings, self.resolved, f"step {self.step.name} (room {room.name})")
        if step_id(room, self.resolved, self.inputs, self.seed, execution) != self.id:
            raise CharterError(f"{self.step.name}: {SOURCES_EDITED}")
        return PlannedStep(
            step=self.step,
            room=room,
            settings=settings,
            resolved=self.resolved,
            inputs=self.inputs,
            parents=self.parents,
            external=self.external,
            seed=self.seed,
            id=self.id,
        )


class SpokenProgress:
    """Progress as lines of JSON."""

    def __init__(self, lines: TextIO) -> None:
        self._lines, self._bars = lines, 0

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """A bar that the leading process shows."""
        return self._bar(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Bar]:
        self._bars += 1
        number = self._bars
        self.say(open=number, text=description, total=total, done=done)
        try:
            yield _SpokenBar(self, number)
        finally:
            self.say(close=number)

    def note(self, text: str) -> None:
        """One line."""
        self.say(note=text)

    def say(self, **words: object) -> None:
        """One line of JSON."""
        self._lines.write(json.dumps(words, default=str) + "\n")
        self._lines.flush()


class _SpokenBar:
    def __init__(self, progress: SpokenProgress, number: int) -> None:
        self._progress, self._number = progress, number

    def advance(self, n: int = 1, **labels: object) -> None:
        """Adds n."""
        self._progress.say(advance=self._number, n=n, shown=labels)


def main() -> None:
    """Runs steps until there are no more."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # so that no library's prints reach the leading process
    os.dup2(2, 1)
    # Ctrl-C reaches both processes; the leading one passes it on
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    inbox: queue.Queue[str] = queue.Queue()
    order = Order.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_listen, args=(inbox,), daemon=True).start()
    progress = SpokenProgress(lines)
    directory = RunDirectory(order.run)
    runner = Runner(
        order.recipe, directory, order.environment, progress, Pace({}), order.cache, command=order.command
    )
    try:
        while True:
            work = Work.model_validate_json(inbox.get())
            progress.say(end=_make(runner, work))
    except KeyboardInterrupt:
        os._exit(130)


def _listen(inbox: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        inbox.put(line)
    os._exit(0)


def _make(runner: Runner, work: Work) -> dict[str, object]:
    """Runs one step. Returns how it ended: `error`, null or one line, and whether it `waits` for people."""
    environment = runner.environment
    execution = Execution(environment.device, environment.precision)
    try:
        if (mismatch := difference(environment, environment_of(execution))) is not None:
            raise CharterError(f"{mismatch.what}: {mismatch.made} became {mismatch.here}; {mismatch.remedy}")
        with disk_errors(runner.directory.path):
            planned = work.restore(execution)
            runner.make(planned, runner.look(planned), work.place)
    except CharterError as error:
        return {"error": str(error), "waits": isinstance(error, Waiting)}
    return {"error": None, "waits": False}
