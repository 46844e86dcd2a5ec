"""Attempts to use more than the limits, each a function that goes on until it is stopped or prints what it got.

A program of its own: `python bombs.py NAME`. docs/concepts/sandbox.md counts them.
"""

import ctypes
import mmap
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

MB = 1 << 20


def fork_bomb() -> None:
    """fork without end, in every child too"""
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.001)


def count_processes() -> None:
    """count the processes that one may start"""
    count = 0
    while count < 1000:
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(60)
        count += 1
    print(count)


def count_threads() -> None:
    """count the threads that one may start"""
    count = 0
    while count < 1000:
        try:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except RuntimeError:
            break
        count += 1
    print(count, flush=True)
    os._exit(0)


def memory_bomb() -> None:
    """allocate without end"""
    held = []
    try:
        while True:
            held.append(bytearray(MB))
    except MemoryError:
        print(len(held))


def mapped_memory() -> None:
    """map memory without end, private and shared"""
    held = []
    try:
        while True:
            for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
                held.append(mmap.mmap(-1, MB, flags=flags | mmap.MAP_ANONYMOUS))
                held[-1].write(bytes(MB))
    except OSError:
        print(len(held))


def memory_in_sum() -> None:
    """allocate in many processes, each within its limit"""
    for _ in range(6):
        if os.fork() == 0:
            break
    held = bytearray(os.urandom(MB)) * 40
    time.sleep(60)
    print(len(held))


def hidden_memory_in_sum() -> None:
    """the like, in processes that nobody may look into"""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    memory_in_sum()


def large_file() -> None:
    """write one file without end"""
    size = 0
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open("large", "wb", buffering=0) as file:
            while True:
                size += file.write(bytes(MB))
    except OSError:
        print(size)


def sparse_file() -> None:
    """make a file of a terabyte that takes no room"""
    try:
        with open("sparse", "wb") as file:
            file.truncate(1 << 40)
    except OSError:
        print(0)


def many_large_files() -> None:
    """write files that are too large together"""
    size = 0
    try:
        for number in range(1000):
            with open(f"part{number}", "wb", buffering=0) as file:
                size += file.write(bytes(MB))
    except OSError:
        print(size)


def many_files() -> None:
    """make empty folders without end"""
    count = 0
    try:
        while count < 100_000:
            os.mkdir(f"folder{count}")
            count += 1
    except OSError:
        print(count)


def many_open_files() -> None:
    """open files without end"""
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        print(len(held))


def flood_output() -> None:
    """print without end"""
    while True:
        os.write(1, bytes(1 << 16))


def flood_errors() -> None:
    """write to standard error without end"""
    while True:
        os.write(2, bytes(1 << 16))


def flood_from_children() -> None:
    """print without end from several processes"""
    for _ in range(4):
        os.fork()
    flood_output()


def sleep_forever() -> None:
    """sleep without end"""
    time.sleep(1000)


def spin() -> None:
    """compute without end"""
    while True:
        pass


def spin_deaf() -> None:
    """compute without end, deaf to every signal"""
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    spin()


def stop_oneself() -> None:
    """stop the process, so that it never ends"""
    os.kill(os.getpid(), signal.SIGSTOP)


def daemon() -> None:
    """leave a daemon behind that holds the output open"""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            time.sleep(1000)
        os._exit(0)
    os.wait()
    print("left")


def wait_for_input() -> None:
    """wait for input that never comes"""
    try:
        input()
    except EOFError:
        print("no input")


def deep_recursion() -> None:
    """recurse without end, with no limit set"""
    sys.setrecursionlimit(1 << 30)

    class Deep:
        def __repr__(self) -> str:
            return repr(self)

    repr(Deep())


def crash() -> None:
    """read where there is no memory"""
    ctypes.string_at(0)


def dump_core() -> None:
    """crash with a large core file allowed"""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (MB, MB))
    except ValueError:
        os.abort()


BOMBS: dict[str, Callable[[], None]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__doc__", "") and getattr(value, "__module__", "") == __name__
}

if __name__ == "__main__":
    BOMBS[sys.argv[1]]()
