"""Preflight: finds the sandbox of this machine by trying, before any text is generated."""

import functools
import shutil
import sys

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox.container import Way
from charter.ground.sandbox.group import place
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Ending, Sandbox, run
from charter.ground.sandbox.view import python_view

# checks from inside: threads work, files can be written, and nothing of the host is there
_PROBE = """
import os, socket, sys, threading
thread = threading.Thread(target=open("written", "w").close)
thread.start()
thread.join()
assert set(os.listdir("/dev")) <= {"null", "zero", "full", "random", "urandom"}, "devices of the host are there"
assert not os.path.exists("/proc") and not os.path.exists("/etc/passwd"), "files of the host are there"
assert os.getppid() == 1 and os.getuid() != 0 and "CANARY" not in os.environ, "it is not apart from the host"
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))  # needs a route, sends nothing
except OSError:
    print("contained")
else:
    sys.exit("the host's network is there")
"""


@functools.cache
def sandbox() -> Sandbox:
    """The sandbox of this machine: bubblewrap if it works, else plain namespaces. Raises CharterError, saying
    what failed, if neither contains a probe: then no written code may be run."""
    problems = []
    for way in Way:
        problem = trouble(way)
        if not problem:
            return Sandbox(way, python_view(), place())
        problems.append(f"{way}: {problem}")
    raise CharterError(
        f"running written code refuses to run, as no sandbox works here ({'; '.join(problems)}): "
        "install bubblewrap, or allow user namespaces (sysctl user.max_user_namespaces)"
    )


@functools.cache
def trouble(way: Way) -> str:
    """Why a way of containment doesn't work here, in a few words; "" if it contains a probe."""
    if sys.platform != "linux":
        return "it needs Linux"
    if way is Way.BUBBLEWRAP and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    view = python_view()
    try:
        result = run(Sandbox(way, view, place()), [view.python, "-I", "-S", "probe.py"], {"probe.py": _PROBE}, Limits())
    except CharterError as error:
        return str(error)
    if result.how is Ending.EXITED and result.stdout == "contained\n":
        return ""
    return result.reason or (result.stderr.strip().splitlines() or [str(result.how)])[-1]
