"""Threads for replies: as many as cores are idle elsewhere, and a line on a busy machine."""

from __future__ import annotations

import time

import psutil
import pytest

from charter.ground.generate.threads import Threads


class Machine:
    """A machine of four cores whose other programs keep `others` of them busy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, others: float = 0.0) -> None:
        self.others, self.now, self.put, self.lines = others, 0.0, list[int](), list[str]()
        monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
        monkeypatch.setattr("torch.get_num_threads", lambda: 4)

    def times(self) -> tuple[float, float, float]:
        self.now += 1.0
        return self.now, self.now * (self.others + 0.8), self.now * 0.8

    def threads(self) -> Threads:
        return Threads(self.times, self.put.append, self.lines.append)


@pytest.mark.parametrize(("others", "count"), [(0.0, 4), (0.2, 4), (1.0, 3), (2.9, 1), (9.0, 1)])
def test_threads_leave_busy_cores_alone(monkeypatch: pytest.MonkeyPatch, others: float, count: int) -> None:
    machine = Machine(monkeypatch, others)
    threads = machine.threads()
    for _ in range(2):
        with threads.step():
            pass
    assert threads.count == count
    assert machine.put == ([] if count == 4 else [count])


def test_a_busy_machine_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, now = Machine(monkeypatch), [0.0]
    threads = machine.threads()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "thread_time", lambda: now[0] / 20)
    for _ in range(50):
        with threads.step():
            now[0] += 1.0
    (line,) = machine.lines
    assert line.startswith("charter: this machine is busy: replies get 5 % of a core; ")
