"""What ordinary programs do with Python's standard library, each use a function that raises when it fails.

A program of its own: `python ordinary.py NAME...` prints one JSON line a use. Pools and locks of `multiprocessing`
are not among them: they need /dev/shm, which a sandbox lacks.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import decimal
import hashlib
import json
import mmap
import multiprocessing
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

PYTHON = [sys.executable, "-I", "-S", "-c"]


def _child(end: Any) -> None:
    end.send(6 * 7)


def processes(start: str = "fork") -> None:
    """A process of multiprocessing, and a pipe to it."""
    context: Any = multiprocessing.get_context(start)
    near, far = context.Pipe()
    child = context.Process(target=_child, args=(far,))
    child.start()
    assert near.recv() == 42
    child.join()


def processes_spawned() -> None:
    processes("spawn")


def processes_of_a_server() -> None:
    processes("forkserver")


def manager() -> None:
    with multiprocessing.Manager() as process_manager:
        shared = process_manager.dict()
        shared["a"] = 1
        assert dict(shared) == {"a": 1}


def threads() -> None:
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    assert event.wait(10)


def database_in_memory() -> None:
    _database(":memory:")


def database_in_a_file() -> None:
    _database("data.sqlite")
    with contextlib.closing(sqlite3.connect("data.sqlite")) as again:
        assert again.execute("select sum(a) from t").fetchone() == (3,)


def _database(name: str) -> None:
    with contextlib.closing(sqlite3.connect(name)) as connection:
        connection.execute("create table t (a)")
        connection.executemany("insert into t values (?)", [(1,), (2,)])
        connection.commit()
        assert connection.execute("select sum(a) from t").fetchone() == (3,)


def coroutines() -> None:
    async def work() -> list[int]:
        await asyncio.sleep(0.001)
        return await asyncio.gather(*(asyncio.to_thread(abs, -n) for n in range(3)))

    assert asyncio.run(work()) == [0, 1, 2]


def coroutines_with_a_process() -> None:
    async def work() -> bytes:
        child = await asyncio.create_subprocess_exec(*PYTHON, "print(1)", stdout=asyncio.subprocess.PIPE)
        return (await child.communicate())[0]

    assert asyncio.run(work()) == b"1\n"


def coroutines_that_serve() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def work() -> bytes:
        server = await asyncio.start_unix_server(answer, "socket")
        reader, writer = await asyncio.open_unix_connection("socket")
        writer.write(b"word\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    assert asyncio.run(work()) == b"word\n"


def subprocesses() -> None:
    done = subprocess.run([*PYTHON, "print(input())"], input="a", capture_output=True, text=True, check=True)
    assert done.stdout == "a\n"
    subprocess.run([*PYTHON, "1"], start_new_session=True, preexec_fn=os.getpid, check=True)
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", "1"], {})
    assert os.waitpid(child, 0)[1] == 0


def temporary_files() -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as named:
        pathlib.Path(folder, "a").write_text("a")
        named.write(b"b")
    with tempfile.TemporaryFile() as file, tempfile.SpooledTemporaryFile() as spooled:
        file.write(b"c")
        spooled.write(b"d")


def files_and_folders() -> None:
    pathlib.Path("a").write_text("text")
    os.makedirs("folder/inner")
    shutil.copy2("a", "folder/b")
    shutil.copytree("folder", "copy")
    shutil.move("a", "c")
    os.replace("c", "d")
    os.symlink("d", "link")
    os.link("d", "hard")
    os.mkfifo("fifo")
    os.chmod("d", 0o600)
    os.utime("d")
    os.truncate("d", 3)
    assert pathlib.Path("link").read_text() == "tex" and os.readlink("link") == "d"
    shutil.disk_usage(".")
    os.remove("fifo")
    shutil.make_archive("archive", "zip", "folder")
    for _ in os.walk("."):
        pass
    shutil.rmtree("copy")
    with open("d", "r+b") as file:
        os.pwrite(file.fileno(), b"T", 0)
        assert os.preadv(file.fileno(), [bytearray(2)], 0) == 2
        file.flush()
        os.fsync(file.fileno())


def mapped_memory() -> None:
    with mmap.mmap(-1, 4096) as room:
        room.write(b"x")
        room.madvise(mmap.MADV_DONTNEED)
        room.resize(8192)
    pathlib.Path("mapped").write_bytes(bytes(4096))
    with open("mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as room:
        room[0] = 1
        room.flush()


def signals() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    assert signal.sigwait([signal.SIGUSR1]) == signal.SIGUSR1


def waiting() -> None:
    near, far = socket.socketpair()
    with near, far, select.epoll() as events:
        events.register(near, select.EPOLLIN)
        far.send(b"x")
        assert len(events.poll(10)) == 1
        select.select([near], [], [], 10)
        near.settimeout(10)
        assert near.recv(1) == b"x" and near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        socket.socket(fileno=os.dup(near.fileno())).close()
    os.close(os.eventfd(0))


def sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] > 0


def the_machine() -> None:
    assert len(os.urandom(8)) == 8 and os.cpu_count() and os.uname().nodename == "box"
    resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    os.times()
    os.umask(0o22)
    os.sched_yield()
    assert not os.isatty(0) and os.getpriority(os.PRIO_PROCESS, 0) == 0
    time.process_time()
    time.thread_time()
    uuid.uuid1()


def numbers() -> None:
    with decimal.localcontext() as context:
        context.prec = 50
        assert str(decimal.Decimal(1) / 3) == "0." + "3" * 50
    assert hashlib.sha256(b"").hexdigest().startswith("e3b0")


USES: dict[str, Callable[[], None]] = {
    name: value
    for name, value in list(globals().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_") and callable(value)
}

if __name__ == "__main__":
    for use in sys.argv[1:]:
        try:
            USES[use]()
        except BaseException:
            traceback.print_exc()
            print(json.dumps([use, "fails"]), flush=True)
        else:
            print(json.dumps([use, "works"]), flush=True)
