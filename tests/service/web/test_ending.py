"""A signal ends a server in time, whatever it does meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# far beyond the five seconds, for a busy machine
PATIENCE = 60.0
BEGINS = """
import re, sys, time
from threading import Thread
from charter_service.web.ending import end_in_time

def ready(work, *arguments):
    sys.stdout.write("ready\\n")  # in one piece: threads say so at the same time
    sys.stdout.flush()
    work(*arguments)

def deaf():
    while True:
        try:
            ready(time.sleep, 900)
        except BaseException:
            pass

end_in_time(1.0)
"""
BUSY = {
    "a match that holds the interpreter": "Thread(target=ready, args=(re.match, '(a+a+)+b', 'a' * 60)).start()",
    "a number that holds the interpreter": "Thread(target=ready, args=(pow, 10, 10 ** 9)).start()",
    "a loop that hears no interrupt": "",
}


def stopped(work: str, number: signal.Signals) -> tuple[int, str]:
    """How a process that does some work ended after a signal, and what was said."""
    command = [sys.executable, "-c", BEGINS + work]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", BUSY)
def test_a_process_that_can_not_end_is_ended(kind: str, number: signal.Signals) -> None:
    code, said = stopped(f"{BUSY[kind]}\ndeaf()", number)
    assert code == -signal.SIGKILL and "did not end within 1 seconds and was ended" in said


def test_a_process_that_ends_in_order_is_left_alone() -> None:
    code, said = stopped("try: ready(time.sleep, 900)\nexcept KeyboardInterrupt: sys.exit(7)", signal.SIGTERM)
    assert (code, said) == (7, "")


def test_the_process_beside_is_kept_in_mind() -> None:
    ends = "import gc, os; gc.collect(); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", f"{BEGINS}\n{ends}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
