"""A step in a process that another one leads, with a share of its chunks.

Such a process receives plain JSON. It checks that its chunks will equal those of a single process: it must see the
leader's folder and every input, and have the same sources, torch, threads and instructions.
"""

import secrets
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import Environment
from charter.ground.artifact.sharing import Sharing
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import SCRATCH, Workspace
from charter.ground.settings.environment import difference, environment_of
from charter.ground.settings.execution import Execution
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.hub import fetch_input
from charter.ground.settings.problems import validate
from charter.runner.identity import source_digest
from charter.runner.plan import PlannedStep
from charter.runner.rooms import open_room, room_runner

# A file in the folder of the step, which shows a process that it sees the very same folder.
MARK = "led-by"


class Task(Frozen):
    """What a process needs to know of a step that it follows; `mark` is the content of the file MARK."""

    step: str
    room: str
    settings: dict[str, Any]
    inputs: tuple[Input, ...]
    seed: int
    folder: Path
    mark: str
    environment: Environment
    source: str
    cache: Path | None
    host: str


def hand_out(planned: PlannedStep, folder: Path, environment: Environment, cache: Path | None) -> Task:
    """The task for processes that follow a step, which this process leads in `folder`."""
    mark = secrets.token_hex(16)
    atomic_write(folder / MARK, mark)
    return Task(
        step=planned.name,
        room=planned.room.name,
        settings=planned.resolved,
        inputs=planned.inputs,
        seed=planned.seed,
        folder=folder.resolve(),
        mark=mark,
        environment=environment,
        source=source_digest(planned.room.package),
        cache=cache.resolve() if cache is not None else None,
        host=host(),
    )


def host() -> str:
    """The name of this machine and its start time, since machines may share a name."""
    return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def follow(task: Task, sharing: Sharing) -> None:
    """Runs the room until it ends and makes the chunks that `sharing` gives. Raises CharterError for what a room
    refuses, and if this machine would make other chunks than the leading one."""
    node = socket.gethostname()
    _check_folder(task, node)
    room = open_room(task.room)
    _check_machine(task, source_digest(room.package), node)
    _check_inputs(task.inputs, node)
    settings = validate(room.settings, task.settings, f"step {task.step} (room {task.room})")
    inputs = Inputs([fetch_input(entry, room.roles[entry.role]) for entry in task.inputs])
    device = task.environment.device
    # a follower sees only the GPU that it was given, so the device needs no index
    out = Workspace(
        task.folder,
        step=task.step,
        seed=task.seed,
        device="cuda" if device.startswith("cuda") else device,
        precision=task.environment.precision,
        sharing=sharing,
    )
    # the file of answers is for processes of one machine: its locks don't work across a network
    out.cache = task.cache if task.host == host() else None
    room_runner(room)(settings, inputs, out)


def sweep_up(folder: Path) -> None:
    """Removes what followers left in the folder of a step; none may still follow it."""
    (folder / MARK).unlink(missing_ok=True)
    for scratch in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _check_folder(task: Task, node: str) -> None:
    try:
        mark = (task.folder / MARK).read_text("utf-8")
    except OSError:
        mark = ""
    if mark != task.mark:
        raise CharterError(
            f"{node} does not see the run directory ({task.folder}) of the leading machine: put the run, with --out, "
            "on a file system that all machines share under one path, or take workers of one machine"
        )


def _check_machine(task: Task, source: str, node: str) -> None:
    if source != task.source:
        raise CharterError(
            f"{node} has other sources of charter than the leading machine: install the same version on both"
        )
    leader = task.environment
    environment = environment_of(Execution(leader.device, leader.precision))
    if leader.python != environment.python:
        raise CharterError(
            f"{node} has Python {environment.python} and the leading machine {leader.python}: use one version"
        )
    if (mismatch := difference(leader, environment)) is not None:
        raise CharterError(
            f"{node} has {mismatch.what} {mismatch.here} and the leading machine {mismatch.made}, which gives other "
            f"numbers: {mismatch.remedy} on {node}, or leave it out"
        )


def _check_inputs(inputs: Sequence[Input], node: str) -> None:
    for entry in inputs:
        path = Path(entry.ref) if entry.path is None and entry.ref.endswith(".gguf") else entry.path
        if path is not None and not path.exists():
            raise CharterError(
                f"{node} does not see {path} (role {entry.role}): put it on a path that all machines share"
            )
