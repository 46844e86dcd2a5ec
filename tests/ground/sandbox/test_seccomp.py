"""The filter of system calls, run: every call that is not on its list fails inside, and what programs need works."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ordinary
import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox import seccomp
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Sandbox, run

ORDINARY = """
import os, socket, subprocess, sys, threading, resource
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
subprocess.run([sys.executable, "-I", "-S", "-c", "print('process')"], check=True)
near, far = socket.socketpair(); near.send(b"pair"); print(far.recv(4).decode())
socket.socket(socket.AF_INET).close(); socket.socket(socket.AF_INET6).close()
resource.prlimit(0, resource.RLIMIT_NOFILE, (16, 16)); print(resource.getrlimit(resource.RLIMIT_NOFILE))
os.mkfifo("fifo"); os.sched_getaffinity(0); print(os.getpriority(os.PRIO_PROCESS, 0))
"""
# each call with no arguments: without the filter most answer EFAULT, EINVAL or succeed
CALLS = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
print(json.dumps([tried(number, 0, 0, 0, 0, 0, 0) for number in json.loads(sys.argv[1])]))
"""
X32 = 0x40000000  # calls of the x32 kind start here
PROBES = {335, 336}  # uretprobe and uprobe of x86_64, which the kernel passes by every filter: they end the process


def test_every_call_that_is_not_listed_fails(any_box: Sandbox) -> None:
    allowed, by_argument, absent = seccomp.calls(platform.machine())
    listed = {*allowed.values(), *by_argument.values(), *PROBES}
    numbers = [n for n in (*range(600), X32, X32 + 1) if n not in listed]
    command = [any_box.view.python, "-I", "-S", "-c", CALLS, json.dumps(numbers)]
    results = dict(zip(numbers, json.loads(run(any_box, command, {}, Limits()).stdout), strict=True))
    unknown = {n for n in numbers if n > seccomp._NEWEST or n in absent.values()}
    assert results == {n: "ENOSYS" if n in unknown else "EPERM" for n in numbers}
    assert len(results) > 350


@pytest.mark.parametrize(
    ("machine", "header"), [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")]
)
def test_numbers_are_those_of_the_kernel_s_headers(machine: str, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    rows = re.findall(r"^#define __NR(?:3264)?_(\w+) (\d+)", path.read_text(), re.M)
    known = {name: int(number) for name, number in rows}
    known.setdefault("newfstatat", known.get("fstatat", -1))
    listed = {name: number for part in seccomp.calls(machine) for name, number in part.items()}
    listed.pop("fchmodat2") if "fchmodat2" not in known else None  # newer than some headers
    assert listed == {name: known[name] for name in listed}


def test_each_number_stands_once() -> None:
    for machine in seccomp._ARCHITECTURES:
        numbers = [n for part in seccomp.calls(machine) for n in part.values()]
        assert len(set(numbers)) == len(numbers) > 150


REACHING = """
import ctypes, errno, fcntl, json, os, socket, struct
shown, own = open(os.__file__), open("own", "w")
near, far = socket.socketpair()
reading, writing = os.pipe()
libc = ctypes.CDLL(None, use_errno=True)
found = {}
def tried(name, work):
    try:
        found[name] = str(work())[:0] or "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
def prctl(*arguments):
    if libc.prctl(*arguments, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")
lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
tried("flock", lambda: fcntl.flock(shown, fcntl.LOCK_SH))
tried("who locks", lambda: fcntl.fcntl(shown, fcntl.F_GETLK, lock))
tried("ofd", lambda: fcntl.fcntl(shown, 37, lock))
tried("lease", lambda: fcntl.fcntl(own, 1024, 0))
tried("notify", lambda: fcntl.fcntl(shown, 1026, 1))
tried("owner", lambda: fcntl.fcntl(near, 8, os.getpid()))
tried("larger pipe", lambda: fcntl.fcntl(writing, 1031, 1 << 20))
for name, option in {"send": 7, "receive": 8, "send force": 32, "receive force": 33, "program": 26, "pids": 76}.items():
    tried(name, lambda: near.setsockopt(socket.SOL_SOCKET, option, 1 << 22))
tried("groups", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(0, 35, bytes(8)))
for name, option in {"peer": 77, "credentials": 17}.items():
    tried(name, lambda: near.getsockopt(socket.SOL_SOCKET, option))
tried("undumpable", lambda: prctl(4, 0, 0))
tried("a name for memory", lambda: prctl(0x53564D41, 0, 0))
refused = found
found = {}
tried("flags", lambda: fcntl.fcntl(shown, fcntl.F_GETFL))
tried("copied", lambda: os.close(fcntl.fcntl(shown, fcntl.F_DUPFD, 9)))
tried("record lock", lambda: fcntl.fcntl(shown, fcntl.F_SETLK, lock))
tried("reuse", lambda: near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
tried("type", lambda: near.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
tried("blocking", lambda: os.set_blocking(near.fileno(), False))
tried("inherited", lambda: os.set_inheritable(near.fileno(), True))
tried("name", lambda: prctl(15, b"name", 0))
allowed = found
found = {}
tried("terminal", lambda: fcntl.ioctl(shown, 0x5412, b"x"))
tried("attributes", lambda: fcntl.ioctl(shown, 0x80086601, bytes(8)))
print(json.dumps([refused, allowed, found]))
"""


def test_calls_of_many_uses_pass_by_their_arguments(any_box: Sandbox) -> None:
    ended = run(any_box, [any_box.view.python, "-I", "-S", "-c", REACHING], {}, Limits())
    refused, allowed, of_devices = json.loads(ended.stdout)
    assert refused == dict.fromkeys(refused, "EPERM") and len(refused) == 18
    assert allowed == dict.fromkeys(allowed, "done") and len(allowed) == 8
    assert of_devices == dict.fromkeys(of_devices, "ENOTTY") and len(of_devices) == 2


LOCKING = """
import fcntl, os, struct, sys
descriptor = os.open(os.__file__, os.O_RDONLY)
fcntl.fcntl(descriptor, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
os.write(int(sys.argv[1]), b"locked")
os.read(int(sys.argv[1]), 1)
"""


def test_a_record_lock_that_seems_granted_keeps_nobody_waiting(any_box: Sandbox) -> None:
    try:
        host = os.open(os.__file__, os.O_RDWR)  # as whoever renews the library would
    except OSError:
        pytest.skip("Python's library can't be opened for writing here, so nobody would wait")
    near, far = socket.socketpair()
    command = [any_box.view.python, "-I", "-S", "-c", LOCKING, str(far.fileno())]
    near.settimeout(30)
    with near, far, ThreadPoolExecutor(1) as aside:
        ended = aside.submit(run, any_box, command, {}, Limits(), far.fileno())
        assert near.recv(6) == b"locked"
        fcntl.lockf(host, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(host)
        near.send(b".")
        assert ended.result().code == 0


def test_the_standard_library_works(any_box: Sandbox) -> None:
    """Every use of it that `ordinary.py` makes, in one program."""
    files = {"ordinary.py": Path(ordinary.__file__).read_text()}
    command = [any_box.view.python, "-s", "-S", "-P", "ordinary.py", *ordinary.USES]
    ended = run(any_box, command, files, Limits(seconds=60, cpu_seconds=30))
    results = [json.loads(line) for line in ended.stdout.splitlines()]
    assert results == [[name, "works"] for name in ordinary.USES], ended.stderr


def test_ordinary_programs_are_not_hindered(any_box: Sandbox) -> None:
    ended = run(any_box, [any_box.view.python, "-I", "-S", "-u", "-c", ORDINARY], {}, Limits())
    assert ended.stdout.split("\n")[:4] == ["thread", "process", "pair", "(16, 16)"], ended
    assert ended.code == 0


def test_calls_of_another_architecture_end_the_process(any_box: Sandbox) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("32-bit calls beside 64-bit ones are tried on x86_64")
    # mov eax, 20 (getpid of i386); int 0x80; ret
    code = (
        "import ctypes, mmap\n"
        "room = mmap.mmap(-1, 4096, prot=7)\n"
        "room.write(bytes.fromhex('b814000000cd80c3'))\n"
        "place = ctypes.addressof(ctypes.c_char.from_buffer(room))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(place)())\n"
    )
    ended = run(any_box, [any_box.view.python, "-I", "-S", "-c", code], {}, Limits())
    assert (ended.how, ended.code, ended.stdout) == ("killed by a signal", 31, "")  # SIGSYS


def test_jumps_stay_inside_the_program() -> None:
    for machine in seccomp._ARCHITECTURES:
        program = seccomp.system_call_filter(machine)
        steps = [program[i : i + 8] for i in range(0, len(program), 8)]
        assert len(steps) <= 4096
        for place, step in enumerate(steps):
            if step[0] & 7 == 5:  # a jump
                assert place + 1 + max(step[2], step[3]) < len(steps)
        assert steps[-1][0] == seccomp._RETURN


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(CharterError, match="riscv64"):
        seccomp.system_call_filter("riscv64")
