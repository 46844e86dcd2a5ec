"""Every attempt of `bombs.py` is stopped in the stated way, and leaves no process behind."""

from __future__ import annotations

import secrets
import signal
from pathlib import Path

import bombs
import psutil
import pytest

from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Ended, Ending, Sandbox, run

TIGHT = Limits(seconds=60, cpu_seconds=1, memory_mb=128, processes=12, disk_mb=4, files=64, open_files=20, output_kb=64)
WAITING = {"fork_bomb", "sleep_forever", "stop_oneself"}  # the clock alone stops these
MB = 1 << 20
# how each ends, and the least and the most that it may have got
STOPPED = {
    "fork_bomb": (Ending.TIMED_OUT, None),
    "count_processes": (Ending.EXITED, (5, 12)),
    "count_threads": (Ending.EXITED, (5, 12)),
    "memory_bomb": (Ending.EXITED, (40, 128)),
    "mapped_memory": (Ending.EXITED, (40, 128)),
    "memory_in_sum": (Ending.OUT_OF_MEMORY, None),
    "hidden_memory_in_sum": (Ending.OUT_OF_MEMORY, None),
    "large_file": (Ending.EXITED, (3 * MB, 4 * MB)),
    "sparse_file": (Ending.EXITED, (0, 0)),
    "many_large_files": (Ending.EXITED, (3 * MB, 4 * MB)),
    "many_files": (Ending.EXITED, (50, 64)),
    "many_open_files": (Ending.EXITED, (10, 20)),
    "flood_output": (Ending.TOO_MUCH_OUTPUT, None),
    "flood_errors": (Ending.TOO_MUCH_OUTPUT, None),
    "flood_from_children": (Ending.TOO_MUCH_OUTPUT, None),
    "sleep_forever": (Ending.TIMED_OUT, None),
    "spin": (Ending.TIMED_OUT, signal.SIGXCPU),
    "spin_deaf": (Ending.TIMED_OUT, signal.SIGKILL),
    "stop_oneself": (Ending.TIMED_OUT, None),
    "daemon": (Ending.EXITED, "left"),
    "wait_for_input": (Ending.EXITED, "no input"),
    "deep_recursion": (Ending.KILLED, signal.SIGSEGV),
    "crash": (Ending.KILLED, signal.SIGSEGV),
    "dump_core": (Ending.KILLED, signal.SIGABRT),
}


def explode(box: Sandbox, name: str) -> Ended:
    """Run a bomb; its processes carry a token in their arguments, by which the host would find them."""
    token = secrets.token_hex(8)
    files = {"bombs.py": Path(bombs.__file__).read_text()}
    limits = TIGHT.model_copy(update={"seconds": 1.0}) if name in WAITING else TIGHT
    ended = run(box, [box.view.python, "-I", "-S", "bombs.py", name, token], files, limits)
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if token in (p.info["cmdline"] or [])]
    assert not left, f"{name} left processes behind"
    return ended


def test_every_bomb_goes_off() -> None:
    assert set(STOPPED) == set(bombs.BOMBS)


@pytest.mark.parametrize("name", STOPPED)
def test_it_is_stopped(name: str, box: Sandbox) -> None:
    how, got = STOPPED[name]
    ended = explode(box, name)
    assert ended.how is how, ended
    assert len(ended.stdout) + len(ended.stderr) <= TIGHT.output_kb * 1024
    if isinstance(got, tuple):
        assert got[0] <= int(ended.stdout) <= got[1]
    elif isinstance(got, str):
        assert ended.stdout.strip() == got
    elif got is not None:
        assert ended.code == got
