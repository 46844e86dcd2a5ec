"""A run that torchrun has started in several processes: rank 0 leads, the others follow it from step to step.

They join at torchrun's store, which outlives each of them. The first that fails writes its error there and prints it.
The others notice the broken connection, or torchrun ends them.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.manifest import Environment
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.sharing import Sharing
from charter.ground.learn.parallel import barrier, broadcast, start, stop, world
from charter.runner.company import Elsewhere
from charter.runner.following import Task, follow, hand_out
from charter.runner.plan import PlannedStep

FAILED = "failed"
# Time for processes to start, one after the other.
JOINING = timedelta(minutes=10)
# Seconds that a process gives another to print its error, since torchrun ends all when one ends.
SILENCE = 2.0
LOST = (
    "another process of this run was lost; torchrun restarts all of them if it has --max-restarts, else the same "
    "command resumes where this one stopped"
)


class Ranks:
    """Deals chunks to the processes in turn."""

    def __init__(self, store: Store) -> None:
        self._store, self._world, self._pause = store, world(), 0.02

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self._world.leads

    def claim(self, key: str, number: int) -> bool:
        """Every `size`-th chunk."""
        self._pause = 0.02
        return number % self._world.size == self._world.rank

    def wait(self) -> None:
        """Sleeps a moment, longer each time. Raises CharterError if another process has failed."""
        if self._store.check([FAILED]):
            raise CharterError(words_of(self._store))
        time.sleep(self._pause)
        self._pause = min(1.0, 1.5 * self._pause)


class Head(Ranks):
    """The leader's part. It calls the others into a step at its first chunk, since many steps have none."""

    def __init__(self, store: Store, task: Callable[[], Task]) -> None:
        super().__init__(store)
        self._task, self.called = task, False

    def call(self) -> None:
        """Sends the step to the others, once."""
        if not self.called:
            self.called = True
            broadcast(self._task().model_dump_json().encode())

    def claim(self, key: str, number: int) -> bool:
        """Every `size`-th chunk."""
        self.call()
        return super().claim(key, number)


class Lockstep:
    """The processes of torchrun, as one of them sees them."""

    def __init__(self) -> None:
        lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
        if lacking:
            raise CharterError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {' and '.join(lacking)} aren't set: start the command "
                "with torchrun, which sets all of them, or unset WORLD_SIZE"
            )
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if os.environ.get("LOCAL_WORLD_SIZE") == str(size) and sys.platform == "linux":
            # all are on this machine: listen to nobody else
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = TCPStore(address, port, size, is_master=hosts, timeout=JOINING, wait_for_workers=False)
        self.store = of_this_attempt(store)
        start(self.store, rank, size)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return world().leads

    def threads(self, planned: PlannedStep, own: int, begun: int | None) -> int:
        """Every process has its own number."""
        return own

    @contextmanager
    def on(
        self, planned: PlannedStep, folder: Path, environment: Environment, cache: Path | None, progress: Progress
    ) -> Iterator[tuple[Sharing, Progress]]:
        """The leader's part in a step: the others share learning from its start, and other work by chunks."""
        head = Head(self.store, lambda: hand_out(planned, folder, environment, cache))
        if planned.room.learns:
            head.call()
        with self.losses(f"step {planned.name}: "):
            try:
                yield head, progress
            except Waiting:
                self._meet(head.called)
                raise
            self._meet(head.called)

    def follow(self) -> None:
        """Runs the rooms that the leader sends, until it sends none."""
        while message := broadcast(b""):
            task = Task.model_validate_json(message)
            with self.losses(f"step {task.step}: "):
                try:
                    follow(task, Ranks(self.store))
                # the leader reports it
                except Waiting:
                    pass
                except CharterError as error:
                    raise CharterError(f"step {task.step}: {error}") from error
                self._meet(True)

    def _meet(self, shared: bool) -> None:
        """Waits for all at the end of a shared step, so that nobody still reads its folder."""
        if shared:
            barrier()

    def end(self) -> None:
        """Tells the followers that the run is over."""
        if self.leads:
            broadcast(b"")

    def first_to_fail(self, words: str) -> bool:
        """Whether this process is the first to fail; if so, it keeps `words` for the others."""
        mine = f"{world().rank} {words}"
        return self.store.compare_set(FAILED, "", mine).decode() == mine

    @contextmanager
    def losses(self, place: str = "") -> Iterator[None]:
        """Replaces torch's error on a broken connection by the error of the process that failed, if it left one."""
        try:
            yield
        except RuntimeError as error:
            if "onnection" not in str(error):
                raise
            raise CharterError(words_of(self.store).removeprefix(place)) from error


def of_this_attempt(store: Store) -> Store:
    """torchrun's store for the processes of one start. It outlives them, and the next start ignores what they left,
    such as an error."""
    return PrefixStore(f"charter/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def words_of(store: Store) -> str:
    """The error of the process that failed."""
    return store.get(FAILED).decode().partition(" ")[2] if store.check([FAILED]) else LOST


@contextmanager
def join() -> Iterator[Lockstep]:
    """Joins the other processes until the run's end."""
    others = Lockstep()
    try:
        with others.losses():
            yield others
            others.end()
    except Waiting:
        others.end()
        raise
    except KeyboardInterrupt:
        if others.leads:
            raise
        raise Elsewhere from None
    except Exception as error:
        if not others.first_to_fail(" ".join(str(error).split())):
            time.sleep(SILENCE)
            raise Elsewhere from None
        raise
    stop()
