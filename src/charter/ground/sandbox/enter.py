"""Containment without bubblewrap: this process enters new namespaces and makes its own root.

It starts as a separate process, maps the sandbox's one user to an unprivileged user of the host, detaches the
view's folders, builds an empty root with only them in it, and continues as process 1 (`init`). Linux 5.12 or newer:
user_namespaces(7), open_tree(2), move_mount(2), mount_setattr(2), pivot_root(2).
"""

import ctypes
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

from charter.ground.sandbox.init import BOX, NOBODY, call_libc
from charter.ground.sandbox.init import main as be_process_1

_ALL = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG
_NOSUID, _NODEV, _NOEXEC, _READONLY, _RECURSIVE, _PRIVATE, _DETACH = 2, 4, 8, 1, 0x4000, 1 << 18, 2
_HERE = -100  # AT_FDCWD
_CLONE, _CLOSE_ON_EXEC, _SUBTREE, _EMPTY_PATH, _FROM_EMPTY_PATH = 1, 0o2000000, 0x8000, 0x1000, 4
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same numbers on every architecture
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def main() -> None:
    """Contain this process as the JSON of the first argument says: {"user": id on the host, "shown": [...],
    "links": [[path, target]], "hidden": [...], "devices": [...]}."""
    view = json.loads(sys.argv[1])
    call_libc("prctl", _PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if os.getuid() == 0:
        os.setgroups([])
    _enter_namespaces(view["user"])
    child = os.fork()
    if child == 0:
        _make_root(view)
        call_libc("prctl", _PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        be_process_1()
    os.waitpid(child, 0)
    os._exit(0)


def _enter_namespaces(user: int) -> None:
    """Enter new namespaces; a process that stays outside writes the map, since only it may name another user."""
    reading, writing = os.pipe()
    me = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        os.close(writing)
        os.read(reading, 1)
        Path(f"/proc/{me}/setgroups").write_text("deny")
        Path(f"/proc/{me}/uid_map").write_text(f"{NOBODY} {user} 1")
        Path(f"/proc/{me}/gid_map").write_text(f"{NOBODY} {user if os.getuid() == 0 else os.getgid()} 1")
        os._exit(0)
    call_libc("unshare", _ALL)
    os.close(writing)
    if os.waitpid(mapper, 0)[1] != 0:
        os._exit(1)


def _make_root(view: dict[str, Any]) -> None:
    call_libc("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    # before the user changes: root may reach folders, such as its home, that an unprivileged user can't
    folders = {path: _detach(path, _READONLY | _NOSUID | _NODEV) for path in view["shown"]}
    devices = {path: _detach(path, _NOSUID | _NOEXEC) for path in view["devices"]}
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    call_libc("mount", b"tmpfs", b"/tmp", b"tmpfs", _NOSUID | _NODEV, b"mode=755,size=1m,nr_inodes=1k")
    os.chdir("/tmp")
    for path, target in view["links"]:
        place = Path(f".{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    for path, tree in {**folders, **devices}.items():
        _attach(tree, path)
    for path in view["hidden"]:
        options = b"mode=755,size=4k,nr_inodes=1"
        call_libc("mount", b"tmpfs", f".{path}".encode(), b"tmpfs", _READONLY | _NOSUID | _NODEV, options)
    Path(f".{BOX}").mkdir()
    call_libc("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
    call_libc("umount2", b".", _DETACH)
    os.chdir("/")
    _set_attributes(_HERE, b"/", _READONLY | _NOSUID | _NODEV, 0)
    call_libc("sethostname", b"box", 3)


def _detach(path: str, attributes: int) -> int:
    """The descriptor of a copy of a mounted tree, not yet attached anywhere."""
    flags = _CLONE | _CLOSE_ON_EXEC | _SUBTREE
    tree = call_libc("syscall", _OPEN_TREE, _HERE, os.fsencode(path), flags)
    _set_attributes(tree, b"", attributes, _EMPTY_PATH | _SUBTREE)
    return tree


def _set_attributes(at: int, path: bytes, attributes: int, flags: int) -> None:
    # struct mount_attr: to set, to clear, propagation, userns
    mount_attributes = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    call_libc("syscall", _MOUNT_SETATTR, at, path, flags, mount_attributes, ctypes.c_size_t(32))


def _attach(tree: int, path: str) -> None:
    place = Path(f".{path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        place.mkdir()
    else:
        place.touch()
    call_libc("syscall", _MOVE_MOUNT, tree, b"", _HERE, os.fsencode(place), _FROM_EMPTY_PATH)
    os.close(tree)
