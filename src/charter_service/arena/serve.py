"""Serves a collection until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable

from charter_service.arena.app import make_app
from charter_service.arena.service import Service
from charter_service.web.listening import log_to_stderr, run_app


def serve(service: Service, bound: socket.socket, ready: Callable[[], None]) -> bool:
    """Serves until a signal stops it; `ready` is called once the service can be reached. True if no reply was being
    sampled at the end."""
    log_to_stderr("charter_service.arena")
    service.answers.start()
    try:
        run_app(make_app(service), bound, ready, service.config.proxy)
    finally:
        idle = service.answers.close()
        service.database.dispose()
    return idle
