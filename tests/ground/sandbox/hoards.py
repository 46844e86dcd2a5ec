"""Attempts to make the host hold more memory than the limit, each a function that takes until it is refused.

A program of its own: `python hoards.py NAME`. It then holds what it got for a moment, and prints "held" if it was not
ended before.
"""

import ctypes
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

MB = 1 << 20
PAGE = 4096
HELD = 1.0  # seconds
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
GIVEN_UP = (OSError, MemoryError, RuntimeError, ValueError)
held: list[object] = []


def take(one: Callable[[], object], most: int = 1 << 20) -> int:
    """Take one after the other until it is refused; how many."""
    for count in range(most):
        try:
            held.append(one())
        except GIVEN_UP:
            return count
    return most


def everywhere(work: Callable[[], object]) -> None:
    """Do the same in as many processes as one may have."""
    with suppress(OSError):
        for _ in range(100):
            if os.fork() == 0:
                break
    work()


def texts() -> None:
    """texts in a list"""
    take(lambda: bytes(MB).replace(b"\0", b"x"))


def bytes_everywhere() -> None:
    """texts in lists of all processes at once"""
    everywhere(texts)


def private_mappings() -> None:
    """anonymous mappings, private, in all processes"""

    def one() -> mmap.mmap:
        room = mmap.mmap(-1, MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        room.write(b"x" * MB)
        return room

    everywhere(lambda: take(one))


def shared_mappings() -> None:
    """anonymous mappings, shared, in all processes"""

    def one() -> mmap.mmap:
        room = mmap.mmap(-1, MB, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        room.write(b"x" * MB)
        return room

    everywhere(lambda: take(one))


def memory_files() -> None:
    """memory files (memfd)"""

    def one() -> int:
        descriptor = os.memfd_create("m")
        os.write(descriptor, bytes(MB))
        return descriptor

    everywhere(lambda: take(one))


def files_in_memory() -> None:
    """files of /box"""
    with open(f"file{os.getpid()}", "wb", buffering=0) as file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        take(lambda: file.write(bytes(MB)))


def files_and_bytes() -> None:
    """files of /box, and texts in lists of all processes"""
    files_in_memory()
    bytes_everywhere()


def full_pipes() -> None:
    """pipes, full"""

    def one() -> int:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.write(writing, bytes(MB))
        os.close(writing)
        return reading

    everywhere(lambda: take(one))


def larger_pipes() -> None:
    """pipes, enlarged and full"""
    import fcntl

    def one() -> int:
        reading, writing = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(writing, 1031, MB)
        os.set_blocking(writing, False)
        os.write(writing, bytes(MB))
        os.close(writing)
        return reading

    everywhere(lambda: take(one))


def _fill(sender: socket.socket, size: int) -> None:
    sender.setblocking(False)
    with suppress(OSError):
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * MB)
    with suppress(OSError):
        while True:
            sender.send(bytes(size))


def _full_sockets(size: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    def one() -> tuple[socket.socket, ...]:
        pair = socket.socketpair(type=kind)
        for end in pair:
            _fill(end, size)
        return pair

    everywhere(lambda: take(one))


def full_sockets() -> None:
    """Unix sockets, full, SO_SNDBUF set to 16 MB"""
    _full_sockets(1 << 17)


def sockets_of_single_bytes() -> None:
    """Unix sockets, full of messages of one byte"""
    _full_sockets(1)


def sockets_of_datagrams() -> None:
    """Unix sockets, full of datagrams whose senders are closed"""

    def one() -> socket.socket:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(f"\0{os.getpid()}-{len(held)}")
        for _ in range(11):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(receiver.getsockname())
                _fill(sender, 180_000)
        return receiver

    everywhere(lambda: take(one))


def sockets_that_nobody_accepts() -> None:
    """Unix sockets, full, closed, waiting to be accepted"""

    def one() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"\0{os.getpid()}-{len(held)}")
        server.listen(4096)
        for _ in range(4096):
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                client.connect(server.getsockname())
                _fill(client, 1 << 17)
        return server

    everywhere(lambda: take(one))


def sockets_in_flight() -> None:
    """Unix sockets, full, sent through others and closed"""

    def one() -> tuple[socket.socket, ...]:
        carrier = socket.socketpair()
        carrier[0].setblocking(False)
        for _ in range(64):
            pair = socket.socketpair()
            for end in pair:
                _fill(end, 1 << 17)
            socket.send_fds(carrier[0], [b"x"], [end.fileno() for end in pair])
            for end in pair:
                end.close()
        return carrier

    everywhere(lambda: take(one))


def netlink_sockets() -> None:
    """sockets of the kernel's tables"""
    everywhere(lambda: take(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))


def many_processes() -> None:
    """processes"""
    everywhere(lambda: held.append(bytearray(4 * MB)))


def stacks_of_threads() -> None:
    """stacks of threads"""
    threading.stack_size(4 * MB)

    def deep(level: int) -> None:
        if level:
            list(map(deep, [level - 1]))  # by way of C, whose frames lie on the stack
        else:
            time.sleep(HELD)

    def one() -> threading.Thread:
        thread = threading.Thread(target=deep, args=(300,), daemon=True)
        thread.start()
        return thread

    take(one)


def _scatter() -> None:
    """Read one page of each gibibyte of the address space: nothing is held but the tables that lead there."""
    for place in range(1 << 36, 1 << 47, 1 << 30):
        address = LIBC.mmap(place, PAGE, 1, 0x32, -1, 0)  # PROT_READ; MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        if address != place:
            return
        ctypes.string_at(place, 1)


def page_tables() -> None:
    """page tables of scattered pages"""
    everywhere(_scatter)


def small_mappings() -> None:
    """descriptions of small mappings"""

    def one() -> int:
        address = LIBC.mmap(None, PAGE, 1 if len(held) % 2 else 3, 0x22, -1, 0)
        if address == ctypes.c_void_p(-1).value:
            raise MemoryError
        return len(held)

    everywhere(lambda: take(one))


def system_v() -> None:
    """System V segments, messages and semaphores, and POSIX messages"""
    for name, arguments in {
        "shmget": (0, 64 * MB, 0o1600),
        "msgget": (0, 0o1600),
        "semget": (0, 32000, 0o1600),
        "mq_open": (b"/m", 0o102, 0o600, None),
    }.items():

        def one(name: str = name, arguments: tuple[object, ...] = arguments) -> int:
            got = int(getattr(LIBC, name)(*arguments))
            if got < 0:
                raise OSError
            if name == "shmget":
                LIBC.shmat.restype = ctypes.c_void_p
                ctypes.memset(LIBC.shmat(got, None, 0), 1, 64 * MB)
            return got

        take(one, 100)


def watched_descriptors() -> None:
    """epolls that watch all descriptors, timers and counters"""

    def work() -> None:
        take(lambda: LIBC.eventfd(0, 0), 20)
        timers = [LIBC.timerfd_create(1, 0) for _ in range(10)]
        epolls: list[select.epoll] = []
        with suppress(OSError):
            while True:
                epolls.append(select.epoll())
        for epoll in epolls:
            for number in range(64):
                with suppress(OSError):
                    epoll.register(number, select.EPOLLIN)
        held.extend((timers, epolls))

    everywhere(work)


def open_descriptors() -> None:
    """descriptors"""
    everywhere(lambda: take(lambda: os.open("/dev/null", os.O_RDONLY)))


def long_arguments() -> None:
    """arguments and variables of children"""
    text = "x" * (100 << 10)
    code = f"import time; time.sleep({HELD})"
    variables = {f"v{n}": text for n in range(9)}
    take(lambda: subprocess.Popen([sys.executable, "-ISc", code, *[text] * 9], env=variables), 100)


def zombies() -> None:
    """children that ended and are not waited for"""

    def one() -> int:
        child = os.fork()
        if child == 0:
            os._exit(0)
        return child

    take(one, 10_000)


def names_that_are_not_there() -> None:
    """names that were looked up and are not there"""
    name = "/usr/lib/" + "x" * 200
    until = time.monotonic() + HELD

    def work() -> None:
        while time.monotonic() < until:
            for number in range(1000):
                with suppress(OSError):
                    os.stat(f"{name}{os.getpid()}{time.monotonic_ns()}{number}")

    everywhere(work)


def locks() -> None:
    """locks on a file"""
    import fcntl

    with open("lock", "w") as file:
        for place in range(0, 400_000, 2):
            with suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)


def long_links() -> None:
    """symbolic links with long targets"""
    take(lambda: os.symlink("x" * 4000, f"link{len(held)}"))


def attributes() -> None:
    """attributes of files"""
    open("attributed", "w").close()
    take(lambda: os.setxattr("attributed", f"user.{len(held)}", bytes(60_000)), 10_000)


def queued_signals() -> None:
    """signals that wait"""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in range(34, 64):
        for _ in range(1000):
            os.kill(os.getpid(), number)


HOARDS: dict[str, Callable[[], None]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and not name.startswith("_")
    and name not in ("take", "everywhere")
}

if __name__ == "__main__":
    HOARDS[sys.argv[1]]()
    time.sleep(HELD)
    print("held", flush=True)
    os._exit(0)
