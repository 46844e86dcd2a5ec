"""The run directory: finished artifacts, the one being made, those superseded, and who may write.

runs/<recipe>/<step>/                 a finished artifact
runs/<recipe>/.partial/<step>/        a step being made: manifest.json, files/, state/
runs/<recipe>/.partial/<step>@<id12>/      one that was begun under other settings; found again by id
runs/<recipe>/.superseded/<step>-<id12>/   finished artifacts that others replaced; found again by id
runs/<recipe>/.cache/<id16>.sqlite         what models answered, found again by the same code on the same machine
runs/<recipe>/run.json                the recipe as resolved, the order and the ids of its steps
runs/<recipe>/.lock                   held by the process that writes here
runs/<recipe>.people/<step>/          what people are asked and what they gave; no sweep removes it
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
from charter.runner.plan import RUN_FILE, PlannedStep

Action = Literal["reused", "restore", "publish", "resume", "run"]
PARTIAL = ".partial"
CACHE = ".cache"
# in no step's name
ASIDE = "@"


@dataclass(frozen=True)
class Standing:
    """What is on disk for a planned step, and so what is to be done; notes are for the reader. `waiting` says what
    the step waited for when it was last begun."""

    action: Action
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    refusal: str | None = None
    waiting: str | None = None


class RunDirectory:
    """The directory of one run. Reading needs no lock; everything that moves or writes is done under it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def finished(self, step: str) -> Path:
        """Where the finished artifact of a step lies."""
        return self.path / step

    def partial(self, step: str) -> Path:
        """Where a step is made."""
        return self.path / PARTIAL / step

    def people(self, step: str) -> Path:
        """Where a step keeps what it asks of people: beside the run, so that it outlives it."""
        run = self.path if self.path.name not in ("", "..") else self.path.resolve()
        return run.with_name(run.name + PEOPLE) / step

    def cache(self, name: str) -> Path:
        """The file of remembered answers that has this name; those of other names are stale and go. Needs the lock."""
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
        """Keeps other processes out. Raises CharterError when one is in, or the directory can't be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CharterError(
                f"the run directory {self.path} cannot be made ({error.strerror}): choose another with --out"
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

    def look(self, planned: PlannedStep, environment: Environment) -> Standing:
        """Finds out what a step needs, without changing anything."""
        notes: list[str] = []
        folder = self.finished(planned.name)
        if folder.exists():
            problem = damage(folder, planned.id)
            if problem is None:
                return Standing("reused", folder)
            if problem:
                notes.append(f"{planned.name} is damaged and made again: {problem}")
        for folder in self.superseded(planned.name):
            if damage(folder, planned.id) is None:
                return Standing("restore", folder, tuple(notes))
        partial = self.partial(planned.name)
        for folder in (partial, *self.set_aside(planned.name)):
            if (folder / "files" / MANIFEST).is_file() and damage(folder / "files", planned.id) is None:
                return Standing("publish", folder, tuple(notes))
            manifest = begun(folder)
            if manifest is not None and self._goes_on(planned, manifest):
                refusal = refuse_resume(self.path, manifest, environment, planned.room.learns)
                refusal = refusal or refuse_processes(planned, environment)
                notes += _other_processes(planned, manifest, environment)
                waiting = manifest.error if manifest.status == "waiting" else None
                return Standing("resume", folder, tuple(notes), refusal, waiting)
            if folder == partial and manifest is not None and _holds_work(partial):
                notes.append(
                    f"{planned.name}: unfinished work under other settings is kept, and goes on when they come back"
                )
        return Standing("run", None, tuple(notes), refuse_processes(planned, environment))

    def superseded(self, step: str) -> list[Path]:
        """Folders of finished artifacts of a step that others replaced."""
        return sorted((self.path / SUPERSEDED).glob(f"{step}-*"))

    def publish(self, step: str) -> None:
        """Moves the finished files of a step into place and removes what the work left behind.

        Killed before the rename, the next run finds the done manifest and publishes; after it, it finds the
        artifact, and leftovers are removed with the next work of the step.
        """
        self.supersede(step)
        # the state is of no use without the files: from here on this is no resumable work any more
        (self.partial(step) / MANIFEST).unlink(missing_ok=True)
        publish(self.partial(step) / "files", self.finished(step))
        remove_folder(self.partial(step))

    def restore(self, step: str, folder: Path) -> None:
        """Puts a superseded artifact back into place."""
        self.supersede(step)
        publish(folder, self.finished(step))

    def supersede(self, step: str) -> None:
        """Moves what lies in the step's place, if anything, to .superseded/<step>-<id12>."""
        self._shelve(step, self.finished(step))

    def _shelve(self, step: str, folder: Path) -> None:
        """Moves the finished artifact in a folder, if there is one, to .superseded/<step>-<id12>."""
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

    def set_aside(self, step: str) -> list[Path]:
        """Folders of unfinished work of a step under other settings."""
        return sorted((self.path / PARTIAL).glob(f"{step}{ASIDE}*"))

    def take_up(self, step: str, folder: Path) -> None:
        """Puts unfinished work that was set aside back into the place where a step is made."""
        if folder != self.partial(step):
            self.clear_partial(step)
            os.rename(folder, self.partial(step))
            fsync_folder(self.path / PARTIAL)

    def clear_partial(self, step: str) -> None:
        """Makes room for new work on a step: sets aside what was begun, or finished and not yet published, and removes
        what is of no use."""
        folder = self.partial(step)
        made, manifest = begun(folder / "files"), begun(folder)
        if made is not None and made.status == "done":
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

    def threads_begun(self, planned: PlannedStep) -> int | None:
        """The threads that unfinished work on a step was begun with, None where there is none."""
        for folder in (self.partial(planned.name), *self.set_aside(planned.name)):
            manifest = begun(folder)
            if manifest is not None and self._goes_on(planned, manifest):
                return manifest.environment.threads
        return None

    def _goes_on(self, planned: PlannedStep, manifest: Manifest) -> bool:
        """Whether unfinished work is this very step, maybe on another device or in another precision."""
        made_in = manifest.environment
        return manifest.id in (planned.id, planned.id_under(Execution(made_in.device, made_in.precision)))


def _other_processes(planned: PlannedStep, manifest: Manifest, here: Environment) -> list[str]:
    """What a reader should know of unfinished learning that goes on in more processes, or in fewer."""
    made = manifest.environment
    if not planned.room.learns or made.processes == here.processes:
        return []
    return [
        f"{manifest.step} was begun by {made.processes} process{'es' * (made.processes > 1)} and goes on with "
        f"{here.processes}: it ends as if it had not been stopped up to rounding, not to the bit: losses "
        "within 1e-5 in float32, 3e-4 in bfloat16, as long as no token is sampled otherwise"
    ]


def begun(folder: Path) -> Manifest | None:
    """The manifest of unfinished work, None where there is none that can be read."""
    try:
        return read_manifest(folder)
    except CharterError:
        return None


def begun_precision(run: Path) -> str | None:
    """The precision that a run directory was last written in, None where none can be read."""
    try:
        found = json.loads((run / RUN_FILE).read_text("utf-8"))["execution"]["precision"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(found)


def _holds_work(folder: Path) -> bool:
    """Whether anything was saved in the folder of an unfinished step."""
    return any(path.is_file() for area in ("files", "state") for path in (folder / area).rglob("*"))


def damage(folder: Path, identity: str) -> str | None:
    """None when a folder holds the artifact of that id, done and intact; "" when it holds another one; else
    what is wrong with it. A file that somebody laid beside it is no damage."""
    try:
        manifest = read_manifest(folder)
    except CharterError as error:
        return str(error)
    if manifest.id != identity or manifest.status != "done":
        return ""
    problems = file_problems(folder, manifest)
    return problems[0] if problems else None


def refuse_processes(planned: PlannedStep, environment: Environment) -> str | None:
    """Why a step can't be run by so many processes, None where it can."""
    wrong = planned.room.processes and planned.room.processes(planned.settings, environment.processes)
    return f"step {planned.name} (room {planned.room.name}): {wrong}" if wrong else None


def refuse_resume(
    run: Path, manifest: Manifest, environment: Environment, learns: bool = False
) -> str | None:
    """Why unfinished work must not go on here, or None; its numbers would differ from an unbroken run's. Rooms that
    learn go on in any number of processes, and so of threads in each."""
    made = manifest.environment
    if learns and made.processes != environment.processes:
        made = made.model_copy(update={"threads": environment.threads})
    found = difference(made, environment)
    if found is None:
        return None
    return (
        f"step {manifest.step} was begun with {found.what} {found.made} and would go on with {found.here}, which "
        f"gives other numbers: {found.remedy}, or drop the unfinished work with `charter gc {run} --partial`"
    )
