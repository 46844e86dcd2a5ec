"""Serves the chat until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from charter.service.chat.app import make_app
from charter.service.chat.client import Api
from charter.service.chat.service import Config, Service
from charter.service.people.export import open_people
from charter.service.web.listening import log_to_stderr, run_app
from charter.service.web.lock import serve_alone


def open_chat(config: Config, database: str, api: str, key: str) -> Service:
    """The service on a database, as a client of the API at an address. Raises CharterError if the database can't be
    opened or is already served."""
    engine = open_people(database)
    try:
        serve_alone(engine)
        return Service(config, engine, Api(api, key))
    except BaseException:
        engine.dispose()
        raise


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal stops it; `ready` is called once the service can be reached."""
    log_to_stderr("charter.service.chat")
    if not service.config.log:
        logging.getLogger("charter.service.chat").setLevel(logging.WARNING)
    try:
        run_app(make_app(service), bound, ready, service.config.proxy)
    finally:
        service.database.dispose()
