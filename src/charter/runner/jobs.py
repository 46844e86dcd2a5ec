"""Steps in parallel: several processes of this machine, each of which runs one step at a time.

This process holds the run directory's lock, assigns steps to processes, and shows progress. A process (`main`) runs its
step just as this one would (`step_runner.py`), so a kill, a failure and a resume leave the same files. It reads lines
of JSON: an `Order`, then a `Work` for each step. It answers in lines of JSON: its progress, then `end` with the error,
if any. It ends when its standard input does, even during a step: nobody waits for it then.

Of the steps whose parents are done, the one with the longest path to the end of the plan goes first: list scheduling by
critical path (Graham 1969, "Bounds on Multiprocessing Timing Anomalies").
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
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
from charter.runner.pace import Pace, PacedProgress
from charter.runner.plan import PlannedStep, own_parents
from charter.runner.rooms import open_room
from charter.runner.step_runner import Runner, disk_errors

# It imports modules from the same folders as this process, and none from the working folder, such as a `random.py`.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from charter.runner.jobs import main; main()"
# Seconds for a process to record where its step stopped.
PATIENCE = 20.0
# A process and its line; None if it has ended.
Message = tuple["JobProcess", dict[str, Any] | None]


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
    runner = Runner(order.recipe, directory, order.environment, progress, Pace({}), order.cache, command=order.command)
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


class JobProcess:
    """One of these processes, as this one sees it."""

    def __init__(self, order: Order, messages: "queue.Queue[Message]", command: Sequence[str]) -> None:
        # the step that it runs
        self.planned: PlannedStep | None = None
        self._messages = messages
        self._bars: dict[int, tuple[AbstractContextManager[Bar], Bar]] = {}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._tell(order.model_dump_json())
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def make(self, planned: PlannedStep, place: str) -> None:
        """Sends a step to the process; its end comes as a message."""
        self.planned = planned
        self._tell(Work.of(planned, place).model_dump_json())

    def show(self, words: dict[str, Any], progress: PacedProgress) -> None:
        """Shows a message on the progress of the step."""
        if "note" in words:
            progress.note(words["note"])
        elif "open" in words:
            bar = progress.bar(words["text"], words["total"], words["done"])
            self._bars[words["open"]] = bar, bar.__enter__()
        elif "advance" in words:
            self._bars[words["advance"]][1].advance(words["n"], **words["shown"])
        elif "close" in words:
            self._bars.pop(words["close"])[0].__exit__(None, None, None)

    def stop(self) -> None:
        """Ends the process; during a step it first records where it stopped."""
        if self.planned is not None:
            self._process.send_signal(signal.SIGTERM)
        else:
            self._hang_up()

    def wait(self) -> int:
        """Waits for the end; returns the exit status."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._hang_up()
            self._listener.join()
            for bar, _ in self._bars.values():
                bar.__exit__(None, None, None)
            self._bars.clear()

    def _tell(self, line: str) -> None:
        # `_listen` reports the end of the process
        with suppress(BrokenPipeError):
            self._stdin.write(line + "\n")
            self._stdin.flush()

    def _listen(self) -> None:
        # a killed process may leave half a line
        with self._stdout, suppress(ValueError):
            for line in self._stdout:
                self._messages.put((self, json.loads(line)))
        self._messages.put((self, None))

    def _hang_up(self) -> None:
        """Closes the process's standard input; the process then ends, even during a step."""
        with suppress(BrokenPipeError):
            self._stdin.close()


class Jobs:
    """Up to `size` processes, which start when there is a step to run."""

    def __init__(self, size: int, command: Sequence[str] = ()) -> None:
        self.size = size
        self._command = command or (sys.executable, "-P", "-c", _START, json.dumps(sys.path))

    def run(
        self, runner: Runner, steps: Sequence[PlannedStep], minutes: Mapping[str, float | None]
    ) -> dict[str, str | None]:
        """Runs all steps; the first that fails stops the others, whose work is kept. Returns the steps that wait for
        people with what they wait for, and the steps that need them with None."""
        return _Round(self.size, self._command, runner, steps, chains(steps, minutes)).run()


class _Round:
    """One run of the steps of a plan."""

    def __init__(
        self,
        size: int,
        command: Sequence[str],
        runner: Runner,
        steps: Sequence[PlannedStep],
        chain: Mapping[str, float],
    ) -> None:
        self._size, self._command, self._runner = size, command, runner
        self._waiting = list(steps)
        self._places = {step.name: f"step {n} of {len(steps)}" for n, step in enumerate(steps, 1)}
        self._chain = chain
        self._done: set[str] = set()
        self._blocked: dict[str, str | None] = {}
        self._messages: queue.Queue[Message] = queue.Queue()
        self._processes: list[JobProcess] = []

    def run(self) -> dict[str, str | None]:
        try:
            self._hand_out()
            while any(process.planned for process in self._processes):
                process, words = self._messages.get()
                self._hear(process, words)
                self._hand_out()
        finally:
            for process in self._processes:
                process.stop()
            for process in self._processes:
                process.wait()
        return self._blocked

    def _hand_out(self) -> None:
        """Gives a step to every idle process, as long as steps are ready."""
        while planned := self._next():
            self._waiting.remove(planned)
            if own_parents(planned) & self._blocked.keys():
                self._blocked[planned.name] = None
                self._runner.pace.skip(planned.name)
            elif (standing := self._runner.settle(planned)) is None:
                self._done.add(planned.name)
            else:
                self._runner.begin(planned, standing)
                self._idle().make(planned, self._places[planned.name])

    def _next(self) -> PlannedStep | None:
        """The step to look at next, None if all must wait for a parent or for a process."""
        if sum(process.planned is not None for process in self._processes) == self._size:
            return None
        over = self._done | self._blocked.keys()
        ready = [step for step in self._waiting if own_parents(step) <= over]
        return max(ready, key=lambda step: self._chain[step.name], default=None)

    def _idle(self) -> JobProcess:
        """A process without a step; starts one if there is none."""
        for process in self._processes:
            if process.planned is None:
                return process
        runner = self._runner
        order = Order(
            recipe=runner.recipe,
            run=runner.directory.path,
            environment=runner.environment,
            cache=runner.cache,
            command=runner.command,
        )
        self._processes.append(JobProcess(order, self._messages, self._command))
        return self._processes[-1]

    def _hear(self, process: JobProcess, words: dict[str, Any] | None) -> None:
        """Shows a process's message or handles the end of its step. Raises CharterError if the step failed."""
        planned = process.planned
        if planned is None:
            # something ended it while it was idle; another will replace it
            self._processes.remove(process)
            process.wait()
            return
        if words is None:
            raise CharterError(f"step {planned.name}: {_explain_loss(process.wait())}")
        if "end" not in words:
            process.show(words, PacedProgress(self._runner.progress, planned.name, self._runner.pace))
            return
        process.planned = None
        end = words["end"]
        if end["waits"]:
            self._blocked[planned.name] = self._runner.hold(planned, Waiting(end["error"]))
        elif end["error"] is not None:
            raise CharterError(end["error"])
        else:
            self._done.add(planned.name)
            self._runner.pace.finish(planned.name)


def chains(steps: Sequence[PlannedStep], minutes: Mapping[str, float | None]) -> dict[str, float]:
    """For each step, the minutes from its start to the end of the longest chain of steps that need it. In `steps` every
    step comes after its parents."""
    after = {step.name: 0.0 for step in steps}
    longest: dict[str, float] = {}
    for step in reversed(steps):
        longest[step.name] = after[step.name] + (minutes.get(step.name) or 0.0)
        for parent in own_parents(step):
            after[parent] = max(after[parent], longest[step.name])
    return longest


def _explain_loss(status: int) -> str:
    """Why a process that ran a step is gone."""
    end = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    reason = "; if memory was short, run fewer --jobs" if status == -signal.SIGKILL else ""
    return f"its process {end}{reason}; saved work is kept, and the same command resumes it"
