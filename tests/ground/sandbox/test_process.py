"""A command in a sandbox: its input, the report of its end, and that nothing of it outlives its caller."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Ended, Ending, Sandbox, run

LIMITS = Limits()
DESCRIPTORS = """
import os
held = []
for number in range(64):
    try:
        os.fstat(number)
    except OSError:
        continue
    held.append(number)
print(held)
"""


def python(box: Sandbox, code: str, *arguments: str) -> Ended:
    return run(box, [box.view.python, "-I", "-S", "program.py", *arguments], {"program.py": code}, LIMITS)


def processes(token: str) -> list[psutil.Process]:
    """Processes of the sandbox that run a program with a token among its arguments."""
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[-1] == token]


def wait_for(token: str, wanted: bool) -> list[psutil.Process]:
    for _ in range(1000):
        pids = processes(token)
        if bool(pids) is wanted:
            return pids
        time.sleep(0.02)
    raise AssertionError(f"processes with {token}: {pids}")


def test_output_and_status_come_back(box: Sandbox) -> None:
    ended = python(box, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert (ended.how, ended.code, ended.stdout, ended.stderr) == (Ending.EXITED, 7, "out\n", "err\n")


def test_files_lie_in_the_working_folder_and_only_there_can_be_written(box: Sandbox) -> None:
    code = (
        "import os; print(os.getcwd(), open('a/b.txt', newline='').read(), open('lone', 'rb').read()); open('new', 'w')"
    )
    files = {"program.py": code, "a/b.txt": "text\r\n", "lone": "\ud800"}
    ended = run(box, [box.view.python, "-I", "-S", "program.py"], files, LIMITS)
    assert ended.stdout == "/box text\r\n b'\\xed\\xa0\\x80'\n"
    assert ended.code == 0


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "", "."])
def test_a_file_outside_the_folder_is_refused(name: str, any_box: Sandbox) -> None:
    with pytest.raises(CharterError, match="outside the sandbox's folder"):
        run(any_box, [any_box.view.python], {name: ""}, LIMITS)


def test_the_environment_is_the_sandbox_s_own(box: Sandbox) -> None:
    names = set(python(box, "import os; print(*os.environ)").stdout.split())
    ours = {"HOME", "TMPDIR", "PATH", "LANG", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"}
    assert names == ours | {"MALLOC_ARENA_MAX"}


def test_sets_are_iterated_in_one_order(any_box: Sandbox) -> None:
    command = [any_box.view.python, "-s", "-S", "-P", "-c", "print({'a', 'b', 'c', 'd', 'e', 'f'})"]
    assert len({run(any_box, command, {}, LIMITS).stdout for _ in range(4)}) == 1


def test_the_user_and_the_host_name_are_the_sandbox_s_own(box: Sandbox) -> None:
    ended = python(box, "import os; print(os.getuid() in (0, 1000), os.uname().nodename, os.getgroups())")
    same, name, groups = ended.stdout.split(maxsplit=2)
    assert (same, name) == ("False", "box")
    assert os.getuid() != 0 or groups.strip() == "[]"


def test_a_channel_is_the_only_further_descriptor(box: Sandbox) -> None:
    assert python(box, DESCRIPTORS).stdout == "[0, 1, 2]\n"
    near, far = socket.socketpair()
    with near, far:
        command = [box.view.python, "-I", "-S", "-c", DESCRIPTORS + f"os.write({far.fileno()}, b'word')"]
        assert json.loads(run(box, command, {}, LIMITS, far.fileno()).stdout) == [0, 1, 2, far.fileno()]
        assert near.recv(9) == b"word"


def test_two_sandboxes_do_not_see_each_other(box: Sandbox) -> None:
    assert python(box, "open('mark', 'w')").code == 0
    assert python(box, "import os; print(os.listdir())").stdout == "['program.py']\n"


def test_stopping_early_leaves_nothing(box: Sandbox) -> None:
    token, stop, ends = secrets.token_hex(8), threading.Event(), list[Ended]()
    command = [box.view.python, "-I", "-S", "-c", "import os, time; os.fork(); time.sleep(99)", token]
    thread = threading.Thread(target=lambda: ends.append(run(box, command, {}, LIMITS, None, stop)))
    thread.start()
    wait_for(token, True)
    stop.set()
    thread.join()
    assert ends[0].how is Ending.STOPPED
    assert not processes(token)


def test_the_sandbox_dies_with_its_caller(box: Sandbox) -> None:
    token = secrets.token_hex(8)
    code = (
        "import sys\n"
        "from charter.ground.sandbox.process import *\n"
        "from charter.ground.sandbox.view import python_view\n"
        "box = Sandbox(Way(sys.argv[1]), python_view())\n"
        "program = 'import os, time; os.fork() or os.setsid(); time.sleep(99)'\n"
        "run(box, [box.view.python, '-I', '-S', '-c', program, sys.argv[2]], {}, Limits(seconds=99))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, box.way, token, "caller"]) as caller:
        wait_for(token, True)
        caller.kill()
    wait_for(token, False)


def test_a_program_that_is_missing_is_a_failed_environment(box: Sandbox) -> None:
    ended = run(box, ["/usr/bin/no-such-program"], {}, LIMITS)
    assert ended.how is Ending.ENVIRONMENT_FAILED
    assert ended.reason.startswith("/usr/bin/no-such-program: ") and "No such file" in ended.reason


def test_a_root_that_cannot_be_built_is_a_failed_environment(box: Sandbox) -> None:
    broken = replace(box, view=replace(box.view, shown=(*box.view.shown, "/no/such/folder")))
    ended = run(broken, [box.view.python, "-c", "print(1)"], {}, LIMITS)
    assert (ended.how, ended.stdout) == (Ending.ENVIRONMENT_FAILED, "")
    assert "No such file" in ended.reason


def test_files_that_do_not_fit_are_a_failed_environment(box: Sandbox) -> None:
    ended = run(box, [box.view.python, "-c", "1"], {"a": "x" * (2 << 20)}, LIMITS.model_copy(update={"disk_mb": 1}))
    assert ended.how is Ending.ENVIRONMENT_FAILED


def test_bubblewrap_that_is_missing_is_a_failed_environment(any_box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/folder")
    gone = replace(any_box, way=type(any_box.way)("bubblewrap"))
    ended = run(gone, [any_box.view.python], {}, LIMITS)
    assert ended.how is Ending.ENVIRONMENT_FAILED
    assert re.search(r"bwrap: (No such file|not found)", ended.reason), ended


def test_a_sandbox_killed_from_outside_is_a_failed_environment(box: Sandbox) -> None:
    token, ends = secrets.token_hex(8), list[Ended]()
    command = [box.view.python, "-I", "-S", "-c", "import time; time.sleep(99)", token]
    thread = threading.Thread(target=lambda: ends.append(run(box, command, {}, LIMITS)))
    thread.start()
    first = wait_for(token, True)[0].parent()
    assert first is not None
    first.kill()  # process 1 of the sandbox
    thread.join()
    assert ends[0].how is Ending.ENVIRONMENT_FAILED
    # the second, if it was killed between the start of the program and the report of it
    assert ends[0].reason in ("the sandbox was killed from outside", "it did not start")


def test_a_program_that_kills_itself_is_no_failed_environment(box: Sandbox) -> None:
    ended = python(box, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (ended.how, ended.code) == (Ending.KILLED, signal.SIGKILL)


def test_nothing_is_left_open_on_the_host(any_box: Sandbox) -> None:
    def count_files() -> int:
        return psutil.Process().num_fds()

    python(any_box, "1")
    before = count_files()
    for code in ("1", "while True: print('flood')", "raise ValueError"):
        python(any_box, code)
    assert count_files() == before
