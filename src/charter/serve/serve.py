"""Serves models until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable

from charter.ground.service.listening import log_to_stderr, run_app
from charter.serve.app import make_app
from charter.serve.service import Service


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal says stop; `ready` is called once the service can be reached."""
    log_to_stderr("charter.serve", "%(message)s")
    try:
        run_app(make_app(service), bound, ready, service.config.proxy)
    finally:
        service.close()
