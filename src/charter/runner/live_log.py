"""Live curves of a run: what its steps log goes to CSV files, TensorBoard or Weights & Biases while they learn.

One thread reads the new lines of each step's log.jsonl, wherever the step runs: in this process, in another, or on
another machine. So rooms know nothing of it, and an artifact's id and bytes are the same with and without.
"""

import csv
import importlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import LOG
from charter.runner.directory import RunDirectory
from charter.runner.plan import PlannedStep

# seconds between two looks at the logs
EVERY = 2.0
# what stands beside a run's folder: no sweep of the run removes it
BESIDE = ".logs"


class Target(StrEnum):
    """Where curves go."""

    csv = "csv"
    tensorboard = "tensorboard"
    wandb = "wandb"


class CurveWriter(Protocol):
    """Takes the numbers of one line of a step's log."""

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """`name`: of the recipe's step; `step`: of its learning."""
        ...

    def close(self) -> None:
        """Nothing comes after this."""
        ...


class CsvWriter:
    """A file for each step: RUN.logs/csv/STEP.csv with the columns step, metric and value."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun: set[str] = set()

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """One row for each value; the first line of a step starts its file anew."""
        self._folder.mkdir(parents=True, exist_ok=True)
        first = name not in self._begun
        with (self._folder / f"{name}.csv").open("w" if first else "a", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            if first:
                rows.writerow(("step", "metric", "value"))
            rows.writerows((step, metric, value) for metric, value in values.items())
        self._begun.add(name)

    def close(self) -> None:
        """Every file is closed already."""


class TensorBoardWriter:
    """An event file for each step below RUN.logs/tensorboard: `tensorboard --logdir` shows them side by side."""

    def __init__(self, folder: Path) -> None:
        self._module = _package("torch.utils.tensorboard", "tensorboard")
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Scalars by the names of the log."""
        if name not in self._writers:
            self._writers[name] = self._module.SummaryWriter(log_dir=str(self._folder / name))
        writer = self._writers[name]
        for metric, value in values.items():
            writer.add_scalar(metric, value, step)
        writer.flush()

    def close(self) -> None:
        """Closes all event files."""
        for writer in self._writers.values():
            writer.close()


class WandbWriter:
    """One run of Weights & Biases; each step's metrics have their own axis. Numbers alone are sent, no texts."""

    def __init__(self, folder: Path, run: str) -> None:
        module = _package("wandb", "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = module.init(project="charter", name=run, dir=str(folder))
        self._known: set[str] = set()

    def write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """The values as `NAME/METRIC` over `NAME/step`."""
        if name not in self._known:
            self._run.define_metric(f"{name}/step")
            self._run.define_metric(f"{name}/*", step_metric=f"{name}/step")
            self._known.add(name)
        self._run.log({f"{name}/step": step, **{f"{name}/{metric}": value for metric, value in values.items()}})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def open_writer(target: Target, run: Path) -> CurveWriter:
    """The writer of a run's curves. Raises CharterError if a package is missing."""
    folder = run.with_name(run.name + BESIDE) / target
    if target is Target.csv:
        return CsvWriter(folder)
    return TensorBoardWriter(folder) if target is Target.tensorboard else WandbWriter(folder, run.name)


@contextmanager
def follow_logs(
    run: Path, steps: Sequence[PlannedStep], writer: CurveWriter | None, note: Callable[[str], None]
) -> Iterator[None]:
    """While it is open, what the steps of a run log goes to the writer; the last lines when it closes. Steps that were
    done before are left out. If the writer fails, `note` says so, and the run goes on."""
    if writer is None:
        yield
        return
    follower = _Follower(RunDirectory(run), steps, writer, note)
    follower.start()
    try:
        yield
    finally:
        follower.end()


class _Follower:
    def __init__(
        self, directory: RunDirectory, steps: Sequence[PlannedStep], writer: CurveWriter, note: Callable[[str], None]
    ) -> None:
        self._directory, self._writer, self._note = directory, writer, note
        self._ids = {step.name: step.id for step in steps if not self._is_done(step.name, step.id)}
        self._sent = dict.fromkeys(self._ids, 0)
        self._over, self._failed = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._guard(self._send)
        self._guard(self._writer.close)

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self._guard(self._send)

    def _guard(self, work: Callable[[], None]) -> None:
        """Other people's packages may fail in any way, and curves are not worth a run."""
        if self._failed:
            return
        try:
            work()
        except Exception as error:
            self._failed = True
            self._note(f"live curves stopped ({type(error).__name__}: {error}); the run goes on")

    def _send(self) -> None:
        """Sends the new lines of all logs. A resume cuts a log and writes equal lines again: they are counted, not
        compared."""
        for name, identity in list(self._ids.items()):
            is_done = self._is_done(name, identity)
            for number, row in enumerate(self._rows(name, identity, is_done)):
                if number >= self._sent[name]:
                    step = row.get("step", number)
                    self._writer.write(name, int(step) if _is_number(step) else number, _numbers(row))
                    self._sent[name] = number + 1
            if is_done:
                del self._ids[name]

    def _rows(self, name: str, identity: str, is_done: bool) -> list[dict[str, Any]]:
        partial = self._directory.partial(name)
        if is_done:
            path = self._directory.artifact(name) / LOG
        elif _identity(partial) == identity:
            path = partial / "files" / LOG
        else:
            return []
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return []
        # a line without an end is still being written
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [row for row in map(json.loads, lines) if isinstance(row, dict)]

    def _is_done(self, name: str, identity: str) -> bool:
        return _identity(self._directory.artifact(name)) == identity


def _identity(folder: Path) -> str | None:
    try:
        return read_manifest(folder).id
    except CharterError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a line, but its step."""
    return {key: float(value) for key, value in row.items() if key != "step" and _is_number(value)}


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CharterError(f"--log {name} needs the package {name}: pip install {name}") from None
