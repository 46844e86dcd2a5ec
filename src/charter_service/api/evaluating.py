"""Runs `charter eval` as a process of its own beside the server, at the lowest priority, one at a time.

The process belongs to the server: it ends with it, and what a killed server left behind is ended by the next one. Such
an evaluation is `interrupted`; resumed, it goes on where it was.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.evaluations import Evaluation, NewEvaluation, State, begin, end, note_pid, resume, running
from charter_service.web.database import writing
from charter_service.web.refusal import Stale

LOGS = ".evaluations"  # below the folder of runs
GRACE = 10.0  # seconds that a process may take to stop
TAIL = 16_384  # bytes of a log that a page shows
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
LOG = logging.getLogger("charter_service.api")
Command = Callable[[Evaluation, str, Path], Sequence[str]]
Note = Callable[[Connection, Evaluation], None]


def _nothing(connection: Connection, evaluation: Evaluation) -> None:
    """Notes nothing."""


def eval_command(evaluation: Evaluation, source: str, folder: Path) -> list[str]:
    """The command line of an evaluation of a model by its source."""
    nice = ["nice", "-n", "19"] if shutil.which("nice") else []
    limit = ["--limit", str(evaluation.questions), "--out", str(folder / evaluation.run)]
    tasks = ["--tasks", evaluation.tasks] if evaluation.tasks else []
    return [*nice, sys.executable, "-m", "charter", "eval", source, *tasks, *limit]


class Evaluating:
    """The evaluations of one server. `folder`: of the runs."""

    def __init__(self, engine: Engine, folder: Path, command: Command = eval_command) -> None:
        """Ends what an earlier server left behind."""
        self._engine, self.folder, self._command = engine, folder, command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._now, self._stopping, self._closing = "", "", False
        self._watch: threading.Thread | None = None
        with writing(engine) as connection:
            for evaluation in running(connection):
                self._end_left(evaluation)
                end(connection, evaluation.id, "interrupted")

    def start(self, source: str, new: NewEvaluation, note: Note = _nothing) -> Evaluation:
        """Starts an evaluation of the model at a source; `note` runs in the transaction that begins it. Raises Refusal,
        409, if another one runs, and CharterError if it can't be started."""
        day = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", new.model).strip("-.")[:80] or "model"
        return self._begin(source, lambda connection: begin(connection, new, f"eval-{name}-{day}"), note)

    def resume(self, id: str, source: str, note: Note = _nothing) -> Evaluation:
        """Resumes an evaluation that failed, was stopped or interrupted. Raises as `evaluations.resume`."""
        return self._begin(source, lambda connection: resume(connection, id), note)

    def stop(self, id: str) -> None:
        """Stops the running evaluation, and returns when it has ended. Raises Stale if it doesn't run."""
        with self._lock:
            process, watch = self._process, self._watch
            if process is None or self._now != id or watch is None:
                raise Stale("this evaluation doesn't run any more; reload the page")
            self._stopping = id
        _kill(process)
        watch.join()

    def close(self) -> None:
        """Ends the running evaluation, which is then interrupted."""
        with self._lock:
            self._closing = True
            process, watch = self._process, self._watch
        if process is not None and watch is not None:
            _kill(process)
            watch.join()

    def log(self, evaluation: Evaluation) -> str:
        """The end of an evaluation's log, without control characters; "" if there is none."""
        try:
            with self._log_file(evaluation).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return _CONTROL.sub("", text.replace("\r", "\n"))

    def _begin(self, source: str, work: Callable[[Connection], Evaluation], note: Note) -> Evaluation:
        with self._lock:
            if self._closing:
                raise CharterError("the server is stopping; start the evaluation when it runs again")
            with writing(self._engine) as connection:
                evaluation = work(connection)
                note(connection, evaluation)
            try:
                process = self._open(evaluation, source)
            except OSError as error:
                with writing(self._engine) as connection:
                    end(connection, evaluation.id, "failed")
                raise CharterError(f"the evaluation can't be started: {error.strerror or error}") from None
            self._process, self._now, self._stopping = process, evaluation.id, ""
            self._watch = threading.Thread(
                target=self._wait, args=(evaluation, process), name="evaluation", daemon=True
            )
            self._watch.start()
            with writing(self._engine) as connection:
                note_pid(connection, evaluation.id, process.pid)
        return evaluation

    def _open(self, evaluation: Evaluation, source: str) -> subprocess.Popen[bytes]:
        log = self._log_file(evaluation)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("ab") as file:
            return subprocess.Popen(
                list(self._command(evaluation, source, self.folder)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def _wait(self, evaluation: Evaluation, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        state: State = "finished" if code == 0 else "failed"
        if code != 0 and self._stopping == evaluation.id:
            state = "stopped"
        elif code != 0 and self._closing:
            state = "interrupted"
        with self._lock:
            self._process, self._now, self._watch = None, "", None
        try:
            with writing(self._engine) as connection:
                end(connection, evaluation.id, state)
        except (SQLAlchemyError, CharterError) as error:  # the next start of the server notes it as interrupted
            LOG.warning("the end of an evaluation can't be written: %s", type(error).__name__)

    def _log_file(self, evaluation: Evaluation) -> Path:
        return self.folder / LOGS / f"{evaluation.run}.log"

    def _end_left(self, evaluation: Evaluation) -> None:
        """Ends the process that a killed server left, if its command line says that it is the one."""
        if evaluation.pid is None:
            return
        with suppress(OSError):
            words = Path(f"/proc/{evaluation.pid}/cmdline").read_bytes().split(b"\0")
            if str(self.folder / evaluation.run).encode() in words:
                os.killpg(evaluation.pid, signal.SIGKILL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its children: asks first, and then doesn't ask."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
