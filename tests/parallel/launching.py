"""Runs of one recipe in one process, here, and in several that torchrun starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import record_files, write_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.execute import execute
from charter.runner.plan import make_plan

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def recipe(folder: Path, steps: Sequence[dict[str, Any]]) -> Path:
    """Writes a recipe of these steps."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "several", "seed": 5, "steps": list(steps)}))
    return path


def as_artifact(folder: Path, kind: str) -> Path:
    """Gives a folder the manifest of a finished artifact."""
    files = record_files(folder)
    write_manifest(
        folder,
        Manifest(kind=kind, id="0" * 64, status="done", step=folder.name, room="corpus", recipe="", files=files),  # type: ignore[arg-type]
    )
    return folder


class Notes(SilentProgress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def alone(path: Path, out: Path) -> list[str]:
    """Runs a recipe in this process; returns its notes."""
    notes = Notes()
    execute(make_plan(load_recipe(path, []), path.parent, out, Execution()), notes)
    return notes.said


@contextmanager
def started(
    path: Path, out: Path, size: int, restarts: int = 0, program: Sequence[str] = ("-m", "charter")
) -> Iterator[subprocess.Popen[str]]:
    """The same in several processes, which are ended at the end."""
    command = [*TORCHRUN, f"--nproc-per-node={size}", f"--max-restarts={restarts}", *program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    made = subprocess.Popen(
        [*command, "run", str(path), "--out", str(out), "--device", "cpu", "--precision", "float32"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield made
    finally:
        ended = [*workers(made), psutil.Process(made.pid)] if made.poll() is None else []
        for process in ended:
            process.kill()
        psutil.wait_procs(ended)  # until then the run's lock is held
        made.wait()
        if made.stdout is not None:
            made.stdout.close()


def together(path: Path, out: Path, size: int) -> str:
    """Runs a recipe in several processes to its end; returns what they said."""
    with started(path, out, size) as made:
        said, _ = made.communicate(timeout=240)
    assert made.returncode == 0, said
    return said


def workers(made: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that torchrun has started, by rank."""
    found = [child for child in psutil.Process(made.pid).children() if "RANK" in child.environ()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


def wait_for(made: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Waits until something has happened in the run."""
    while not happened():
        assert made.poll() is None, made.communicate()[0]
        try:
            made.wait(0.005)
        except subprocess.TimeoutExpired:
            continue


def log_of(out: Path, step: str) -> list[dict[str, Any]]:
    """The curve of a step."""
    return [json.loads(line) for line in (out / step / "log.jsonl").read_text().splitlines()]


def apart(one: Path, other: Path, step: str, key: str = "loss") -> float:
    """The largest difference between two curves, which must have equal lengths."""
    rows = zip(log_of(one, step), log_of(other, step), strict=True)
    return max(abs(a[key] - b[key]) for a, b in rows if key in a or key in b)
