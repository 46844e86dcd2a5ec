"""Clients that are slow or vanish: what they held is free again soon after."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from lobby import MODEL, Hall, Said, open_hall, until
from malformed import HELLO, request_bytes, status_of
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from charter_service.api.errors import ApiError
from charter_service.api.guard import MOST_BYTES, SHARE, STRANGER, Bodies
from charter_service.api.wire.reading import LARGEST_BATCH
from charter_service.web.listening import Server, Sweep, listen

LONG = b"x" * 50_000_000  # more than any socket's buffers


@contextmanager
def server(app: Any, sweep: Sweep) -> Iterator[int]:
    """An application under the server that `charter serve` runs; its port."""
    with listen("127.0.0.1", 0) as bound:
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1, http="h11")
        running = Server(config, sweep=sweep)
        thread = threading.Thread(target=lambda: asyncio.run(running.serve([bound])))
        thread.start()
        try:
            until(lambda: running.started)
            yield bound.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """/long gives more than a socket holds, anything else a word."""
    if scope["path"] == "/long":
        await StreamingResponse(iter([LONG]))(scope, receive, send)
    else:
        await PlainTextResponse("ok")(scope, receive, send)


def closed(sock: socket.socket) -> bool:
    """Reads until the server has closed the connection."""
    sock.settimeout(60)
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_headers_that_drip_in_end_the_connection() -> None:
    with (
        server(answers, Sweep(request_seconds=1.5)) as port,
        socket.create_connection(("127.0.0.1", port)) as dripping,
        socket.create_connection(("127.0.0.1", port)) as second,
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        second.sendall(request_bytes("GET", "/", None, "connection: keep-alive"))
        assert status_of(second.recv(65536)) == 200
        over: list[str] = []

        def drip(sock: socket.socket, name: str) -> None:
            try:
                while True:
                    sock.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                over.append(name)

        threads = [
            threading.Thread(target=drip, args=(dripping, "first")),
            threading.Thread(target=drip, args=(second, "second")),
        ]
        for thread in threads:
            thread.start()
        assert closed(silent)
        until(lambda: len(over) == 2)
        for thread in threads:
            thread.join()


def test_a_reader_that_takes_nothing_is_given_up() -> None:
    ended = Sweep(answer_seconds=1.0)
    with server(answers, ended) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(request_bytes("GET", "/long", None))
        assert sock.recv(100)
        until(lambda: ended.standing)
        until(lambda: not ended.standing)


def test_a_reader_that_takes_its_time_gets_all() -> None:
    with server(answers, Sweep(1.0, 1.0)) as port, socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(60)
        sock.sendall(request_bytes("GET", "/long", None))
        found = 0
        while more := sock.recv(2**21):
            found += len(more)
            time.sleep(0.02)
        assert found >= len(LONG)


class Taking:
    """A connection as the sweep sees one, with so much of an answer that was not taken yet."""

    def __init__(self, left: int) -> None:
        self.left, self.ended, self.cycle, self.transport = left, False, None, self

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("taken", "written", "ended"),
    [(0, 0, True), (100, 0, True), (100, 100, True), (1, 2, True), (1000, 1000, False), (1000, 0, False)],
)
def test_a_reader_has_a_pace(taken: int, written: int, ended: bool) -> None:
    """`taken` bytes a second, while as many more are `written`, now and then, as there is room for."""
    sweep, slow = Sweep(), Taking(64 * 1024)
    for second in range(400):
        slow.left = max(0, slow.left - taken)
        if written >= taken and slow.left <= 16 * 1024:
            slow.left = 64 * 1024
        elif written > taken:
            slow.left += written - taken
        if sweep.look([slow], float(second)) or not slow.left:
            break
    assert slow.ended is ended


def received(bodies: Bodies, *parts: bytes, pause: float = 0.0, whose: str = "") -> bytes:
    """What a body gives whose parts come so far apart."""
    left = list(parts)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def read() -> bytes:
        body, found = bodies.of(receive), b""
        body.claim(whose)
        try:
            while True:
                message = await body.receive()
                found += message["body"]
                if not message["more_body"]:
                    return found
        finally:
            body.close()

    return asyncio.run(read())


def test_a_body_has_a_pace() -> None:
    bodies = Bodies()
    assert received(bodies, b"ab", b"", b"c") == b"abc"
    with pytest.raises(ApiError) as quiet:
        received(Bodies(quiet=0.05), b"a", b"b", pause=5.0)
    with pytest.raises(ApiError) as dripping:
        received(Bodies(span=0.05), *[b"a"] * 50, pause=0.01)
    assert quiet.value.status == dripping.value.status == 408
    assert bodies.held == 0


def test_a_body_that_came_fast_and_then_drips_is_ended() -> None:
    """A good beginning buys no time: an average would let 32 MiB wait for hours."""
    bodies = Bodies(span=0.2)
    with pytest.raises(ApiError) as found:
        received(bodies, b"x" * 200_000, *[b"a"] * 100, pause=0.01)
    assert found.value.status == 408 and bodies.held == 0


def test_bodies_together_are_bounded_and_an_organisation_has_a_share() -> None:
    bodies = Bodies(most=800)
    assert received(bodies, b"x" * 100, whose="org_a") == b"x" * 100
    bodies.move("org_a", 60)
    with pytest.raises(ApiError, match=r"of yours of .* your share; try again") as own:
        received(bodies, b"x" * 41, whose="org_a")
    assert received(bodies, b"x" * 100, whose="org_b") == b"x" * 100
    bodies.move("", 90)
    with pytest.raises(ApiError, match="without a key") as strangers:
        received(bodies, b"x" * 11)
    for number in range(7):
        bodies.move(f"org_{number}", 95)
    with pytest.raises(ApiError, match="try again") as found:
        received(bodies, b"x" * 10, whose="org_b")
    assert [one.value.status for one in (own, strangers, found)] == [429, 429, 529]
    assert found.value.headers["retry-after"] and bodies.held == 60 + 90 + 7 * 95
    assert MOST_BYTES * SHARE >= LARGEST_BATCH, "a batch of the largest size still fits"


def test_who_shows_no_key_sends_no_more_than_a_form() -> None:
    bodies = Bodies()
    with pytest.raises(ApiError) as found:
        received(bodies, b"x" * STRANGER, b"x")
    assert found.value.status == 413


BODY = {"model": MODEL, "max_tokens": 50, "messages": HELLO}


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Hall, Said]]:
    """A server whose model waits for a gate."""
    said = Said("One ", "two ", "three")
    with open_hall(tmp_path, said=said) as hall:
        said.gate.clear()
        yield hall, said
        said.gate.set()


@pytest.mark.parametrize("stream", [False, True])
def test_who_vanishes_gives_the_place_free(waiting: tuple[Hall, Said], stream: bool) -> None:
    hall, said = waiting
    secret = hall.key()
    known = (f"x-api-key: {secret}", "anthropic-version: 2023-06-01")
    raw = request_bytes("POST", "/v1/messages", json.dumps({**BODY, "stream": stream}).encode(), *known)
    sockets = [socket.create_connection(("127.0.0.1", int(hall.url.rpartition(":")[2]))) for _ in range(5)]
    for sock in sockets:
        sock.sendall(raw)
    until(lambda: said.under_way == 5)
    for sock in sockets:
        sock.close()
    until(lambda: said.under_way == 0)
    assert said.given_up == 5
    account = hall.service.keyring.find_caller(secret).organisation
    until(lambda: hall.service.admissions.under_way(account) == 0)
