"""Every attempt of `attempts.py` is refused inside, for the right reason, and the harmless ones succeed outside."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import attempts
import psutil
import pytest

from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.process import Ended, Ending, Sandbox, run
from charter.ground.sandbox.view import python_view

GONE = {"ENOENT"}
NO = {"EPERM"}
# what refuses; several where the two ways, or being root outside, differ
REFUSED = {
    "tcp_to_the_host": {"ECONNREFUSED", "ENETUNREACH"},
    "tcp_to_the_internet": {"ENETUNREACH"},
    "udp_to_the_host": {"ECONNREFUSED", "ENETUNREACH"},
    "ipv6_to_the_internet": {"ENETUNREACH", "EADDRNOTAVAIL"},
    "resolve_a_name": {"gaierror"},
    "unix_socket_of_the_host": GONE,
    "abstract_socket_of_the_host": {"ECONNREFUSED"},
    "netlink_socket": {"EAFNOSUPPORT"},
    "vsock_socket": {"EAFNOSUPPORT"},
    "packet_socket": {"EAFNOSUPPORT"},
    "inherited_descriptor": {"EBADF"},
    "read_the_users": GONE,
    "read_a_home": GONE,
    "read_a_temporary_file": GONE,
    "read_the_repository": GONE,
    "read_installed_packages": {"Nothing"},
    "read_the_environment": {"KeyError"},
    "read_another_environment": GONE,
    "overwrite_a_file_of_the_host": GONE,
    "make_a_file_beside_it": GONE,
    "change_the_library": {"EROFS"},
    "write_at_the_root": {"EROFS"},
    "write_among_devices": {"EROFS"},
    "write_shared_memory": GONE,
    "symlink_out": GONE,
    "dots_out": GONE,
    "handle_out": NO,
    "chroot_out": NO,
    "proc_root": GONE,
    "proc_working_folder": GONE,
    "proc_memory": GONE,
    "proc_settings": GONE,
    "system_files": GONE,
    "the_disk": {"Nothing"},
    "make_a_block_device": NO,
    "make_a_memory_device": NO,
    "the_terminal": GONE,
    "mount_proc": NO,
    "mount_a_bind": NO,
    "remount_writable": NO,
    "mount_larger": NO,
    "unmount": NO,
    "user_namespace": NO,
    "user_namespace_by_clone": NO,
    "become_root": {"EPERM", "EINVAL"},
    "become_somebody": {"EPERM", "EINVAL"},
    "make_a_setuid_program": {"EPERM", "EINVAL"},
    "take_capabilities": NO,
    "allow_new_privileges": {"EINVAL"},
    "raise_memory_limit": {"ValueError"},
    "raise_process_limit": {"ValueError"},
    "run_faster": NO,
    "signal_the_host": {"ESRCH"},
    "kill_the_host": {"ESRCH"},
    "kill_everything": {"Nothing", "ESRCH"},
    "kill_the_group": {"Nothing"},
    "kill_the_parent": {"Nothing", "EPERM"},
    "see_processes": GONE,
    "find_processes": {"Nothing"},
    "trace_process_1": NO,
    "read_process_1": NO,
    "starve_process_1": NO,
    "slow_process_1": NO,
    "watch_files": NO,
    "watch_all_files": NO,
    "watch_a_folder": NO,
    "lock_a_file": NO,
    "lock_an_open_file": NO,
    "see_a_lock": NO,
    "lease_a_file": NO,
    "hold_the_host": NO,
    "hold_process_1": NO,
    "hold_the_peer": NO,
    "be_sent_the_peer": NO,
    "name_the_peer": NO,
    "trace_the_host": NO,
    "be_traced": NO,
    "read_the_host": NO,
    "count_events": NO,
    "see_what_is_cached": {"ENOTSUP", "EOPNOTSUPP"},
    "drop_what_is_cached": NO,
    "see_the_load": NO,
    "memory_without_a_name": NO,
    "system_v_memory": NO,
    "kernel_keys": NO,
    "rings": NO,
    "locked_memory": {"EPERM", "ENOMEM"},
}
# harmless outside, where they succeed
OUTSIDE = [
    "tcp_to_the_host",
    "udp_to_the_host",
    "unix_socket_of_the_host",
    "abstract_socket_of_the_host",
    "netlink_socket",
    "inherited_descriptor",
    "read_the_users",
    "read_a_temporary_file",
    "read_the_repository",
    "read_the_environment",
    "read_another_environment",
    "make_a_file_beside_it",
    "symlink_out",
    "dots_out",
    "proc_working_folder",
    "signal_the_host",
    "see_processes",
    "find_processes",
    "watch_files",
    "watch_a_folder",
    "lock_a_file",
    "see_a_lock",
    "hold_the_host",
    "hold_process_1",
    "name_the_peer",
    "be_sent_the_peer",
    "be_traced",
    "drop_what_is_cached",
    "see_the_load",
    "memory_without_a_name",
]


@contextlib.contextmanager
def _answering(server: socket.socket) -> Iterator[socket.socket]:
    """A server on the host that greets whoever reaches it."""
    server.settimeout(0.1)
    over = threading.Event()

    def greet() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                if server.type == socket.SOCK_DGRAM:
                    server.sendto(b"hello", server.recvfrom(64)[1])
                else:
                    connection, _ = server.accept()
                    with connection:
                        connection.send(b"hello")

    thread = threading.Thread(target=greet)
    thread.start()
    yield server
    over.set()
    thread.join()
    server.close()


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What the host lays out: servers, files with canaries, a process, a variable, an open descriptor."""
    folder = tmp_path_factory.mktemp("host")
    for name in ("canary", "victim_file"):
        (folder / name).write_text("a canary")
    python, home = Path(python_view().python), Path.home()
    inside = [entry for entry in home.iterdir() if entry not in python.parents] if home.is_dir() else []
    packages = Path(sysconfig.get_path("stdlib")).resolve() / "site-packages"
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("CHARTER_CANARY", "a canary")
        servers = {}
        for name, family, kind, address in (
            ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            ("unix", socket.AF_UNIX, socket.SOCK_STREAM, os.path.relpath(folder / "unix")),
            ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0charter-{os.getpid()}"),
        ):
            server = socket.socket(family, kind)
            server.bind(address)
            if kind == socket.SOCK_STREAM:
                server.listen()
            servers[name] = stack.enter_context(_answering(server))
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        stack.callback(victim.kill)
        descriptor = os.open(folder / "canary", os.O_RDONLY)
        os.set_inheritable(descriptor, True)
        stack.callback(os.close, descriptor)
        yield {
            "tcp": servers["tcp"].getsockname()[1],
            "udp": servers["udp"].getsockname()[1],
            "unix": str(folder / "unix"),
            "abstract": servers["abstract"].getsockname()[1:].decode(),
            "canary": str(folder / "canary"),
            "victim_file": str(folder / "victim_file"),
            "source": attempts.__file__,
            "in_home": str(inside[0]) if inside else "",
            "packages": str(packages) if packages.is_dir() and os.listdir(packages) else "",
            "pid": os.getpid(),
            "victim": victim.pid,
            "descriptor": descriptor,
        }


@pytest.fixture(scope="module")
def inside(box: Sandbox, facts: dict[str, object]) -> Ended:
    """All attempts, one after the other, in one sandbox."""
    files = {"attempts.py": Path(attempts.__file__).read_text(), "facts.json": json.dumps(facts)}
    return run(box, [box.view.python, "-I", "-S", "attempts.py", *REFUSED], files, Limits(seconds=60))


@pytest.fixture(scope="module")
def outside(facts: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The harmless ones on the host."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "facts.json").write_text(json.dumps(facts))
    command = [sys.executable, attempts.__file__, *OUTSIDE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, close_fds=False)
    return {name: outcome for name, *outcome in map(json.loads, done.stdout.splitlines())}


def test_every_attempt_is_made() -> None:
    assert set(REFUSED) == set(attempts.ATTEMPTS)
    assert set(OUTSIDE) <= set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_inside(name: str, inside: Ended, facts: dict[str, object]) -> None:
    if name in ("read_a_home", "read_installed_packages"):
        needed = facts["in_home" if name == "read_a_home" else "packages"]
        if not needed:
            pytest.skip("nothing lies there on this machine")
    results = {line[0]: line[1:] for line in map(json.loads, inside.stdout.splitlines())}
    assert name in results, f"not tried: {inside.how}, {inside.stderr}"
    assert results[name][0] == "refused"
    assert results[name][1] in REFUSED[name]


@pytest.mark.parametrize("name", OUTSIDE)
def test_it_succeeds_outside(name: str, outside: dict[str, list[str]]) -> None:
    assert outside[name] == ["escaped"]


def test_the_host_is_as_it_was(inside: Ended, facts: dict[str, object]) -> None:
    assert (inside.how, inside.code) == (Ending.EXITED, 0)
    assert Path(str(facts["victim_file"])).read_text() == "a canary"
    assert psutil.Process(int(str(facts["victim"]))).status() != psutil.STATUS_ZOMBIE
    assert not Path("/charter-was-here").exists() and not Path("/dev/shm/charter-was-here").exists()
