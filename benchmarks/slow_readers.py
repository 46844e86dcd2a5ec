"""Clients that read their stream a few bytes at a time, or not at all for a while, or never, beside others that are
served: what that does to the others' first token and to the server's memory, against the same streams read at once.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from typing import Any

import malformed
from load_server import Server, Watch, settled

TOKENS = 2000  # of a slow reader's reply: more bytes than sockets hold
SECONDS = 20.0  # in which a slow reader is slow
DEAD = 10  # one in so many never reads on
PROBES = 4  # clients that ask for little, again and again
WINDOW = 4096  # bytes of a slow reader's receive buffer


def slow_readers(server: Server, slow: str, others: str, count: int) -> dict[str, Any]:
    """Two rounds of as many long streams, with the key `slow`, first read at once and then slowly, while a few clients
    with another key are served. Whoever is slow but reads gets all, and who never reads is let go where more waits for
    it than sockets hold."""
    start, tokens = settled(server), min(TOKENS, server.longest(slow))
    eager = _round(server, (slow, others), ["at once"] * count, tokens)
    between = settled(server)
    kinds = ["never" if n % DEAD == 0 else "pause" if n % 2 else "drip" for n in range(count)]
    slowly = _round(server, (slow, others), kinds, tokens)
    whole = slowly["whole"]
    lost = sum(kinds.count(kind) - whole[kind] for kind in ("drip", "pause"))
    end = settled(server)
    return {
        "part": "slow",
        "count": count,
        "tokens": tokens,
        "start": start,
        "read_at_once": eager,
        "between": between,
        "read_slowly": slowly,
        "kib_per_slow_reader": round((slowly["peak_rss_mib"] - between["rss_mib"]) * 1024 / count),
        "end": end,
        "let_go": kinds.count("never") - whole["never"],
        "failed": bool(lost or eager["whole"]["at once"] < count or slowly["failed_probes"] or end["busy"]),
    }


def _round(server: Server, keys: tuple[str, str], kinds: list[str], tokens: int) -> dict[str, Any]:
    watch, over, lock = Watch(server), threading.Event(), threading.Lock()
    firsts: list[float] = []
    whole: Counter[str] = Counter()
    wrong = [0]

    def long(kind: str) -> None:
        with _asked(server, keys[0], tokens, 0 if kind == "at once" else WINDOW) as sock:
            text = _read(sock, kind)
        with lock:
            whole[kind] += b"message_stop" in text

    def probe() -> None:
        while not over.is_set():
            began = time.monotonic()
            with _asked(server, keys[1], 8) as sock:
                found = _until(sock, b"content_block_delta")
                first = time.monotonic() - began
                found += _until(sock, b"message_stop")
            with lock:
                firsts.append(first)
                wrong[0] += b"message_stop" not in found
            time.sleep(0.05)

    watch.start()
    probes = [threading.Thread(target=probe) for _ in range(PROBES)]
    readers = [threading.Thread(target=long, args=(kind,)) for kind in kinds]
    began = time.monotonic()
    for thread in (*readers, *probes):
        thread.start()
    for thread in readers:
        thread.join()
    took = time.monotonic() - began
    over.set()
    for thread in probes:
        thread.join()
    firsts.sort()
    return {
        "seconds": round(took, 1),
        "whole": whole,
        "probes": len(firsts),
        "failed_probes": wrong[0],
        "first_token_s": {f"p{q}": round(firsts[len(firsts) * q // 100], 3) for q in (50, 95)},
        **watch.end(),
    }


def _asked(server: Server, key: str, tokens: int, window: int = 0) -> socket.socket:
    """A connection on which a stream was asked for."""
    body = {"model": server.model, "max_tokens": tokens, "messages": malformed.HELLO, "stream": True}
    known = (f"x-api-key: {key}", "anthropic-version: 2023-06-01")
    sock = socket.socket()
    if window:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.settimeout(500)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(malformed.request_bytes("POST", "/v1/messages", json.dumps(body).encode(), *known))
    return sock


def _read(sock: socket.socket, kind: str) -> bytes:
    """All of a stream, in one of the ways of reading; what never reads looks after the time that the server gives it,
    and half a minute more."""
    found = sock.recv(16)
    if kind == "drip":
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and (more := sock.recv(16)):
            found += more
            time.sleep(0.05)
    elif kind != "at once":
        time.sleep(SECONDS if kind == "pause" else 150.0)
    return found + _until(sock, None)


def _until(sock: socket.socket, word: bytes | None) -> bytes:
    """What comes until a word is there, or to the end."""
    found = bytearray()
    try:
        while (word is None or word not in found) and (more := sock.recv(65536)):
            found += more
    except OSError:
        pass  # closed by the server: what came until then is what there is
    return bytes(found)
