"""The code of Ray's processes: the actor that knows who makes which chunk, and the workers that make them.

Only text and numbers travel: tasks and outcomes are JSON.
"""

import json
import os
import socket
import time
import traceback
from typing import Any

import ray

from charter.ground.artifact.errors import CharterError
from charter.runner.following import Task, follow, host

# Seconds between two looks for chunks that others make.
WAIT_SECONDS = 0.25


class Claims:
    """Which worker makes which chunk of a step, and where the workers are."""

    def __init__(self) -> None:
        self._made_by: dict[tuple[str, int], str] = {}
        self._places: dict[str, tuple[str, str, int]] = {}

    def arrive(self, worker: str, machine: str, name: str, process: int) -> None:
        """Records that a worker has started: its machine, the machine's name, and its process."""
        self._places[worker] = machine, name, process

    def places(self) -> dict[str, tuple[str, str, int]]:
        """Machine, machine's name and process of every worker that has started."""
        return self._places

    def claim(self, worker: str, key: str, number: int) -> bool:
        """Whether a worker shall make a chunk: the first that asks, until it is lost."""
        return self._made_by.setdefault((key, number), worker) == worker

    def free(self, worker: str) -> None:
        """Frees the chunks of a lost worker for whoever asks next; its finished chunks are on the disk."""
        self._made_by = {chunk: by for chunk, by in self._made_by.items() if by != worker}


class Worker:
    """One process that follows a step. `claims` is a handle of the actor Claims."""

    def __init__(self, name: str, claims: Any) -> None:
        self._name, self._claims = name, claims

    def follow(self, task: str) -> str:
        """Runs the step of a task until its end. Returns JSON: `error` in one line or null, and the `trace` of an
        unforeseen error."""
        ray.get(self._claims.arrive.remote(self._name, host(), socket.gethostname(), os.getpid()))
        try:
            follow(Task.model_validate_json(task), Claiming(self._name, self._claims))
        except CharterError as error:
            return json.dumps({"error": str(error), "trace": None})
        except Exception as error:
            line = f"{type(error).__name__}: {error} (a worker on {socket.gethostname()})"
            return json.dumps({"error": line, "trace": traceback.format_exc()})
        return json.dumps({"error": None, "trace": None})


class Claiming:
    """A worker's share: the chunks that it claims first."""

    leads = False

    def __init__(self, name: str, claims: Any) -> None:
        self._name, self._claims = name, claims

    def claim(self, key: str, number: int) -> bool:
        """Asks the actor."""
        return bool(ray.get(self._claims.claim.remote(self._name, key, number)))

    def wait(self) -> None:
        """Others are at work."""
        time.sleep(WAIT_SECONDS)
