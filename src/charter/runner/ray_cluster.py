"""Workers of a Ray cluster (Moritz et al. 2018, 1712.05889) make the chunks of steps; this process leads and watches.

Each worker is an actor, a process of its own, that runs the same room and claims chunks at an actor that the leader
holds. A worker that dies loses its claims, and another replaces it. Only text and numbers travel, packed by Ray; nobody
writes or reads a file of pickled data.
"""

import itertools
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import torch

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Environment
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.sharing import Alone, Sharing
from charter.ground.settings.environment import physical_cores, thread_count
from charter.ground.settings.execution import Execution
from charter.runner.fanout import LOCAL, WorkerProgress, places, spread
from charter.runner.following import Task, hand_out, host, sweep_up
from charter.runner.plan import PlannedStep
from charter.runner.ray_worker import Claims, Worker

# Seconds between two looks for chunks that workers made.
LOOK_SECONDS = 0.25
# Seconds to wait for a first worker before a note, and for finished chunks to show before an error.
PATIENCE = 60.0
# Replacements of lost workers in one step, for each worker of the cluster.
REPLACED = 3
# A little more than Ray's minimum, since chunks travel through the state folder.
_STORE_BYTES = 80 * 2**20
_PASSED = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "TOKENIZERS_PARALLELISM")


@contextmanager
def cluster(address: str, workers: int | None, execution: Execution) -> Iterator["Cluster"]:
    """The workers of a cluster, or of a Ray that runs on this machine during this context."""
    try:
        try:
            _connect(address, workers)
            members = Cluster(_machines(), workers, execution)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise CharterError(f"--ray {address}: {_line(error)}") from error
        yield members
    finally:
        ray.shutdown()


class Cluster:
    """Machines with cores and GPUs, and their workers and threads: by default one worker a GPU if the device is one,
    else one a core."""

    def __init__(self, machines: Sequence[tuple[int, int]], workers: int | None, execution: Execution) -> None:
        self._cores = [cores for cores, _ in machines]
        self._gpus = [gpus for _, gpus in machines] if execution.device.startswith("cuda") else None
        units = self._cores if self._gpus is None else self._gpus
        self.workers, each = spread(units, workers)
        if self._gpus is not None:
            each = min((cores // gpus for cores, gpus in machines if gpus), default=1)
        self._threads = max(1, each)
        if sum(units) < self.workers:
            kind = "cores" if self._gpus is None else "GPUs"
            raise CharterError(
                f"--workers {self.workers}: Ray has {sum(units)} {kind}, and a worker needs one of its own"
            )

    leads = True

    def threads(self, planned: PlannedStep, own: int, begun: int | None) -> int:
        """The threads of each worker; unfinished work resumes with those that it began with."""
        return own if planned.room.learns else begun or self._threads

    @contextmanager
    def on(
        self, planned: PlannedStep, folder: Path, environment: Environment, cache: Path | None, progress: Progress
    ) -> Iterator[tuple[Sharing, Progress]]:
        """Leads workers through a step, unless it learns. Computations outside of chunks use the workers' number of
        threads."""
        if planned.room.learns:
            yield Alone(), progress
            return
        threads = environment.threads
        count = self.workers if self._gpus is not None else min(self.workers, places(self._cores, threads))
        if count < 1:
            raise CharterError(
                f"the step began with {threads} threads, and no machine of Ray has as many cores: take larger "
                "ones, or resume without --ray"
            )
        if threads != thread_count():
            # the cache's name stands for another number of threads
            cache = None
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        leader = RayLeader(hand_out(planned, folder, environment, cache), count, self._gpus is not None, progress)
        try:
            yield leader, WorkerProgress(progress, leader.count_workers)
        finally:
            leader.close()
            torch.set_num_threads(before)

    def follow(self) -> None:
        """This process leads."""


@dataclass(frozen=True)
class _Running:
    name: str
    actor: Any


class RayLeader:
    """The leader's share: no chunk. It starts the workers when the first chunk is missing, and then watches them."""

    leads = True

    def __init__(self, task: Task, count: int, on_gpus: bool, progress: Progress) -> None:
        self._task, self._count, self._progress = task, count, progress
        self._options = {
            "num_cpus": task.environment.threads,
            "num_gpus": int(on_gpus),
            "max_restarts": 0,
            "runtime_env": {"env_vars": _variables(task.environment.threads)},
        }
        self._names = itertools.count(1)
        self._claims: Any = None
        self._running: dict[Any, _Running] = {}
        self._actors: list[Any] = []
        self._places: dict[str, tuple[str, str, int]] = {}
        self._lost = 0
        # when the step started, or when the last worker ended
        self._since = time.monotonic()

    def claim(self, key: str, number: int) -> bool:
        """Returns False and starts the workers, since there is work to do."""
        if self._claims is None:
            with _ray_errors():
                self._claims = ray.remote(Claims).options(num_cpus=0).remote()
                for _ in range(self._count):
                    self._start()
                self._since = time.monotonic()
        return False

    def wait(self) -> None:
        """Looks after the workers. Raises CharterError for what one of them refused, and if all are lost."""
        with _ray_errors():
            if self._running:
                ended, _ = ray.wait(list(self._running), timeout=LOOK_SECONDS)
                for outcome in ended:
                    self._end(outcome)
                self._greet()
            elif time.monotonic() - self._since < PATIENCE:
                # all chunks are made; a network file system may show them later
                time.sleep(LOOK_SECONDS)
            else:
                raise CharterError(
                    f"the workers have made all chunks, and {self._task.folder} does not show them: it must lie on one "
                    "file system for all machines"
                )

    def count_workers(self) -> Mapping[str, object]:
        """The label beside bars: the number of running workers."""
        return {"workers": sum(worker.name in self._places for worker in self._running.values())}

    def close(self) -> None:
        """Ends all workers, and waits until none can write into the step's folder."""
        with suppress(ray.exceptions.RayError):
            if self._claims is not None:
                self._places = ray.get(self._claims.places.remote(), timeout=10)
        for actor in self._actors:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)
        with suppress(ray.exceptions.RayError):
            if self._running:
                ray.wait(list(self._running), num_returns=len(self._running), timeout=10)
            if self._claims is not None:
                ray.kill(self._claims)
        processes = []
        for machine, _, process in self._places.values():
            if machine == host():
                with suppress(psutil.NoSuchProcess):
                    processes.append(psutil.Process(process))
        psutil.wait_procs(processes, timeout=10)
        sweep_up(self._task.folder)

    def _start(self) -> None:
        name = str(next(self._names))
        actor = ray.remote(Worker).options(**self._options).remote(name, self._claims)
        self._actors.append(actor)
        self._running[actor.follow.remote(self._task.model_dump_json())] = _Running(name, actor)

    def _end(self, outcome: Any) -> None:
        """Handles the end of a worker: it has finished the room, raised an error, or died."""
        worker = self._running.pop(outcome)
        self._since = time.monotonic()
        try:
            message = json.loads(ray.get(outcome))
        except ray.exceptions.RayError as error:
            self._replace(worker, error)
            return
        if message["error"] is None:
            return
        line = message["error"]
        if message["trace"]:
            report = self._task.folder / "traceback.txt"
            report.write_text(message["trace"], encoding="utf-8")
            line += f"; the traceback is in {report}"
        raise CharterError(line)

    def _replace(self, worker: _Running, error: Exception) -> None:
        """Frees a lost worker's chunks and starts a new worker. Raises CharterError if too many were lost."""
        self._places = ray.get(self._claims.places.remote())
        ray.get(self._claims.free.remote(worker.name))
        _, machine, process = self._places.get(worker.name, ("", "", 0))
        reason = f"process {process} on {machine} died" if process else _line(error)
        if isinstance(error, ray.exceptions.OutOfMemoryError) or "memory usage threshold" in str(error):
            reason += ": Ray ends processes if a machine runs out of memory; fewer --workers need less"
        self._lost += 1
        if self._lost <= REPLACED * self._count:
            self._start()
            self._progress.note(
                f"{self._task.step}: a worker was lost ({reason}); another replaces it and makes its chunk again"
            )
        elif self._running:
            self._progress.note(f"{self._task.step}: a worker was lost ({reason}); another makes its chunk again")
        else:
            raise CharterError(
                f"{self._lost} workers were lost, the last: {reason}; finished chunks are kept, so that the same "
                "command, with or without --ray, resumes"
            )

    def _greet(self) -> None:
        """Learns which workers have started; notes once if none does."""
        if self._running and any(worker.name not in self._places for worker in self._running.values()):
            self._places = ray.get(self._claims.places.remote())
            if not self._places and time.monotonic() - self._since > PATIENCE:
                self._since = float("inf")
                self._progress.note(
                    f"{self._task.step}: no worker has started for {PATIENCE:.0f} seconds: Ray waits for free cores or "
                    "GPUs"
                )


def _connect(address: str, workers: int | None) -> None:
    """Raises what Ray raises, and CharterError for a malformed address or if nothing listens there."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if address == LOCAL:
        ray.init(
            address=LOCAL,
            num_cpus=max(workers or 1, physical_cores()),
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return
    if address != "auto":
        machine, _, port = address.removeprefix("ray://").rpartition(":")
        if not machine or not port.isdigit():
            raise CharterError(f"--ray {address}: write local, auto, HOST:PORT or ray://HOST:PORT")
        try:
            socket.create_connection((machine, int(port)), timeout=5).close()
        except OSError as error:
            raise CharterError(
                f"--ray {address}: nothing answers there ({error.strerror or error}); `ray start --head` prints the "
                "address of its Ray"
            ) from None
    ray.init(address=address, **quiet)


def _machines() -> list[tuple[int, int]]:
    """(cores, GPUs) of every machine of the cluster."""
    return [
        (int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _variables(threads: int) -> dict[str, str]:
    """The environment variables of workers: the launcher's, and their threads."""
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {**passed, "OMP_NUM_THREADS": str(threads)}


@contextmanager
def _ray_errors() -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        raise CharterError(
            f"Ray was lost ({_line(error)}); finished chunks are kept, so that the same command, with or without "
            "--ray, resumes"
        ) from error


def _line(error: Exception) -> str:
    """The message of an error in one line of at most 200 characters."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
