"""The filter of system calls, run: every call on its list fails inside, and what programs need does not."""

from __future__ import annotations

import json
import platform

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox import seccomp
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Sandbox, run

# each call with no arguments: without the filter most answer EFAULT, EINVAL or succeed
CALLS = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
print(json.dumps({name: tried(number, 0, 0, 0, 0, 0, 0) for name, number in json.loads(sys.argv[1]).items()}))
"""
ORDINARY = """
import os, socket, subprocess, sys, threading, resource
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
subprocess.run([sys.executable, "-I", "-S", "-c", "print('process')"], check=True)
near, far = socket.socketpair(); near.send(b"pair"); print(far.recv(4).decode())
socket.socket(socket.AF_INET).close(); socket.socket(socket.AF_INET6).close()
resource.prlimit(0, resource.RLIMIT_NOFILE, (16, 16)); print(resource.getrlimit(resource.RLIMIT_NOFILE))
os.mkfifo("fifo"); os.sched_getaffinity(0); print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.fixture(scope="module")
def column() -> int:
    return list(seccomp._ARCHITECTURES).index(platform.machine())


def test_every_listed_call_fails(any_box: Sandbox, column: int) -> None:
    numbers = {name: row[column] for name, row in seccomp._DENIED.items() if row[column] >= 0}
    command = [any_box.view.python, "-I", "-S", "-c", CALLS, json.dumps(numbers)]
    found = json.loads(run(any_box, command, {}, Limits()).stdout)
    assert found == dict.fromkeys(numbers, "EPERM")


def test_clone3_seems_not_to_exist(any_box: Sandbox, column: int) -> None:
    command = [any_box.view.python, "-I", "-S", "-c", CALLS, json.dumps({"clone3": seccomp._CLONE3[column]})]
    assert json.loads(run(any_box, command, {}, Limits()).stdout) == {"clone3": "ENOSYS"}


REACHING = """
import errno, fcntl, json, os, socket, struct
shown, own = open("/etc/passwd") if os.path.exists("/etc/passwd") else open(os.__file__), open("own", "w")
near, far = socket.socketpair()
found = {}
def tried(name, work):
    try:
        found[name] = str(work())[:0] or "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
tried("flock", lambda: fcntl.flock(shown, fcntl.LOCK_SH))
tried("lockf", lambda: fcntl.fcntl(shown, fcntl.F_SETLK, lock))
tried("ofd", lambda: fcntl.fcntl(shown, 37, lock))
tried("lease", lambda: fcntl.fcntl(own, 1024, 0))
tried("notify", lambda: fcntl.fcntl(shown, 1026, 1))
for name, option in {"send": 7, "receive": 8, "send force": 32, "receive force": 33}.items():
    tried(name, lambda: near.setsockopt(socket.SOL_SOCKET, option, 1 << 22))
tried("peer", lambda: near.getsockopt(socket.SOL_SOCKET, 77))
tried("flags", lambda: fcntl.fcntl(shown, fcntl.F_GETFL))
tried("reuse", lambda: near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
tried("type", lambda: near.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
print(json.dumps(found))
"""


def test_locks_buffers_and_holds_on_others_fail_by_their_numbers(any_box: Sandbox) -> None:
    ended = run(any_box, [any_box.view.python, "-I", "-S", "-c", REACHING], {}, Limits())
    found = json.loads(ended.stdout)
    allowed = {name: found.pop(name) for name in ("flags", "reuse", "type")}
    assert allowed == dict.fromkeys(allowed, "done")
    assert found == dict.fromkeys(found, "EPERM") and len(found) == 10


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


def test_numbers_are_each_call_s_own() -> None:
    for column in (0, 1):
        numbers = [row[column] for row in seccomp._DENIED.values() if row[column] >= 0]
        assert len(set(numbers)) == len(numbers)


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
