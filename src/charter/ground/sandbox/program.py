"""Programs: whether written code passes its tests, found in two sandboxes, one for the code and one for the tests.

The code can't forge the outcome: it comes from the examiner's sandbox (`exam`), which runs none of the code.
"""

import json
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from charter.ground.sandbox import exam
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Ended, Ending, Sandbox, run

_BROKEN = {Ending.TIMED_OUT, Ending.OUT_OF_MEMORY, Ending.TOO_MUCH_OUTPUT, Ending.ENVIRONMENT_FAILED}
_SLACK = 5.0  # seconds that the examiner may take longer, so that a slow solution is the one that times out


class Verdict(StrEnum):
    """What became of a program. Only `passed` counts; `environment failed` says nothing about the program."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    TOO_MUCH_OUTPUT = "output over the limit"
    ENVIRONMENT_FAILED = "environment failed"


@dataclass(frozen=True)
class Program:
    """Code and the tests that it must pass. The tests see the names of `prelude`, and `functions` of the
    solution, which they call with plain values (numbers, text, bytes, lists, tuples, sets, dictionaries);
    nothing else of the solution. The solution sees neither prelude nor tests."""

    solution: str
    tests: str
    functions: tuple[str, ...]
    prelude: str = ""


@dataclass(frozen=True)
class Outcome:
    """A verdict, the last line of the error or the reason, and seconds of wall clock."""

    verdict: Verdict
    error: str
    seconds: float


def check_program(sandbox: Sandbox, program: Program, limits: Limits) -> Outcome:
    """Run a solution against its tests; the limits hold for each of the two sandboxes."""
    source = Path(exam.__file__).read_text()
    solution = {"exam.py": source, "solution.py": program.solution}
    tests = {"exam.py": source, "prelude.py": program.prelude, "tests.py": program.tests}
    slower = limits.model_copy(update={"seconds": limits.seconds + _SLACK})
    finished = threading.Event()
    near, far = socket.socketpair()

    def play(end: socket.socket, side: Sequence[str], files: dict[str, str], bounds: Limits) -> Ended:
        command = [sandbox.view.python, "-s", "-S", "-P", "exam.py", side[0], str(end.fileno()), *side[1:]]
        with end:  # closed here too when the sandbox is gone, so that the other side sees it
            return run(sandbox, command, files, bounds, end.fileno(), finished)

    with ThreadPoolExecutor(1) as aside:
        candidate = aside.submit(play, far, ["candidate"], solution, limits)
        try:
            examiner = play(near, ["examiner", *program.functions], tests, slower)
        finally:
            finished.set()
    return _outcome(candidate.result(), examiner)


def check_all(sandbox: Sandbox, programs: Sequence[Program], limits: Limits, workers: int) -> Iterator[Outcome]:
    """The outcomes of many programs, in their order, `workers` at a time (each takes two processes)."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda program: check_program(sandbox, program, limits), programs)


def _outcome(candidate: Ended, examiner: Ended) -> Outcome:
    try:
        result = json.loads(examiner.stdout)
    except ValueError:
        last = (examiner.stderr.strip().splitlines() or ["no reason given"])[-1]
        result = {"passed": False, "error": f"the tests ended without a verdict: {last}"}
    verdict, error = Verdict.FAILED, str(result["error"])
    broken = [side for side in (candidate, examiner) if side.how in _BROKEN]
    broken.sort(key=lambda side: side.how is not Ending.ENVIRONMENT_FAILED)
    if result["passed"]:
        verdict = Verdict.PASSED
    elif broken:
        verdict, error = Verdict(broken[0].how.value), broken[0].reason or broken[0].how.value
    elif error.startswith("MemoryError"):
        verdict = Verdict.OUT_OF_MEMORY
    elif error == exam.TOO_LONG:
        verdict = Verdict.TOO_MUCH_OUTPUT
    elif candidate.how is Ending.KILLED and error == exam.ENDED:
        error = f"the program was killed by {signal.Signals(candidate.code).name}"
    return Outcome(verdict, error, candidate.seconds)
