"""The machine that does the work: what a manifest records of it, and differences that change numbers."""

import importlib.metadata
import os
import platform
import sys
import time
from dataclasses import dataclass

import psutil

from charter.ground.artifact.manifest import Environment
from charter.ground.settings.execution import Execution, instructions

# rounds of waiting, about 0.1 ms: longer than the gap between two products, shorter than a turn of the scheduler
SPINS = "2000"
GLANCE_SECONDS = 0.05  # of looking whether the machine is idle
IDLE_SHARE = 0.8  # of the processors' time, from which it is
PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "gguf", "pydantic", "scipy")


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between two environments that changes rounding. `remedy`: how to remove it, in words; `variable`:
    text to write before a command, if that suffices."""

    what: str
    made: str
    here: str
    remedy: str
    variable: str


def difference(recorded: Environment, here: Environment) -> Difference | None:
    """The first difference between a recorded environment and this one, or None if equal work gives equal numbers. A
    field that an older manifest lacks (`instructions`) is no difference."""
    features = here.instructions if recorded.instructions else ""
    threads = f"OMP_NUM_THREADS={recorded.threads}"
    rows = (
        ("torch version", recorded.torch, here.torch, f"install torch {recorded.torch}", ""),
        ("threads", recorded.threads, here.threads, f"run with {threads}", f"{threads} "),
        ("device", recorded.device, here.device, f"run with --device {recorded.device}", ""),
        ("precision", recorded.precision, here.precision, f"run with --precision {recorded.precision}", ""),
        ("CPU instructions", recorded.instructions, features, "run on a CPU that has these and no others", ""),
    )
    for fact, before, now, remedy, variable in rows:
        if before != now:
            return Difference(fact, str(before) or "none", str(now) or "none", remedy, variable)
    return None


def environment_of(execution: Execution) -> Environment:
    """The facts of this machine that a manifest records and `difference` compares."""
    return Environment(
        python=platform.python_version(),
        torch=version_of("torch"),
        threads=thread_count(),
        processes=process_count(),
        device=execution.device,
        precision=execution.precision,
        platform=f"{sys.platform}-{platform.machine()}",
        instructions=" ".join(instructions()),
        packages={name: version for name in PACKAGES if (version := version_of(name))},
    )


def version_of(package: str) -> str:
    """The installed version of a package, without loading it; "" if it isn't installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def process_count() -> int:
    """The number of processes that run a recipe together: WORLD_SIZE, which torchrun sets."""
    value = os.environ.get("WORLD_SIZE", "")
    return int(value) if value.isdigit() and int(value) > 0 else 1


def physical_cores() -> int:
    """Physical processor cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def spinning(adapts: bool = False) -> dict[str, str]:
    """The variable that ends the waiting of idle threads early, unless the user has set how they wait.

    By default OpenMP's threads wait awake for milliseconds, which takes the core from others' work and then from their
    own; threads that sleep wake later, so alone they are slower. `adapts`: the command takes fewer threads once the
    machine is busy (`generate.threads`), so on an idle machine its threads may wait awake. It must be set before torch
    is loaded.
    """
    variables = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    return {} if variables or (adapts and is_idle()) else {"GOMP_SPINCOUNT": SPINS}


def is_idle() -> bool:
    """Whether the machine's processors have next to nothing to do, by a glance at them."""
    before = psutil.cpu_times()
    time.sleep(GLANCE_SECONDS)
    spent = psutil.cpu_times()
    passed, idle = sum(spent[:8]) - sum(before[:8]), spent.idle - before.idle
    return passed > 0 and idle >= IDLE_SHARE * passed


def thread_count() -> int:
    """The number of threads that torch will use: OMP_NUM_THREADS (the launcher sets it) or physical cores."""
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(value) if value.isdigit() and int(value) > 0 else physical_cores()
