"""Serves the chat until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from charter.service.chat.app import make_app
from charter.service.chat.colouring import COLOURS
from charter.service.chat.service import Service
from charter.service.people.export import open_people
from charter.service.web.listening import log_to_stderr, run_app
from charter.service.web.lock import serve_alone


@contextmanager
def people_alone(database: str) -> Iterator[Engine]:
    """A database of people that no other process serves meanwhile. Raises CharterError if it can't be opened or is
    already served."""
    engine = open_people(database)
    try:
        serve_alone(engine)
        yield engine
    finally:
        engine.dispose()


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal stops it; `ready` is called once the service can be reached."""
    log_to_stderr("charter.service.chat")
    if not service.config.log:
        logging.getLogger("charter.service.chat").setLevel(logging.WARNING)
    COLOURS.start()
    run_app(make_app(service), bound, ready, service.config.proxy)
