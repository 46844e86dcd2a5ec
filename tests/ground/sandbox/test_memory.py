"""No attempt of `hoards.py` makes the host hold more than half as much again as the limit, by the kernel's own count."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import hoards
import psutil
import pytest

from charter.ground.sandbox import group
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.memory import measure_memory
from charter.ground.sandbox.process import Ended, Ending, Sandbox, run

MB = 1 << 20
LIMITS = Limits(seconds=20, memory_mb=128)
ENDED = {  # by the kernel, or by a look: these take what a limit of each process does not bound
    "bytes_everywhere",
    "private_mappings",
    "shared_mappings",
    "files_and_bytes",
    "full_sockets",
    "sockets_of_datagrams",
    "sockets_that_nobody_accepts",
    "page_tables",
    "long_arguments",
}


@pytest.fixture
def grouped(any_box: Sandbox) -> Sandbox:
    """The sandbox of this machine with a control group."""
    if any_box.groups is None:
        pytest.skip("no control group that counts memory can be made here")
    return any_box


def hoard(box: Sandbox, name: str, limits: Limits = LIMITS) -> Ended:
    files = {"hoards.py": Path(hoards.__file__).read_text()}
    return run(box, [box.view.python, "-I", "-S", "hoards.py", name], files, limits)


def peaks(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The most that each group of the sandbox held, in bytes, kept as groups are removed."""
    peak_bytes = list[int]()
    remove, name = (
        group._remove,
        "memory.peak" if box.groups and box.groups.version == 2 else "memory.max_usage_in_bytes",
    )

    def record_peak(folder: Path) -> None:
        with suppress(OSError):  # memory.peak is there from Linux 5.19 on
            peak_bytes.append(int((folder / name).read_text()))
        remove(folder)

    monkeypatch.setattr(group, "_remove", record_peak)
    return peak_bytes


@pytest.mark.parametrize("name", hoards.HOARDS)
def test_the_host_holds_half_as_much_again_at_most(
    name: str, grouped: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak_bytes = peaks(grouped, monkeypatch)
    ended = hoard(grouped, name)
    assert ended.how is Ending.OUT_OF_MEMORY if name in ENDED else ended.how is not Ending.ENVIRONMENT_FAILED, ended
    assert len(peak_bytes) == 1 and peak_bytes[0] <= 1.5 * LIMITS.memory_mb * MB
    assert not list(Path(grouped.groups.folder).glob(f"charter-sandbox-{os.getpid()}-*"))  # type: ignore[union-attr]


@pytest.mark.parametrize("name", sorted(ENDED))
def test_without_a_group_looking_ends_it(name: str, any_box: Sandbox) -> None:
    ended = hoard(replace(any_box, groups=None), name)
    assert ended.how is Ending.OUT_OF_MEMORY, ended


def test_whom_the_kernel_ends_is_out_of_memory_though_its_parent_leaves_well(grouped: Sandbox) -> None:
    code = (
        "import os, socket\n"
        "if os.fork() == 0:\n    held = []\n    while True:\n        near, far = socket.socketpair()\n"
        "        near.setblocking(False)\n        held.append(far)\n"
        "        try:\n            while True:\n                near.send(bytes(1 << 17))\n"
        "        except OSError:\n            pass\n"
        "os.wait()\nos._exit(0)\n"
    )
    limits = LIMITS.model_copy(update={"memory_mb": 64, "open_files": 2000})
    ended = run(grouped, [grouped.view.python, "-I", "-S", "-c", code], {}, limits)
    assert ended.how is Ending.OUT_OF_MEMORY, ended


def test_a_group_counts_what_its_command_holds_and_ends_it(grouped: Sandbox) -> None:
    """The group by itself, around a command that is in no sandbox."""
    assert grouped.groups is not None
    code = "held = bytearray(b'x' * (200 << 20)); print(len(held))"
    with grouped.groups.group(100 * MB, 4) as control_group:
        done = subprocess.run(control_group.joining([sys.executable, "-c", code]), capture_output=True, check=False)
        assert done.returncode != 0 and done.stdout == b"" and control_group.broken()
    with grouped.groups.group(600 * MB, 4) as control_group:
        done = subprocess.run(control_group.joining([sys.executable, "-c", code]), capture_output=True, check=True)
        assert done.stdout == b"209715200\n" and not control_group.broken()
    assert not control_group.folder.exists()


def test_groups_of_a_charter_that_is_gone_are_removed(grouped: Sandbox) -> None:
    assert grouped.groups is not None
    gone = subprocess.Popen([sys.executable, "-c", "1"])
    gone.wait()
    left = grouped.groups.folder / f"charter-sandbox-{gone.pid}-0"
    mine = grouped.groups.folder / f"charter-sandbox-{os.getpid()}-x"
    left.mkdir()
    mine.mkdir()
    try:
        group.place.cache_clear()
        group.place()
        assert not left.exists() and mine.exists()
    finally:
        mine.rmdir()


def test_a_folder_of_version_2_is_one_that_passes_memory_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "user" / "service" / "own"
    own.mkdir(parents=True)
    for folder, passed in (
        (tmp_path, "memory"),
        (tmp_path / "user", "cpu memory pids"),
        (own.parent, "pids"),
        (own, ""),
    ):
        (folder / "cgroup.subtree_control").write_text(f"{passed}\n")
    shown = {
        "/proc/self/mountinfo": [f"30 20 0:26 / {tmp_path} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"],
        "/proc/self/cgroup": ["0::/user/service/own"],
    }
    read = group._lines
    monkeypatch.setattr(group, "_lines", lambda path, end="\n": shown.get(path) or read(path, end))
    assert list(group._candidates()) == [group.Place(2, tmp_path / "user"), group.Place(2, tmp_path)]


HOLDING = {
    "bytes": "held = bytearray(b'x' * (40 << 20))",
    "pipes": "held = [os.pipe() for _ in range(100)]",
    "sockets": "held = [socket.socketpair() for _ in range(50)]",
}


@pytest.mark.parametrize(("name", "kernel", "most"), [("bytes", False, 40), ("pipes", True, 6), ("sockets", True, 30)])
def test_a_look_counts(name: str, kernel: bool, most: int) -> None:
    """What a child of a child holds, under namespaces of its own for sockets where it may have one."""
    code = f"import os, socket, sys\n{HOLDING[name]}\nprint('ready', flush=True)\nsys.stdin.read()\n"
    around = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", around], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdin is not None
        parent.stdout.readline()
        assert measure_memory(parent.pid, most * MB, kernel) > most * MB
        assert measure_memory(parent.pid, 4096 * MB, kernel) <= 4096 * MB
        parent.stdin.close()
    assert not psutil.pid_exists(parent.pid) or measure_memory(parent.pid, 0, kernel) == 0
