"""Running a command in a sandbox, seen from the host: start it, take its output, keep its limits, end all of it.

The kernel keeps most limits (rlimits, size of the private file system, a control group if there is one). This module
keeps the wall clock, the length of the output, and the memory of all processes together, which it reads several
times a second, more often the nearer it is to its limit.
"""

import json
import math
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import IO, Any

import psutil

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox.container import Way, command_line, passing_id
from charter.ground.sandbox.group import Group, Place
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.memory import measure_memory
from charter.ground.sandbox.seccomp import system_call_filter
from charter.ground.sandbox.view import View

_START = 30.0  # seconds in which process 1 must have started the command
_POLL = 0.02  # seconds between looks at the clock
_LOOK = 0.05  # seconds between looks at the memory; more if looking would take over a tenth of the time
_GROWTH = 4 << 30  # bytes a second by which memory may grow: the rest sets the time of the next look
_MB = 2**20


class Ending(StrEnum):
    """How a command ended."""

    EXITED = "exited"
    KILLED = "killed by a signal"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    TOO_MUCH_OUTPUT = "output over the limit"
    STOPPED = "stopped by the caller"
    ENVIRONMENT_FAILED = "environment failed"  # it never started, or the sandbox was killed from outside


@dataclass(frozen=True)
class Ended:
    """A command that ran: how it ended, its exit status or signal, its output, seconds of wall clock."""

    how: Ending
    code: int
    stdout: str
    stderr: str
    seconds: float
    reason: str = ""  # why the environment failed


@dataclass(frozen=True)
class Sandbox:
    """A way of containment, its view, and the folder of its control groups (None: there are none, and memory is
    summed by looking). Get one from `preflight.sandbox`, which has tried it."""

    way: Way
    view: View
    groups: Place | None = None


def run(
    sandbox: Sandbox,
    command: Sequence[str],
    files: Mapping[str, str],
    limits: Limits,
    channel: int | None = None,
    stop: threading.Event | None = None,
) -> Ended:
    """Run a command (its program's full path first) among `files` in the folder /box, and wait for its end.

    `channel` is a descriptor that the command inherits under the same number; `stop`, when set, ends it early.
    When this returns, no process of the sandbox is left. Raises CharterError for a file's name that leads
    outside /box.
    """
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not name.strip("./"):
            raise CharterError(f"the file {name!r} is outside the sandbox's folder: give a relative path")
    with ExitStack() as stack:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        try:
            group = None
            if sandbox.groups is not None:
                # files of /box, which have a limit of their own, count in the group
                most = (limits.memory_mb + limits.disk_mb) * _MB
                group = stack.enter_context(sandbox.groups.group(most, limits.processes))
            process = _spawn(sandbox, _job(command, files, limits, writing), writing, channel, group)
        except OSError as error:
            return Ended(Ending.ENVIRONMENT_FAILED, 0, "", "", 0.0, f"{error.filename}: {error.strerror}")
        finally:
            os.close(writing)
        stack.enter_context(process)
        stack.callback(_end, process)
        watch = _Watch(process, limits, stop, group)
        watch.follow(reading)
        _end(process)
        return watch.conclude()


def _job(command: Sequence[str], files: Mapping[str, str], limits: Limits, status: int) -> dict[str, Any]:
    disk = limits.disk_mb * _MB
    bounds = {
        "AS": limits.memory_mb * _MB,
        "NPROC": limits.processes,
        "FSIZE": disk,
        "NOFILE": limits.open_files,
        "STACK": 8 * _MB,
        "SIGPENDING": 64,
        **dict.fromkeys(("CORE", "MEMLOCK", "MSGQUEUE"), 0),
    }
    rlimits = {f"RLIMIT_{name}": (value, value) for name, value in bounds.items()}
    rlimits["RLIMIT_CPU"] = (limits.cpu_seconds, limits.cpu_seconds + 1)  # a signal first, then the end
    return {
        "status": status,
        "command": list(command),
        "files": dict(files),
        "filter": system_call_filter().hex(),
        "limits": rlimits,
        "disk": disk,
        "files_limit": limits.files,
    }


def _spawn(
    sandbox: Sandbox, job: dict[str, Any], status: int, channel: int | None, group: Group | None
) -> "subprocess.Popen[bytes]":
    arguments, job["user"] = command_line(sandbox.way, sandbox.view, passing_id())
    if group is not None:
        arguments = group.joining(arguments)
    with open(os.memfd_create("job"), "w+b") as file:
        file.write(json.dumps(job).encode())
        file.seek(0)
        return subprocess.Popen(
            arguments,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd="/",
            pass_fds=[status] if channel is None else [status, channel],
            start_new_session=True,
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left. Killing process 1 of the sandbox ends every process in it; its starter exits when they
    are gone."""
    if process.poll() is None:
        with suppress(psutil.Error):
            for child in psutil.Process(process.pid).children():
                child.kill()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Watch:
    """Follows one command to its end, or to the limit that it breaks."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", limits: Limits, stop: threading.Event | None, group: Group | None
    ) -> None:
        self.process, self.limits, self.stop, self.group = process, limits, stop, group
        self.streams = {"stdout": bytearray(), "stderr": bytearray(), "status": bytearray()}
        self.breach: Ending | None = None
        self.reason = ""
        self.began = self.start = time.monotonic()
        self.next_look = math.inf

    def follow(self, status: int) -> None:
        """Read output until it ends, or a limit is broken."""
        with selectors.DefaultSelector() as selector:
            streams: list[tuple[IO[bytes] | int | None, str]] = [
                (self.process.stdout, "stdout"),
                (self.process.stderr, "stderr"),
                (status, "status"),
            ]
            for stream, name in streams:
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ, name)
            while selector.get_map() and self.breach is None:
                for key, _ in selector.select(self._wait()):
                    data = os.read(key.fd, 1 << 16)
                    if data:
                        self._take(key.data, data)
                    else:
                        selector.unregister(key.fileobj)
                self.breach = self.breach or self._broken()

    def conclude(self) -> Ended:
        """How it ended, from the limit that was broken or from what process 1 reported."""
        seconds = time.monotonic() - self.began
        stdout, stderr = (self.streams[n].decode(errors="replace") for n in ("stdout", "stderr"))
        reports = dict[str, Any]()
        for line in self.streams["status"].splitlines():
            reports |= json.loads(line)
        ending, code = self.breach, 0
        if ending is None and self._full():
            ending = Ending.OUT_OF_MEMORY
        elif ending is None and "exit" in reports:
            ending, code = Ending.EXITED, reports["exit"]
        elif ending is None and "signal" in reports:
            code = reports["signal"]
            out_of_time = code == signal.SIGXCPU or reports["cpu"] >= self.limits.cpu_seconds
            ending = Ending.TIMED_OUT if out_of_time else Ending.KILLED
        elif ending is None:
            last = (stderr.strip().splitlines() or [""])[-1]
            silent = "the sandbox was killed from outside" if "ready" in reports else "it did not start"
            self.reason = reports.get("failed") or ("" if "ready" in reports else last) or silent
            ending = Ending.ENVIRONMENT_FAILED
        return Ended(ending, code, stdout, stderr, seconds, self.reason)

    def _take(self, name: str, data: bytes) -> None:
        stream = self.streams[name]
        if name == "status":
            if not stream:  # the command starts now, and so does its clock
                self.began = self.next_look = time.monotonic()
            stream += data
            return
        room = self.limits.output_kb * 1024 - len(self.streams["stdout"]) - len(self.streams["stderr"])
        stream += data[:room]
        if len(data) > room:
            self.breach = Ending.TOO_MUCH_OUTPUT

    def _wait(self) -> float:
        """Seconds until the next look at the clock or the memory."""
        return min(_POLL, max(0.0, self.next_look - time.monotonic()))

    def _broken(self) -> Ending | None:
        now = time.monotonic()
        if self.stop is not None and self.stop.is_set():
            return Ending.STOPPED
        if not self.streams["status"]:
            if now - self.start < _START:
                return None
            self.reason = f"it did not start within {_START:.0f} seconds"
            return Ending.ENVIRONMENT_FAILED
        if now - self.began > self.limits.seconds:
            return Ending.TIMED_OUT
        if self._full():
            return Ending.OUT_OF_MEMORY
        if now >= self.next_look:
            most = self.limits.memory_mb * _MB
            free = most - measure_memory(self.process.pid, most, kernel=self.group is None)
            if free < 0:
                return Ending.OUT_OF_MEMORY
            look_seconds = time.monotonic() - now
            pause = max(_LOOK, 9 * look_seconds)
            if self.group is None:
                pause = max(look_seconds, min(pause, free / _GROWTH))
            self.next_look = time.monotonic() + pause
        return None

    def _full(self) -> bool:
        return self.group is not None and self.group.broken()
