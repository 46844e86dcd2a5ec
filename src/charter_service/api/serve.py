"""Serves models until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable

from charter_service.api.app import make_app
from charter_service.api.service import Service
from charter_service.web.listening import log_to_stderr, run_app


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until a signal stops it; `ready` is called once the service can be reached."""
    log_to_stderr("charter_service.api", "%(message)s")
    try:
        run_app(make_app(service), bound, ready, service.config.proxy)
    finally:
        service.close()
