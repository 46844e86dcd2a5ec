"""Process 1 of a sandbox: makes the private file system, drops every privilege, starts the command, waits.

It runs inside, under either way of containment, with nothing but the standard library: bubblewrap gets this file's
text, `enter` calls `main`. The job comes as JSON on standard input. On the descriptor `status` it reports one JSON
object a line: {"failed": why}, or {"ready": true} and then how the command ended. That descriptor never reaches the
command, and the command can't touch this process (kernel: process 1 of a namespace gets no signal from inside that
it doesn't handle), so what is reported can't be forged.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

BOX = "/box"  # the private file system, the working folder and the home of the command
NOBODY = 65534  # the sandbox's user, seen from inside
ENVIRONMENT = {
    "HOME": BOX,
    "TMPDIR": BOX,
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # two runs of a program iterate its sets in one order
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "1",  # else each thread takes 64 MB of addresses, which count as memory
}

_LIBC = ctypes.CDLL(None, use_errno=True)
# <sys/prctl.h>, <sys/mount.h>, <linux/capability.h>, <linux/seccomp.h>
_SECCOMP, _DROP_BOUNDING, _NO_NEW_PRIVILEGES, _AMBIENT, _CLEAR_AMBIENT = 22, 24, 38, 47, 4
_NOSUID, _NODEV = 2, 4
_CAPABILITIES_3 = 0x20080522
_FILTER_MODE = 2


def main() -> None:
    """Do the job on standard input, and exit; what the command left running dies with this process."""
    job = json.load(sys.stdin)
    status = job["status"]
    os.set_inheritable(status, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one signal that Python would handle
    try:
        with open("/dev/null") as null:
            os.dup2(null.fileno(), 0)
        _mount_box(job)
        command = _start(job)
    except OSError as error:
        _report(status, failed=str(error))
        os._exit(1)
    _report(status, ready=True)
    pid = 0
    while pid != command:  # orphans become children of process 1
        pid, code, usage = os.wait4(-1, 0)
    seconds = usage.ru_utime + usage.ru_stime
    if os.WIFSIGNALED(code):
        _report(status, signal=os.WTERMSIG(code), cpu=seconds)
    else:
        _report(status, exit=os.WEXITSTATUS(code), cpu=seconds)
    os._exit(0)


def call_libc(function: str, *arguments: Any) -> int:
    """Call a function of the C library. Raises OSError with its name when it fails."""
    result = int(getattr(_LIBC, function)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def _report(status: int, **what: object) -> None:
    os.write(status, json.dumps(what).encode() + b"\n")


def _mount_box(job: dict[str, Any]) -> None:
    user = os.getuid() if job["user"] is None else job["user"]
    options = f"mode=700,uid={user},gid={user},size={job['disk']},nr_inodes={job['files_limit']}"
    call_libc("mount", b"tmpfs", BOX.encode(), b"tmpfs", _NOSUID | _NODEV, options.encode())


def _start(job: dict[str, Any]) -> int:
    """Start the command, confined; its process id. Raises OSError if it could not be started."""
    reading, writing = os.pipe()  # closes when the command runs, or carries the reason why it doesn't
    child = os.fork()
    if child == 0:
        try:
            os.setsid()  # a process group reaches across namespaces: kill(0) would find who started this
            _confine(job)
            _write_files(job["files"])
            _filter_calls(bytes.fromhex(job["filter"]))
            os.execve(job["command"][0], job["command"], ENVIRONMENT)
        except BaseException as error:
            os.write(writing, f"{job['command'][0]}: {error}".encode())
        os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        problem = pipe.read().decode()
    if problem:
        raise OSError(problem)
    return child


def _confine(job: dict[str, Any]) -> None:
    """Drop every capability for good, become an unprivileged user if we aren't one, and set the limits."""
    for capability in range(64):
        if _LIBC.prctl(_DROP_BOUNDING, capability, 0, 0, 0) != 0:
            if capability < 38:  # all capabilities up to 37 exist since Linux 3.16
                raise PermissionError("capabilities can't be dropped from the bounding set")
            break
    call_libc("prctl", _AMBIENT, _CLEAR_AMBIENT, 0, 0, 0)
    if job["user"] is not None:
        os.setgroups([])
        os.setresgid(job["user"], job["user"], job["user"])
        os.setresuid(job["user"], job["user"], job["user"])
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    call_libc("capset", header, (ctypes.c_uint32 * 6)())
    call_libc("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for name, (soft, hard) in job["limits"].items():
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        bounded = [v if most == resource.RLIM_INFINITY else min(v, most) for v in (soft, hard)]
        resource.setrlimit(kind, (bounded[0], bounded[1]))


def _write_files(files: dict[str, str]) -> None:
    os.umask(0o077)
    os.chdir(BOX)
    for name, text in files.items():
        os.makedirs(os.path.dirname(f"./{name}"), exist_ok=True)
        # a lone surrogate, which a model may write, stays: the command has to refuse it
        with open(name, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(text)


def _filter_calls(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    call_libc("prctl", _SECCOMP, _FILTER_MODE, ctypes.byref(Program(len(program) // 8, program)), 0, 0)


if __name__ == "__main__":
    main()
