"""Steps side by side: several processes of this machine, each of which makes one step at a time.

This process holds the run directory's lock, says which step goes where, and shows progress. A step is made in its
process just as it would be here (`step_runner.py`), so a kill, a failure and a resume leave the same behind. A process
that makes steps is told of them and answers in lines of JSON (`job_process.py`); it ends when this one does.

Of the steps whose parents are done, the one with the longest way to the end of the plan goes first: list scheduling by
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

# Finds its modules where this process does: whatever lies in the working folder, a `random.py` say, is nothing to it.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from charter.runner.job_process import main; main()"
# Seconds for a process to record where its step stopped.
PATIENCE = 20.0

# A process and its line; None if it has ended.
Said = tuple["JobProcess", dict[str, Any] | None]


class JobProcess:
    """One of these processes, seen from here."""

    def __init__(self, order: Order, said: "queue.Queue[Said]", command: Sequence[str]) -> None:
        # the step that it runs
        self.planned: PlannedStep | None = None
        self._said = said
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
        """Hands a step out; the end of it is said later."""
        self.planned = planned
        self._tell(Work.of(planned, place).model_dump_json())

    def show(self, words: dict[str, Any], progress: PacedProgress) -> None:
        """Shows what the process said of its step."""
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
        """Ends the process: one that makes a step first writes down where it stopped."""
        if self.planned is not None:
            self._process.send_signal(signal.SIGTERM)
        else:
            self._hang_up()

    def wait(self) -> int:
        """The exit status, once it has ended."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._hang_up()
            self._listener.join()
            for shown, _ in self._bars.values():
                shown.__exit__(None, None, None)
            self._bars.clear()

    def _tell(self, line: str) -> None:
        # that it has ended is said by `_listen`
        with suppress(BrokenPipeError):
            self._stdin.write(line + "\n")
            self._stdin.flush()

    def _listen(self) -> None:
        # a process that is killed may leave half a line
        with self._stdout, suppress(ValueError):
            for line in self._stdout:
                self._said.put((self, json.loads(line)))
        self._said.put((self, None))

    def _hang_up(self) -> None:
        """Without a standard input the process ends, whatever it is doing."""
        with suppress(BrokenPipeError):
            self._stdin.close()


class Jobs:
    """So many processes, which start when there is a step to make."""

    def __init__(self, size: int, command: Sequence[str] = ()) -> None:
        self.size = size
        self._command = command or (sys.executable, "-P", "-c", _START, json.dumps(sys.path))

    def run(
        self, runner: Runner, chosen: Sequence[PlannedStep], minutes: Mapping[str, float | None]
    ) -> dict[str, str | None]:
        """Brings all steps to their finished artifacts; the first that fails stops the others, whose work is kept.
        Returns the steps that wait for people, with what for, and those that need them, with None."""
        return _Round(self.size, self._command, runner, chosen, chains(chosen, minutes)).run()


class _Round:
    """One run of the steps of a plan."""

    def __init__(
        self,
        size: int,
        command: Sequence[str],
        runner: Runner,
        chosen: Sequence[PlannedStep],
        chain: Mapping[str, float],
    ) -> None:
        self._size, self._command, self._runner = size, command, runner
        self._waiting = list(chosen)
        self._places = {step.name: f"step {n} of {len(chosen)}" for n, step in enumerate(chosen, 1)}
        self._chain = chain
        self._done: set[str] = set()
        self._held: dict[str, str | None] = {}
        self._said: queue.Queue[Said] = queue.Queue()
        self._processes: list[JobProcess] = []

    def run(self) -> dict[str, str | None]:
        try:
            self._hand_out()
            while any(process.planned for process in self._processes):
                process, words = self._said.get()
                self._hear(process, words)
                self._hand_out()
        finally:
            for process in self._processes:
                process.stop()
            for process in self._processes:
                process.wait()
        return self._held

    def _hand_out(self) -> None:
        """Gives steps to make to all processes that have none, as long as there are any."""
        while planned := self._next():
            self._waiting.remove(planned)
            if own_parents(planned) & self._held.keys():
                self._held[planned.name] = None
                self._runner.pace.reused(planned.name)
            elif (standing := self._runner.settle(planned)) is None:
                self._done.add(planned.name)
            else:
                self._runner.begin(planned, standing)
                self._idle().make(planned, self._places[planned.name])

    def _next(self) -> PlannedStep | None:
        """The step to look at next, None where all must wait for a parent or for a process."""
        if sum(process.planned is not None for process in self._processes) == self._size:
            return None
        over = self._done | self._held.keys()
        ready = [step for step in self._waiting if own_parents(step) <= over]
        return max(ready, key=lambda step: self._chain[step.name], default=None)

    def _idle(self) -> JobProcess:
        """A process without a step; it is started if there is none."""
        for process in self._processes:
            if process.planned is None:
                return process
        runner = self._runner
        order = Order(
            recipe=runner.recipe,
            run=runner.directory.path,
            environment=runner.environment,
            cache=runner.cache,
        )
        self._processes.append(JobProcess(order, self._said, self._command))
        return self._processes[-1]

    def _hear(self, process: JobProcess, words: dict[str, Any] | None) -> None:
        """Shows what a process says of its step, and takes its end. Raises CharterError where the step failed."""
        planned = process.planned
        if planned is None:
            # it was ended while it had nothing to do; another takes its place
            self._processes.remove(process)
            process.wait()
            return
        if words is None:
            raise CharterError(f"step {planned.name}: {_lost(process.wait())}")
        if "end" not in words:
            process.show(words, PacedProgress(self._runner.progress, planned.name, self._runner.pace))
            return
        process.planned = None
        end = words["end"]
        if end["waits"]:
            self._held[planned.name] = self._runner.holds(planned, Waiting(end["error"]))
        elif end["error"] is not None:
            raise CharterError(end["error"])
        else:
            self._done.add(planned.name)
            self._runner.pace.finished(planned.name)


def chains(chosen: Sequence[PlannedStep], minutes: Mapping[str, float | None]) -> dict[str, float]:
    """Of each step the minutes from its start to the end of the longest chain of steps that need it. `chosen` is in an
    order in which every step comes after its parents."""
    after = {step.name: 0.0 for step in chosen}
    longest: dict[str, float] = {}
    for step in reversed(chosen):
        longest[step.name] = after[step.name] + (minutes.get(step.name) or 0.0)
        for parent in own_parents(step):
            after[parent] = max(after[parent], longest[step.name])
    return longest


def _lost(status: int) -> str:
    """Why a process that made a step is gone."""
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    reason = "; where memory was short, run fewer --jobs" if status == -signal.SIGKILL else ""
    return f"its process {how}{reason}; what was saved is kept, and the same command goes on with it"
