"""Attempts to get out, see out or reach out, each a function that returns when it got something and raises when not.

A program of its own: `python attempts.py NAME...` prints one JSON line an attempt, ["escaped"] or ["refused", by].
It runs in a sandbox, where every attempt must be refused; and outside, where those that are harmless must succeed,
so that a refusal means something. `facts.json` beside it names what the host has laid out. docs/concepts/sandbox.md
counts them.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
Facts = dict[str, Any]


class Nothing(Exception):
    """The attempt went through and gained nothing."""


def call(function: str, *arguments: Any) -> None:
    if getattr(LIBC, function)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# network


def tcp_to_the_host(facts: Facts) -> None:
    """connect to a server on the host's loopback"""
    with socket.create_connection(("127.0.0.1", facts["tcp"]), timeout=2) as connection:
        assert connection.recv(5) == b"hello"


def tcp_to_the_internet(facts: Facts) -> None:
    """connect to an outside address"""
    socket.create_connection(("192.0.2.1", 80), timeout=2)


def udp_to_the_host(facts: Facts) -> None:
    """ask a UDP server on the host's loopback"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(2)
        sender.connect(("127.0.0.1", facts["udp"]))
        sender.send(b"anyone?")
        assert sender.recv(5) == b"hello"


def ipv6_to_the_internet(facts: Facts) -> None:
    """send to an outside IPv6 address"""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"anyone?", ("2001:db8::1", 9))


def resolve_a_name(facts: Facts) -> None:
    """look a name up"""
    socket.getaddrinfo("example.org", 80)


def unix_socket_of_the_host(facts: Facts) -> None:
    """connect to a Unix socket in the host's file system"""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(facts["unix"])
        assert client.recv(5) == b"hello"


def abstract_socket_of_the_host(facts: Facts) -> None:
    """connect to an abstract Unix socket of the host"""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + facts["abstract"])
        assert client.recv(5) == b"hello"


def netlink_socket(facts: Facts) -> None:
    """talk to the kernel's network tables"""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def vsock_socket(facts: Facts) -> None:
    """open a socket to the machine that hosts this virtual machine"""
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


def packet_socket(facts: Facts) -> None:
    """read raw packets"""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def inherited_descriptor(facts: Facts) -> None:
    """use a descriptor that the host left open and inheritable"""
    os.fstat(facts["descriptor"])


# files of the host


def read_the_users(facts: Facts) -> None:
    """read /etc/passwd"""
    Path("/etc/passwd").read_text()


def read_a_home(facts: Facts) -> None:
    """see a file in the home folder"""
    os.lstat(facts["in_home"])


def read_a_temporary_file(facts: Facts) -> None:
    """read a file in the host's /tmp"""
    Path(facts["canary"]).read_text()


def read_the_repository(facts: Facts) -> None:
    """read Charter's sources and data"""
    Path(facts["source"]).read_text()


def read_installed_packages(facts: Facts) -> None:
    """see the packages that are installed beside Python"""
    if not os.listdir(facts["packages"]):
        raise Nothing


def read_the_environment(facts: Facts) -> None:
    """read a variable of the host's environment"""
    os.environ["CHARTER_CANARY"]


def read_another_environment(facts: Facts) -> None:
    """read the environment of a host process in /proc"""
    Path(f"/proc/{facts['pid']}/environ").read_bytes()


def overwrite_a_file_of_the_host(facts: Facts) -> None:
    """write to a file in the host's /tmp"""
    with open(facts["victim_file"], "r+") as file:
        file.write("overwritten")


def make_a_file_beside_it(facts: Facts) -> None:
    """make a file in a folder of the host"""
    Path(facts["victim_file"]).with_name("made").touch()


def change_the_library(facts: Facts) -> None:
    """touch a file of Python's library"""
    os.utime(os.__file__)


def write_at_the_root(facts: Facts) -> None:
    """make a folder at the root"""
    os.mkdir("/charter-was-here")


def write_among_devices(facts: Facts) -> None:
    """make a file in /dev, which is memory"""
    Path("/dev/charter-was-here").touch()


def write_shared_memory(facts: Facts) -> None:
    """make a file in /dev/shm"""
    path = Path("/dev/shm/charter-was-here")
    path.touch()
    path.unlink()


def symlink_out(facts: Facts) -> None:
    """read the host's files through a symbolic link"""
    os.symlink("/etc/passwd", "link")
    Path("link").read_text()


def dots_out(facts: Facts) -> None:
    """climb out of the working folder"""
    Path("../" * 20 + "etc/passwd").read_text()


def handle_out(facts: Facts) -> None:
    """open the host's root by file handle (inode 2)"""
    handle = ctypes.create_string_buffer((8).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes([2] + 7 * [0]))
    call("open_by_handle_at", os.open(".", os.O_RDONLY), handle, os.O_RDONLY)


def chroot_out(facts: Facts) -> None:
    """chroot into a folder while holding one outside, and climb"""
    os.mkdir("jail")
    outside = os.open("/", os.O_RDONLY)
    os.chroot("jail")
    os.fchdir(outside)


def proc_root(facts: Facts) -> None:
    """reach the host's root through /proc/1/root"""
    os.listdir("/proc/1/root")


def proc_working_folder(facts: Facts) -> None:
    """reach the host through /proc/self/cwd/.."""
    os.listdir("/proc/self/cwd/../..")


def proc_memory(facts: Facts) -> None:
    """read the memory of a host process"""
    open(f"/proc/{facts['pid']}/mem", "rb").close()


def proc_settings(facts: Facts) -> None:
    """change a setting of the kernel"""
    open("/proc/sys/kernel/hostname", "r+").close()


def system_files(facts: Facts) -> None:
    """read the machine's description in /sys"""
    os.listdir("/sys/kernel")


def the_disk(facts: Facts) -> None:
    """open any device beside null, zero, full, random and urandom"""
    for name in sorted(set(os.listdir("/dev")) - {"null", "zero", "full", "random", "urandom"}):
        os.lstat(f"/dev/{name}")
        return
    raise Nothing


def make_a_block_device(facts: Facts) -> None:
    """make a node for the first disk"""
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))


def make_a_memory_device(facts: Facts) -> None:
    """make a node for the machine's memory"""
    os.mknod("memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))


def the_terminal(facts: Facts) -> None:
    """type into the terminal of whoever started this"""
    open("/dev/tty", "r+b", buffering=0).close()


# mounts and namespaces


def mount_proc(facts: Facts) -> None:
    """mount /proc"""
    os.makedirs("proc", exist_ok=True)
    call("mount", b"proc", b"proc", b"proc", 0, None)


def mount_a_bind(facts: Facts) -> None:
    """mount a folder writable"""
    os.makedirs("bound", exist_ok=True)
    call("mount", b"/usr/lib", b"bound", None, 4096, None)


def remount_writable(facts: Facts) -> None:
    """mount the root again, writable"""
    call("mount", None, b"/", None, 32, None)


def mount_larger(facts: Facts) -> None:
    """mount the private file system again, without its size"""
    call("mount", None, b"/box", None, 32, b"size=100g")


def unmount(facts: Facts) -> None:
    """take a mount away to see what is below"""
    call("umount2", os.path.dirname(os.__file__).encode(), 2)


def user_namespace(facts: Facts) -> None:
    """become root in a user namespace of one's own"""
    call("unshare", 0x10000000)


def user_namespace_by_clone(facts: Facts) -> None:
    """become root in a user namespace, by clone"""
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    child = LIBC.syscall(number, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone")
    os.waitpid(child, 0)


# privileges and limits


def become_root(facts: Facts) -> None:
    """become root by setuid"""
    if os.getuid() == 0:
        return
    os.setuid(0)


def become_somebody(facts: Facts) -> None:
    """become another user by setuid"""
    os.setuid(1)


def make_a_setuid_program(facts: Facts) -> None:
    """give a file to root, to be setuid"""
    Path("program").touch()
    os.chown("program", 0, 0)


def take_capabilities(facts: Facts) -> None:
    """hold a capability still, or take all back"""
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    call("capget", header, sets)  # effective, permitted, inheritable, in two halves
    if not any(sets):
        call("capset", header, (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6))


def allow_new_privileges(facts: Facts) -> None:
    """undo "no new privileges\""""
    call("prctl", 38, 0, 0, 0, 0)


def raise_memory_limit(facts: Facts) -> None:
    """raise the limit of memory"""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def raise_process_limit(facts: Facts) -> None:
    """raise the limit of processes"""
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def run_faster(facts: Facts) -> None:
    """take a real-time priority"""
    call("sched_setscheduler", 0, 1, ctypes.byref(ctypes.c_int(10)))


# other processes


def signal_the_host(facts: Facts) -> None:
    """signal a process of the host"""
    os.kill(facts["pid"], 0)


def kill_the_host(facts: Facts) -> None:
    """kill a process of the host"""
    os.kill(facts["victim"], signal.SIGKILL)


def kill_everything(facts: Facts) -> None:
    """kill all processes that one may"""
    os.kill(-1, signal.SIGKILL)
    raise Nothing


def kill_the_group(facts: Facts) -> None:
    """end the process group, to which whoever started the sandbox belonged"""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(0, signal.SIGTERM)
    if os.getpgid(0) == os.getpid() == os.getsid(0):
        raise Nothing


def kill_the_parent(facts: Facts) -> None:
    """send the parent, process 1, every signal"""
    for number in range(1, 65):
        os.kill(os.getppid(), number)
    raise Nothing  # the sandbox lives: else this line is not reported, and the test sees it


def see_processes(facts: Facts) -> None:
    """list the processes in /proc"""
    os.listdir("/proc")


def find_processes(facts: Facts) -> None:
    """find processes by asking for each number"""
    for pid in range(2, 100_000):
        if pid != os.getpid():
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                continue
            except PermissionError:
                return  # it is there
            return
    raise Nothing


def trace_process_1(facts: Facts) -> None:
    """trace process 1"""
    call("ptrace", 16, 1, None, None)


def read_process_1(facts: Facts) -> None:
    """read the memory of process 1"""
    room = ctypes.create_string_buffer(8)
    there = (ctypes.c_size_t * 2)(ctypes.addressof(room), 8)
    call("process_vm_readv", 1, there, 1, there, 1, 0)


def starve_process_1(facts: Facts) -> None:
    """take process 1's descriptors away by its limits"""
    resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))


def slow_process_1(facts: Facts) -> None:
    """give process 1 the lowest priority"""
    os.setpriority(os.PRIO_PROCESS, 1, 19)


# events, locks and holds


def watch_files(facts: Facts) -> None:
    """be told when others open the files that are shown"""
    watch = LIBC.inotify_init1(0)
    if watch < 0 or LIBC.inotify_add_watch(watch, os.path.dirname(os.__file__).encode(), 0x20) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    os.close(watch)


def watch_all_files(facts: Facts) -> None:
    """be told when others open any file"""
    call("fanotify_init", 0, os.O_RDONLY)


def watch_a_folder(facts: Facts) -> None:
    """be told by a signal when a folder that is shown changes"""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(os.open(os.path.dirname(os.__file__), os.O_RDONLY), 1026, 1)


def lock_a_file(facts: Facts) -> None:
    """lock a file that others use"""
    with open(os.__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_an_open_file(facts: Facts) -> None:
    """lock a file that others use, as an open file"""
    with open(os.__file__) as file:
        fcntl.fcntl(file, 37, (b"\0" * 8 + (0).to_bytes(8, "little") * 3))


def see_a_lock(facts: Facts) -> None:
    """ask who locks a file"""
    with open(os.__file__) as file:
        fcntl.fcntl(file, fcntl.F_GETLK, b"\0" * 32)


def lease_a_file(facts: Facts) -> None:
    """be told when others open a file of one's own (lease)"""
    with open("leased", "w"), open("leased") as file:
        fcntl.fcntl(file, 1025)


def hold_the_host(facts: Facts) -> None:
    """hold a process of the host (pidfd)"""
    os.close(os.pidfd_open(facts["pid"]))


def hold_process_1(facts: Facts) -> None:
    """hold process 1 (pidfd)"""
    os.close(os.pidfd_open(1))


def hold_the_peer(facts: Facts) -> None:
    """hold the process at the other end of a socket"""
    near, far = socket.socketpair()
    with near, far:
        os.close(near.getsockopt(socket.SOL_SOCKET, 77))


def be_sent_the_peer(facts: Facts) -> None:
    """be sent a hold on the process at the other end of a socket"""
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, 76, 1)


def name_the_peer(facts: Facts) -> None:
    """ask who is at the other end of a socket"""
    near, far = socket.socketpair()
    with near, far:
        near.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)


def trace_the_host(facts: Facts) -> None:
    """trace a process of the host"""
    call("ptrace", 0x4206, facts["victim"], None, None)
    LIBC.ptrace(17, facts["victim"], None, None)


def be_traced(facts: Facts) -> None:
    """let the parent trace"""
    child = os.fork()
    if child == 0:
        os._exit(0 if LIBC.ptrace(0, 0, None, None) == 0 else 1)
    if os.waitpid(child, 0)[1]:
        raise PermissionError(errno.EPERM, "ptrace")


def read_the_host(facts: Facts) -> None:
    """read the memory of a host process by its number"""
    room = ctypes.create_string_buffer(8)
    there = (ctypes.c_size_t * 2)(ctypes.addressof(room), 8)
    call("process_vm_readv", facts["pid"], there, 1, there, 1, 0)


def count_events(facts: Facts) -> None:
    """count events of the processor (perf)"""
    number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
    call("syscall", number, ctypes.create_string_buffer(128), 0, -1, -1, 0)


def see_what_is_cached(facts: Facts) -> None:
    """see which pages of a library others have read"""
    with open(os.__file__, "rb") as file:
        os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)


def drop_what_is_cached(facts: Facts) -> None:
    """make the machine forget a library that others read"""
    with open(os.__file__, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def see_the_load(facts: Facts) -> None:
    """see how busy the machine is, and its memory"""
    call("sysinfo", ctypes.create_string_buffer(256))


# memory that limits don't count


def memory_without_a_name(facts: Facts) -> None:
    """make a memory file (memfd)"""
    os.close(os.memfd_create("charter"))


def system_v_memory(facts: Facts) -> None:
    """make a System V segment"""
    call("shmget", 0, 1 << 20, 0o1600)


def kernel_keys(facts: Facts) -> None:
    """store data in the kernel's keyrings"""
    number = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    call("syscall", number, b"user", b"charter", b"x", 1, -2)


def rings(facts: Facts) -> None:
    """set up an io_uring, whose calls no filter sees"""
    call("syscall", 425, 8, ctypes.create_string_buffer(120))


def locked_memory(facts: Facts) -> None:
    """lock memory, so that it is never paged out"""
    room = ctypes.create_string_buffer(1 << 16)
    call("mlock", room, 1 << 16)


ATTEMPTS: dict[str, Callable[[Facts], None]] = {
    name: value for name, value in list(globals().items()) if getattr(value, "__annotations__", {}).get("facts")
}


def outcome(attempt: Callable[[Facts], None], facts: Facts) -> list[str]:
    try:
        attempt(facts)
    except OSError as error:
        return ["refused", errno.errorcode.get(error.errno or 0, type(error).__name__)]
    except Exception as error:
        return ["refused", type(error).__name__]
    return ["escaped"]


if __name__ == "__main__":
    given = json.loads(Path("facts.json").read_text())
    for name in sys.argv[1:]:
        print(json.dumps([name, *outcome(ATTEMPTS[name], given)]), flush=True)
