"""Computing in a thread that ends with it, and leaves no helpers of OpenMP behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.fair import apart


def test_what_is_made_and_raised_comes_back_from_another_thread_that_is_gone() -> None:
    seen: list[threading.Thread] = []

    def work(one: int, *, two: int) -> int:
        seen.append(threading.current_thread())
        if not one:
            raise CharterError("none")
        return one + two

    assert apart(work, 1, two=2) == 3
    with pytest.raises(CharterError, match="none"):
        apart(work, 0, two=2)
    assert threading.current_thread() not in seen and not any(thread.is_alive() for thread in seen)


COUNT = """
import os, time, torch
from charter.ground.generate.fair import apart
def product():
    torch.ones(512, 512) @ torch.ones(512, 512)
    (torch.ones(10**6) + 1).sum()
    return len(os.listdir("/proc/self/task"))
before = len(os.listdir("/proc/self/task"))
while_computing = apart(product)
time.sleep(0.5)
after = len(os.listdir("/proc/self/task"))
product()
kept = len(os.listdir("/proc/self/task"))
print(while_computing - before, after - before, kept - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_helper_of_openmp_is_left() -> None:
    found = subprocess.run(
        [sys.executable, "-c", COUNT],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    computing, after, kept = map(int, found.stdout.split())
    if kept == 0:
        pytest.skip("torch has no helpers of OpenMP here")
    assert computing > 1 and after == 0
