"""Steps in parallel: several processes of this machine, each of which runs one step at a time.

This process holds the run directory's lock, assigns steps to processes, and shows progress. A process runs its step
just as this one would (`step_runner.py`), so a kill, a failure and a resume leave the same files. It receives steps and
answers in lines of JSON (`job_process.py`); it ends when this process does.

Of the steps whose parents are done, the one with the longest path to the end of the plan goes first: list scheduling by
critical path (Graham 1969, "Bounds on Multiprocessing Timing Anomalies").
"""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.progress import Bar
from charter.runner.job_process import Order, Work
from charter.runner.pace import PacedProgress
from charter.runner.plan import PlannedStep, own_parents
from charter.runner.step_runner import Runner

# It imports modules from the same folders as this process, and none from the working folder, such as a `random.py`.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from charter.runner.job_process import main; main()"
# Seconds for a process to record where its step stopped.
PATIENCE = 20.0

# A process and its line; None if it has ended.
Message = tuple["JobProcess", dict[str, Any] | None]


class JobProcess:
    """One of these processes, as this one sees it."""

    def __init__(self, order: Order, messages: "queue.Queue[Message]", command: Sequence[str]) -> None:
        # the step that it runs
        self.planned: PlannedStep | None = None
        self._messages = messages
        self._bars: dict[int, tuple[AbstractContextManager[Bar], Bar]] = {}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
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
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    reason = "; if memory was short, run fewer --jobs" if status == -signal.SIGKILL else ""
    return f"its process {how}{reason}; saved work is kept, and the same command resumes it"
