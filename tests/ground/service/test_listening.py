"""An address is held from the moment it is taken, before anything is served there."""

from __future__ import annotations

import socket

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.service.listening import listen


def test_an_address_is_held_before_anything_is_served() -> None:
    with listen("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(
            CharterError, match=rf"something listens at 127.0.0.1:{port} already.*another --port"
        ):
            listen("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)) as early:
            early.sendall(b"hello")
            taken, _ = held.accept()
            with taken:
                assert taken.recv(5) == b"hello", "who came early is served when it is time"
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(CharterError, match=r"can't be served .*; give another --port or --host"):
        listen(host, 0)
