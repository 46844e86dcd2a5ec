"""Every route that needs a key is sent 32 MiB without one: what it says after the first 64 KiB, how fast, and how much of
the rest it takes, only to throw it away."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import Any

from charter_service.api.admin_entrance import ENTER
from charter_service.api.app import ROUTES
from charter_service.console.routes import ROUTES as PAGES

SENT, FIRST = 32 * 2**20, 64 * 2**10
SIOCOUTQ = 0x5411  # bytes that the other side's kernel has not taken


def wait_for(port: int, raw: bytes, word: bytes) -> tuple[float, bytes]:
    """Seconds until `word` is in a request's answer, and the answer up to its end."""
    began, first, found = time.perf_counter(), float("inf"), bytearray()
    with socket.socket() as sock, suppress(OSError):
        sock.settimeout(120)
        sock.connect(("127.0.0.1", port))
        sock.sendall(raw)
        while more := sock.recv(65536):
            found += more
            if first == float("inf") and word in found:
                first = time.perf_counter() - began
    return first, bytes(found)


def keyless(port: int) -> Iterator[dict[str, Any]]:
    """Each route in turn, and the operators' pages but for the one on which they enter."""
    pages = [route for route in PAGES if route.path.startswith("/admin") and route.path != ENTER]
    for route in (*ROUTES, *pages):
        if not route.open and route.method not in ("GET", "HEAD"):
            path = re.sub(r"{\w+(?::\w+)?}", "some", route.path)
            yield {"method": route.method, "path": route.path, **_sent(port, route.method, path)}


def _sent(port: int, method: str, path: str) -> dict[str, Any]:
    """The status, milliseconds until it came while the body's first 64 KiB were all that was sent, and what the server
    took, and threw away, of the rest."""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"anthropic-version: 2023-06-01\r\ncontent-length: {SENT}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as sock:
        own, answer = sock.getsockname()[1], b""
        sock.settimeout(10)
        began, left = time.perf_counter(), SENT - FIRST
        with suppress(OSError):
            sock.sendall(head.encode() + b" " * FIRST)
            answer = sock.recv(65536)
        took, sock_end = time.perf_counter() - began, time.perf_counter() + 1
        sock.settimeout(0.1)
        with suppress(OSError):
            while left and time.perf_counter() < sock_end:
                left -= sock.send(b" " * min(left, FIRST))
        more = SENT - FIRST - left - _unread(sock, own, port)
    status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
    return {"status": status, "ms": round(1000 * took, 1), "thrown_away": max(0, more)}


def _unread(sock: socket.socket, own: int, port: int) -> int:
    """Bytes that were sent and that the server has not read: those on their way, and those in its kernel's buffer."""
    on_its_way = struct.unpack("i", ioctl(sock.fileno(), SIOCOUTQ, b"\0" * 4))[0]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[1].endswith(f":{port:04X}") and parts[2].endswith(f":{own:04X}"):
            return int(on_its_way) + int(parts[4].partition(":")[2], 16)
    return int(on_its_way)
