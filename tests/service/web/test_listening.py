"""An address is held from the moment it is taken, before anything is served there."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter_service.web.listening import ENDING_LOOKS, STILL_LOOKS, Watch, listen


def test_an_address_is_held_before_anything_is_served() -> None:
    with listen("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(CharterError, match=rf"127.0.0.1:{port} is already in use.*another --port"):
            listen("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)) as early:
            early.sendall(b"hello")
            taken, _ = held.accept()
            with taken:
                assert taken.recv(5) == b"hello", "who came early is served when it is time"
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(CharterError, match=r"can't listen at .*; give another --port or --host"):
        listen(host, 0)


def ended_by(server: Any, looks: int, change: Any = None) -> list[str]:
    """What a watch says in so many looks, with a change of the server before each."""
    said, ended, count = list[str](), threading.Event(), [0]

    def wait(seconds: float) -> bool:
        count[0] += 1
        if change is not None:
            change(server)
        return count[0] > looks

    ended.wait = wait  # type: ignore[method-assign, assignment]
    Watch(server, ended, 0.0, said.append).run()
    return said


def test_a_loop_that_stands_still_and_a_server_that_does_not_end_are_ended() -> None:
    def ticking(server: Any) -> None:
        server.ticks += 10

    assert ended_by(SimpleNamespace(ticks=0, should_exit=False), 1000) == [], "it has not begun"
    assert ended_by(SimpleNamespace(ticks=0, should_exit=False), 1000, ticking) == []
    still = ended_by(SimpleNamespace(ticks=7, should_exit=False), STILL_LOOKS + 1)
    assert len(still) == 1 and "been blocked" in still[0]
    assert not ended_by(SimpleNamespace(ticks=7, should_exit=False), STILL_LOOKS)
    slow = ended_by(SimpleNamespace(ticks=0, should_exit=True), ENDING_LOOKS, ticking)
    assert len(slow) == 1 and "did not end" in slow[0]
    assert not ended_by(SimpleNamespace(ticks=0, should_exit=True), ENDING_LOOKS - 1, ticking)


HANGS = """
import sys, time
from charter_service.web import listening

listening.ENDING_LOOKS = 2

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    print("asked", flush=True)
    while True:  # on the event loop
        time.sleep(0.01)

bound = listening.listen("127.0.0.1", 0)
listening.run_app(app, bound, lambda: print(bound.getsockname()[1], flush=True))
"""


def test_a_server_whose_loop_hangs_ends_when_it_is_told_to() -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 70 and "did not end within 2 seconds" in said
