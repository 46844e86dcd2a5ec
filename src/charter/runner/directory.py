"""The run directory: finished artifacts, the step at work, replaced artifacts, and who may write.

runs/<recipe>/<step>/                 a finished artifact
runs/<recipe>/.partial/<step>/        the step at work: manifest.json, files/, state/
runs/<recipe>/.partial/<step>@<id12>/      unfinished work under other settings; its id finds it again
runs/<recipe>/.superseded/<step>-<id12>/   finished artifacts that others replaced; their ids find them again
runs/<recipe>/.cache/<id16>.sqlite         models' answers, for the same code on the same machine
runs/<recipe>/run.json                the resolved recipe, the order and the ids of its steps
runs/<recipe>/.lock                   the lock of the process that writes here
runs/<recipe>.people/<step>/          questions to people and their answers; no sweep removes it
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import SUPERSEDED
from charter.ground.artifact.manifest import MANIFEST, Environment, Manifest
from charter.ground.artifact.store import (
    file_problems,
    fsync_folder,
    publish,
    read_manifest,
    remove_folder,
    verify_files,
)
from charter.ground.artifact.workspace import PEOPLE
from charter.ground.settings.environment import difference
from charter.ground.settings.execution import Execution
from charter.ground.settings.extras import missing, need
from charter.runner.names import RUN_FILE
from charter.runner.plan import PlannedStep

Action = Literal["reused", "restore", "publish", "resume", "run"]
PARTIAL = ".partial"
CACHE = ".cache"
# No step's name has it.
ASIDE = "@"


@dataclass(frozen=True)
class Standing:
    """What is on disk for a planned step, and the action that follows; notes are for the user. `waiting` says what
    the step waited for at its last start."""

    action: Action
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    refusal: str | None = None
    waiting: str | None = None


class RunDirectory:
    """The directory of one run. Reading needs no lock; moving and writing do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def artifact(self, step: str) -> Path:
        """The folder of a step's finished artifact."""
        return self.path / step

    def partial(self, step: str) -> Path:
        """The folder in which a step works."""
        return self.path / PARTIAL / step

    def people(self, step: str) -> Path:
        """The folder of a step's questions to people: beside the run, so that it outlives the run."""
        run = self.path if self.path.name not in ("", "..") else self.path.resolve()
        return run.with_name(run.name + PEOPLE) / step

    def cache(self, name: str) -> Path:
        """The file of remembered answers with this name. Deletes stale files of other names. Needs the lock."""
        shelf = self.path / CACHE
        for file in shelf.glob("*"):
            if not file.name.startswith(name):
                file.unlink()
        return shelf / f"{name}.sqlite"

    @property
    def run_file(self) -> Path:
        """The path of run.json."""
        return self.path / RUN_FILE

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes out. Raises CharterError if another holds the lock, or if there is no directory."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CharterError(
                f"cannot create the run directory {self.path} ({error.strerror}): choose another with --out"
            ) from None
        with (self.path / ".lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise CharterError(
                    f"{self.path} is in use by process {owner}: wait for it, stop it, or choose another "
                    "directory with --out"
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def in_use(self) -> bool:
        """Whether a process holds the lock."""
        try:
            with (self.path / ".lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            # no process ever wrote here
            return False
        return False

    def look(self, planned: PlannedStep, environment: Environment) -> Standing:
        """Finds out what a step needs; changes nothing."""
        notes: list[str] = []
        folder = self.artifact(planned.name)
        if folder.exists():
            problem = damage(folder, planned.id)
            if problem is None:
                return Standing("reused", folder)
            if problem:
                notes.append(f"{planned.name} is damaged and runs again: {problem}")
        for folder in self.list_superseded(planned.name):
            if damage(folder, planned.id) is None:
                return Standing("restore", folder, tuple(notes))
        partial = self.partial(planned.name)
        for folder in (partial, *self.list_aside(planned.name)):
            if (folder / "files" / MANIFEST).is_file() and damage(folder / "files", planned.id) is None:
                return Standing("publish", folder, tuple(notes))
            manifest = read_unfinished(folder)
            if manifest is not None and self._goes_on(planned, manifest):
                refusal = refuse_resume(self.path, manifest, environment, planned.room.learns)
                refusal = refusal or refuse_start(planned, environment)
                notes += _other_processes(planned, manifest, environment)
                waiting = manifest.error if manifest.status == "waiting" else None
                return Standing("resume", folder, tuple(notes), refusal, waiting)
            if folder == partial and manifest is not None and _holds_work(partial):
                notes.append(
                    f"{planned.name}: unfinished work under other settings is kept, and resumes when they come back"
                )
        return Standing("run", None, tuple(notes), refuse_start(planned, environment))

    def list_superseded(self, step: str) -> list[Path]:
        """Folders of a step's finished artifacts that others replaced."""
        return sorted((self.path / SUPERSEDED).glob(f"{step}-*"))

    def publish(self, step: str) -> None:
        """Moves the finished files of a step into place and removes what the work left behind.

        After a kill before the rename, the next run finds the done manifest and publishes. After a later kill it finds
        the artifact, and the next work on the step removes leftovers.
        """
        self.supersede(step)
        # the state is useless without the files: from here on nothing can resume this work
        (self.partial(step) / MANIFEST).unlink(missing_ok=True)
        publish(self.partial(step) / "files", self.artifact(step))
        remove_folder(self.partial(step))

    def restore(self, step: str, folder: Path) -> None:
        """Puts a superseded artifact back into place."""
        self.supersede(step)
        publish(folder, self.artifact(step))

    def supersede(self, step: str) -> None:
        """Moves the artifact in the step's place, if any, to .superseded/<step>-<id12>."""
        self._shelve(step, self.artifact(step))

    def _shelve(self, step: str, folder: Path) -> None:
        """Moves the finished artifact in a folder, if any, to .superseded/<step>-<id12>."""
        if not folder.exists():
            return
        try:
            manifest = read_manifest(folder)
            mark = manifest.id[:12] + ("-damaged" if verify_files(folder, manifest) else "")
        except CharterError:
            mark = "damaged"
        shelf = self.path / SUPERSEDED
        shelf.mkdir(exist_ok=True)
        target, count = shelf / f"{step}-{mark}", 1
        while target.exists():
            count += 1
            target = shelf / f"{step}-{mark}-{count}"
        os.rename(folder, target)
        fsync_folder(shelf)
        fsync_folder(self.path)

    def list_aside(self, step: str) -> list[Path]:
        """Folders of unfinished work of a step under other settings."""
        return sorted((self.path / PARTIAL).glob(f"{step}{ASIDE}*"))

    def take_up(self, step: str, folder: Path) -> None:
        """Moves unfinished work that was set aside back into the folder in which the step works."""
        if folder != self.partial(step):
            self.clear_partial(step)
            os.rename(folder, self.partial(step))
            fsync_folder(self.path / PARTIAL)

    def clear_partial(self, step: str) -> None:
        """Makes room for new work on a step: sets aside unfinished work, supersedes finished work that nobody
        published, and removes the rest."""
        folder = self.partial(step)
        product, manifest = read_unfinished(folder / "files"), read_unfinished(folder)
        if product is not None and product.status == "done":
            self._shelve(step, folder / "files")
            remove_folder(folder)
            return
        if manifest is None or not _holds_work(folder):
            remove_folder(folder)
            return
        target = folder.with_name(f"{step}{ASIDE}{manifest.id[:12]}")
        remove_folder(target)
        os.rename(folder, target)
        fsync_folder(self.path / PARTIAL)

    def read_threads(self, planned: PlannedStep) -> int | None:
        """The threads with which unfinished work on a step began, None if there is none."""
        for folder in (self.partial(planned.name), *self.list_aside(planned.name)):
            manifest = read_unfinished(folder)
            if manifest is not None and self._goes_on(planned, manifest):
                return manifest.environment.threads
        return None

    def _goes_on(self, planned: PlannedStep, manifest: Manifest) -> bool:
        """Whether unfinished work is this step, perhaps on another device or in another precision."""
        origin = manifest.environment
        return manifest.id in (planned.id, planned.id_under(Execution(origin.device, origin.precision)))


def _other_processes(planned: PlannedStep, manifest: Manifest, environment: Environment) -> list[str]:
    """A note on unfinished learning that resumes in more or fewer processes."""
    origin = manifest.environment
    if not planned.room.learns or origin.processes == environment.processes:
        return []
    return [
        f"{manifest.step} began with {origin.processes} process{'es' * (origin.processes > 1)} and resumes with "
        f"{environment.processes}: its result equals an unbroken run's up to rounding, not to the bit: losses "
        "within 1e-5 in float32, 3e-4 in bfloat16, as long as no sampled token differs"
    ]


def read_unfinished(folder: Path) -> Manifest | None:
    """The manifest of unfinished work, None if there is no readable one."""
    try:
        return read_manifest(folder)
    except CharterError:
        return None


def read_precision(run: Path) -> str | None:
    """The precision of a run directory's last run, None if there is no readable one."""
    try:
        precision = json.loads((run / RUN_FILE).read_text("utf-8"))["execution"]["precision"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(precision)


def _holds_work(folder: Path) -> bool:
    """Whether the folder of an unfinished step holds any saved file."""
    return any(path.is_file() for area in ("files", "state") for path in (folder / area).rglob("*"))


def damage(folder: Path, identity: str) -> str | None:
    """None if a folder holds the artifact of that id, done and intact; "" if it holds another one; else what is wrong
    with it. An added file is no damage."""
    try:
        manifest = read_manifest(folder)
    except CharterError as error:
        return str(error)
    if manifest.id != identity or manifest.status != "done":
        return ""
    problems = file_problems(folder, manifest)
    return problems[0] if problems else None


def refuse_start(planned: PlannedStep, environment: Environment) -> str | None:
    """Why a step can't run here, None if it can: an extra isn't installed, or this number of processes can't run it."""
    room = planned.room
    place = f"step {planned.name} (room {room.name})"
    if room.extra and missing(room.extra):
        return need(place, room.extra)
    wrong = room.processes and room.processes(planned.settings, environment.processes)
    return f"{place}: {wrong}" if wrong else None


def refuse_resume(run: Path, manifest: Manifest, environment: Environment, learns: bool = False) -> str | None:
    """Why unfinished work must not resume here, or None: its numbers would differ from an unbroken run's. Rooms that
    learn resume in any number of processes, and so with any number of threads in each."""
    origin = manifest.environment
    if learns and origin.processes != environment.processes:
        origin = origin.model_copy(update={"threads": environment.threads})
    mismatch = difference(origin, environment)
    if mismatch is None:
        return None
    return (
        f"step {manifest.step} began with {mismatch.what} {mismatch.made} and would resume with {mismatch.here}, which "
        f"gives other numbers: {mismatch.remedy}, or drop the unfinished work with `charter gc {run} --partial`"
    )
