"""Runs one step: reuses, restores, resumes or makes its artifact, and publishes it whole. `sweep` frees disk in a run
directory: unfinished work, superseded artifacts and remembered answers, never what the recipe uses.
"""

import ctypes
import errno
import gc
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.kinds import Status
from charter.ground.artifact.lineage import SUPERSEDED, sealed
from charter.ground.artifact.manifest import MANIFEST, Environment, Manifest, Timing
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import (
    folder_bytes,
    read_manifest,
    record_files,
    remove_folder,
    verify_files,
    write_manifest,
)
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.hub import fetch_input
from charter.ground.settings.purpose import check_reader, inherited, mark, purpose_of
from charter.ground.settings.sources import digest_source
from charter.runner.company import Company, Nobody
from charter.runner.directory import CACHE, PARTIAL, RunDirectory, Standing, read_unfinished
from charter.runner.identity import SOURCES_EDITED, room_source, source_changed
from charter.runner.pace import Pace, StepProgress, spell_minutes
from charter.runner.plan import PlannedStep
from charter.runner.rooms import room_runner

_ROOM, _RIGHTS = "make room", "change its rights"
_DISK = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EACCES: ("permission denied", _RIGHTS),
    errno.EPERM: ("permission denied", _RIGHTS),
    errno.EROFS: ("the file system is read-only", _RIGHTS),
}


@dataclass(frozen=True)
class Runner:
    """What running the steps of one recipe needs."""

    recipe: str
    directory: RunDirectory
    environment: Environment
    progress: Progress
    pace: Pace
    cache: Path | None = None
    company: Company = field(default_factory=Nobody)
    command: str = ""

    def run(self, planned: PlannedStep, place: str) -> None:
        """Runs one step until its artifact is finished; `place` is its place among all ("step 3 of 20").

        Raises CharterError, and Waiting if people must answer first; unfinished work is kept.
        """
        standing = self.settle(planned)
        if standing is not None:
            self.make(planned, standing, place)

    def look(self, planned: PlannedStep) -> Standing:
        """What is on disk for a step; see `RunDirectory.look`."""
        return self.directory.look(planned, self._environment(planned))

    def settle(self, planned: PlannedStep) -> Standing | None:
        """Does all that doesn't run the room: reuses, restores or publishes a finished artifact and returns None. Else
        returns what `make` continues from. Raises CharterError if unfinished work must not resume."""
        name = planned.name
        standing = self.look(planned)
        for note in standing.notes:
            self.progress.note(note)
        if standing.refusal is not None:
            raise CharterError(standing.refusal)
        if standing.action in ("run", "resume"):
            return standing
        self.pace.skip(name)
        if standing.action == "restore" and standing.folder is not None:
            self.directory.restore(name, standing.folder)
            self.progress.note(f"{name}: reused (restored from .superseded)")
        elif standing.action == "publish" and standing.folder is not None:
            self.directory.take_up(name, standing.folder)
            self.directory.publish(name)
            self.progress.note(f"{name}: done")
        else:
            if not (self.directory.partial(name) / MANIFEST).exists():
                # leftovers of a process that was killed while it published
                self.directory.clear_partial(name)
            self.progress.note(f"{name}: reused")
        return None

    def begin(self, planned: PlannedStep, standing: Standing) -> None:
        """Tells the pace that a step starts, and how long it ran before."""
        earlier = read_unfinished(standing.folder) if standing.folder is not None else None
        self.pace.begin(planned.name, earlier.timing.seconds / 60 if earlier else 0.0)

    def make(self, planned: PlannedStep, standing: Standing, place: str) -> None:
        """Runs the room of an unfinished step, from its start or from where it stopped."""
        name = planned.name
        self.begin(planned, standing)
        if standing.folder is None:
            self.directory.clear_partial(name)
        else:
            self.directory.take_up(name, standing.folder)
        self._make(planned, f"{name} ({place}): {'resumed' if standing.action == 'resume' else 'started'}")
        self.progress.note(f"{name}: done")

    def hold(self, planned: PlannedStep, waiting: Waiting) -> str:
        """Notes that a step waits for people; returns the step and what it waits for."""
        self.pace.skip(planned.name)
        self.progress.note(f"{planned.name}: waiting")
        return f"{planned.name} {waiting}"

    def _make(self, planned: PlannedStep, opening: str) -> None:
        """Runs the room in the partial folder and publishes its product; `opening` is the first note to the user."""
        folder = self.directory.partial(planned.name)
        minutes = self.pace.smoothed()
        self.progress.note(opening if minutes is None else f"{opening}; left in the run: {spell_minutes(minutes)}")
        check_inputs(planned)
        manifest = self._begin(planned, folder)
        (folder / "files" / MANIFEST).unlink(missing_ok=True)
        began = time.monotonic()
        with _failures(folder, manifest, began):
            out, purpose = self._run_room(planned, folder, manifest.environment)
            if purpose:
                mark(out.path)
            timing = _timing(manifest, began)
            finished = manifest.model_copy(
                update={
                    "status": "done",
                    "variant": out.variant,
                    "purpose": purpose,
                    "files": record_files(out.path),
                    "restricted": sorted(out.restricted),
                    "metrics": out.metrics,
                    "timing": timing,
                    "error": None,
                }
            )
            write_manifest(out.path, finished)
            self.directory.publish(planned.name)
            self.pace.finish(planned.name)
        give_memory_back()

    def _run_room(self, planned: PlannedStep, folder: Path, environment: Environment) -> tuple[Workspace, str]:
        """Where the product lies, and the purpose that it is marked with, also by rows that only now were fetched."""
        inputs = Inputs([fetch_input(entry, planned.room.roles[entry.role]) for entry in planned.inputs])
        purpose = planned.purpose or inherited(planned.room.product, _fetched_purposes(planned, inputs))
        run = room_runner(planned.room)
        if source_changed(planned.room.package):
            raise CharterError(f"{planned.name}: {SOURCES_EDITED}")
        own_progress = StepProgress(self.progress, planned.name, self.pace)
        with self.company.on(planned, folder, environment, self.cache, own_progress) as (sharing, progress):
            out = Workspace(
                folder,
                step=planned.name,
                seed=planned.seed,
                device=environment.device,
                precision=environment.precision,
                progress=progress,
                sharing=sharing,
            )
            out.cache = self.cache
            out.variant = planned.room.variant
            out.people = self.directory.people(planned.name)
            run(planned.settings, inputs, out)
        return out, purpose

    def _environment(self, planned: PlannedStep) -> Environment:
        """The environment of a step, with the threads of each process that makes its chunks."""
        begun_threads = self.directory.read_threads(planned)
        threads = self.company.threads(planned, self.environment.threads, begun_threads)
        return self.environment.model_copy(update={"threads": threads})

    def _begin(self, planned: PlannedStep, folder: Path) -> Manifest:
        """Writes the started manifest; a resume keeps the time spent before."""
        folder.mkdir(parents=True, exist_ok=True)
        timing = Timing(started=datetime.now(UTC).isoformat(timespec="seconds"))
        if (folder / MANIFEST).is_file():
            timing = read_manifest(folder).timing
        manifest = Manifest(
            kind=planned.room.product,
            variant=planned.room.variant,
            purpose=planned.purpose,
            id=planned.id,
            status="started",
            step=planned.name,
            room=planned.room.name,
            method=planned.room.method,
            against_harm=planned.room.against_harm,
            recipe=self.recipe,
            command=self.command,
            asked=planned.step.settings,
            resolved=planned.resolved,
            inputs=Inputs(planned.inputs).ids,
            parents=sealed(self.directory.path, planned.parents),
            external=list(planned.external),
            source=room_source(planned.room),
            environment=self._environment(planned),
            seed=planned.seed,
            timing=timing,
        )
        write_manifest(folder, manifest)
        return manifest


def _fetched_purposes(planned: PlannedStep, inputs: Inputs) -> Iterator[str]:
    """The marks of inputs that the plan could not read. Raises CharterError if the room may not read one."""
    for entry, before in zip(inputs, planned.inputs, strict=True):
        if entry.path is not None and before.path is None:
            purpose, kind = purpose_of(entry.path), planned.room.roles[entry.role].kind
            check_reader(entry, purpose, kind, planned.room.name, f"step {planned.name}: ")
            yield purpose


def give_memory_back() -> None:
    """Returns a step's free memory to the system. The allocator keeps it (see `terminal/launch.py`), and its fragments
    may not fit the next step, so that a run would grow from step to step.
    """
    gc.collect()
    # only glibc has it
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def check_inputs(planned: PlannedStep) -> None:
    """Raises CharterError for inputs that changed since the plan: files, and damaged or replaced artifacts of other
    runs."""
    outside = {(record.role, record.digest) for record in planned.external}
    foreign = {parent.id for parent in planned.parents if parent.path != parent.step}
    for entry in planned.inputs:
        path = Path(entry.ref) if entry.path is None and entry.ref.endswith(".gguf") else entry.path
        if path is None:
            continue
        if entry.id in foreign:
            manifest = read_manifest(path)
            if manifest.id != entry.id or manifest.status != "done":
                raise CharterError(f"step {planned.name}: {path} was replaced since the plan was made; run again")
            if problems := verify_files(path, manifest):
                raise CharterError(f"step {planned.name}: {path} is damaged: {problems[0]}")
        elif (entry.role, entry.id) in outside and (not path.exists() or digest_source(path) != entry.id):
            raise CharterError(f"step {planned.name}: {path} changed since the plan was made; run again")


@contextmanager
def disk_errors(run: Path | None = None) -> Iterator[None]:
    """Turns errors of a full or forbidden disk into one line; for a run directory it says how the run resumes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        problem, advice = _DISK[error.errno]
        place = Path(os.fsdecode(error.filename)) if error.filename else run
        if run is not None and place is not None and place.absolute().is_relative_to(run.absolute()):
            hint = "choose another directory with --out, then run again; finished steps and resumable work are kept"
        else:
            hint = "name another place"
        raise CharterError(f"{problem}{f' ({place})' if place else ''}: {advice} or {hint}") from error


@contextmanager
def _failures(folder: Path, manifest: Manifest, began: float) -> Iterator[None]:
    """Records in the partial manifest why a step stopped, and turns unforeseen errors into one line."""
    try:
        yield
    except Waiting as waiting:
        _record(folder, manifest, began, str(waiting), "waiting")
        raise
    except CharterError as error:
        _record(folder, manifest, began, str(error))
        raise CharterError(f"step {manifest.step}: {error}") from error
    except OSError as error:
        _record(folder, manifest, began, str(error))
        if error.errno in _DISK:
            raise
        raise _report_unforeseen(folder, manifest, error) from error
    except Exception as error:
        _record(folder, manifest, began, f"{type(error).__name__}: {error}")
        if "os error 28" in str(error) or "No space left" in str(error):
            raise OSError(errno.ENOSPC, "the disk is full", str(folder)) from error
        raise _report_unforeseen(folder, manifest, error) from error
    except KeyboardInterrupt:
        _record(folder, manifest, began, None)
        raise


def _record(folder: Path, manifest: Manifest, began: float, error: str | None, status: Status = "failed") -> None:
    """Best effort: a full disk must not hide the first error."""
    update = {"status": status if error else "started", "error": error, "timing": _timing(manifest, began)}
    try:
        if (folder / MANIFEST).is_file():
            write_manifest(folder, manifest.model_copy(update=update))
    except OSError:
        return


def _report_unforeseen(folder: Path, manifest: Manifest, error: Exception) -> CharterError:
    """One line for an unforeseen error; its traceback is kept beside the unfinished work."""
    report = folder / "traceback.txt"
    try:
        report.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        place = f"; the traceback is in {report}"
    except OSError:
        place = ""
    return CharterError(f"step {manifest.step}: {type(error).__name__}: {error}{place}")


def _timing(manifest: Manifest, began: float) -> Timing:
    seconds = manifest.timing.seconds + time.monotonic() - began
    return Timing(started=manifest.timing.started, seconds=round(seconds, 3))


def sweep(
    run: Path, *, partial: bool, superseded: bool, answers: bool = False, dry_run: bool = False
) -> list[tuple[Path, int]]:
    """Removes the folders of the named kinds; returns each with its bytes.

    Takes the run's lock, so that it removes nothing that another process uses.
    """
    directory = RunDirectory(run)
    shelves = [run / PARTIAL] * partial + [run / SUPERSEDED] * superseded
    removed = []
    with disk_errors(run), directory.lock():
        folders = [path for shelf in shelves for path in sorted(shelf.glob("*")) if path.is_dir()]
        for folder in folders + [run / CACHE] * (answers and (run / CACHE).is_dir()):
            removed.append((folder, folder_bytes(folder)))
            if not dry_run:
                remove_folder(folder)
    return removed
