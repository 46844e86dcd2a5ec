"""A server ends within seconds after SIGTERM or Ctrl-C, whatever runs in it: a process beside it ends it if it must.

A thread can't do that: while a match or another library's call holds the interpreter, no thread of Python runs. But the
system's handler of a signal writes its number into a pipe, which the process beside reads. What was committed stays.

This file is also that process's program, so it imports nothing of Charter.

    python -I -S ending.py PID SECONDS < pipe
"""

import os
import signal
import socket
import subprocess
import sys
import time

SECONDS = 5.0
LOOK_SECONDS = 0.05
_ENDING = {signal.SIGINT, signal.SIGTERM}
# kept, for Python complains of a running process that nobody knows any more
_BESIDE: list["subprocess.Popen[bytes]"] = []


def end_in_time(seconds: float = SECONDS) -> None:
    """From now on SIGTERM works like Ctrl-C, and `seconds` after either of them this process has ended. For the main
    thread of a command that serves."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    child_end, tells = socket.socketpair()
    with child_end:
        tells.setblocking(False)
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds)]
        _BESIDE.append(subprocess.Popen(command, stdin=child_end.fileno(), stdout=subprocess.DEVNULL))
    signal.set_wakeup_fd(tells.detach(), warn_on_full_buffer=False)


def watch(parent: int, seconds: float) -> None:
    """Waits for a signal of `parent`, then for its end, then ends it."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    while not _ENDING & set(numbers := os.read(0, 64)):
        # it has ended by itself
        if not numbers:
            return
    until = time.monotonic() + seconds
    while os.getppid() == parent:
        if time.monotonic() >= until:
            words = f"it did not end within {seconds:g} seconds and was ended; start it again"
            os.write(2, f"charter: error: {words}\n".encode())
            os.kill(parent, signal.SIGKILL)
            return
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]))
