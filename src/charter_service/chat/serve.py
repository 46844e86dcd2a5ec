"""Serves the chat until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from charter_service.chat.app import make_app
from charter_service.chat.colouring import COLOURS
from charter_service.chat.service import Service
from charter_service.people.export import open_people
from charter_service.web.listening import log_to_stderr, run_app
from charter_service.web.lock import serve_alone


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
    log_to_stderr("charter_service.chat")
    if not service.config.log:
        logging.getLogger("charter_service.chat").setLevel(logging.WARNING)
    COLOURS.start()
    run_app(make_app(service), bound, ready, service.config.proxy)
