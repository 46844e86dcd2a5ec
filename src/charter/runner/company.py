"""Who works on a run beside this process: nobody, or the other processes that torchrun started.

One process leads: it plans, holds the run directory's lock, writes manifests, shows progress and publishes. The others
follow it through the steps that have work for them (see `following.py`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from charter.ground.artifact.manifest import Environment
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.sharing import Alone, Sharing
from charter.ground.settings.environment import process_count
from charter.runner.plan import PlannedStep
from charter.runner.rooms import load_module


class Elsewhere(Exception):
    """Another process has printed the error; this one ends silently."""


class Company(Protocol):
    """The processes that work on a run, as one of them sees them."""

    @property
    def leads(self) -> bool:
        """Whether this process leads the run; if not, it only follows."""
        ...

    def threads(self, planned: PlannedStep, own: int, begun: int | None) -> int:
        """The threads of each process on a step, for its manifest. This process has `own`; unfinished work, if any,
        began with `begun`."""
        ...

    def on(
        self, planned: PlannedStep, folder: Path, environment: Environment, cache: Path | None, progress: Progress
    ) -> AbstractContextManager[tuple[Sharing, Progress]]:
        """The leader's part in the work on a step in `folder`, and a progress that also shows the others. At the end
        nobody else needs the folder."""
        ...

    def follow(self) -> None:
        """Takes part in the steps of the process that leads, until its run ends."""
        ...


class Nobody:
    """This process is the only one."""

    leads = True

    def threads(self, planned: PlannedStep, own: int, begun: int | None) -> int:
        """Its own threads."""
        return own

    def on(
        self, planned: PlannedStep, folder: Path, environment: Environment, cache: Path | None, progress: Progress
    ) -> AbstractContextManager[tuple[Sharing, Progress]]:
        """All work on the step."""
        return nullcontext((Alone(), progress))

    def follow(self) -> None:
        """There is nobody to follow."""


@contextmanager
def company() -> Iterator[Company]:
    """Joins the processes that torchrun's environment names, until the run's end.

    One process raises an error, so that one line is printed; the others raise Elsewhere.
    """
    if process_count() == 1:
        yield Nobody()
        return
    with load_module("charter.runner.lockstep").join() as others:
        yield others
