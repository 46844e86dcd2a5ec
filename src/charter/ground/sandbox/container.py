"""How a command is contained: the two ways, and the command line that starts process 1 under each of them.

Either way the command has its own namespaces (mounts, processes, network without any interface up to the host,
System V memory, host name, control groups), sees only the view, and runs as nobody. An ordinary user
stays that user outside, in a user namespace. Root becomes one of the ids reserved for short-lived services.
"""

import itertools
import json
import os
import secrets
from enum import StrEnum
from pathlib import Path

from charter.ground.sandbox import init
from charter.ground.sandbox.view import DEVICES, View

_SOURCES = str(Path(__file__).parents[3])
_ENTER = f"import sys; sys.path.append({_SOURCES!r}); from charter.ground.sandbox.enter import main; main()"
_PASSING_IDS = range(61184, 65520)  # what systemd gives services without their own user
# from anywhere, so that two processes that start together hardly ever use the same id at a time
_turn = itertools.count(secrets.randbelow(len(_PASSING_IDS)))


class Way(StrEnum):
    """The tool that contains: bubblewrap, or this package's own use of the same namespaces."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"


def passing_id() -> int | None:
    """The id on the host under which root contains the next command; two in a row differ, since the kernel
    counts processes by it. None for an ordinary user, who has only one."""
    return _PASSING_IDS[next(_turn) % len(_PASSING_IDS)] if os.getuid() == 0 else None


def command_line(way: Way, view: View, user: int | None) -> tuple[list[str], int | None]:
    """The arguments that start process 1, which reads its job from standard input; and the id that it must
    take on before the command starts (None: it has the id from the start)."""
    if way is Way.BUBBLEWRAP:
        return _bubblewrap(view, user), user
    spec = {
        "user": os.getuid() if user is None else user,
        "shown": view.shown,
        "links": view.links,
        "hidden": view.hidden,
        "devices": DEVICES,
    }
    return [view.python, "-I", "-S", "-c", _ENTER, json.dumps(spec)], None


def _bubblewrap(view: View, user: int | None) -> list[str]:
    arguments = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--hostname", "box", "--die-with-parent", "--as-pid-1", "--clearenv"]
    if user is None:
        arguments += ["--unshare-user", "--uid", str(init.NOBODY), "--gid", str(init.NOBODY)]
    arguments += ["--cap-drop", "ALL"]
    for capability in ("SYS_ADMIN", "SETPCAP", "SETUID", "SETGID"):  # process 1 drops them
        arguments += ["--cap-add", f"CAP_{capability}"]
    places = [*view.shown, *DEVICES, *(path for path, _ in view.links)]
    for folder in sorted({str(parent) for place in places for parent in Path(place).parents} - {"/"}):
        arguments += ["--perms", "0755", "--dir", folder]  # bwrap's default closes some to other users
    for path in view.shown:
        arguments += ["--ro-bind", path, path]
    for path, target in view.links:
        arguments += ["--symlink", target, path]
    for path in view.hidden:
        arguments += ["--tmpfs", path, "--remount-ro", path]
    for device in DEVICES:
        arguments += ["--dev-bind", device, device]
    arguments += ["--dir", init.BOX, "--remount-ro", "/", "--"]
    return [*arguments, view.python, "-I", "-S", "-c", Path(init.__file__).read_text()]
