"""How a service is reached: a bound socket, and uvicorn that says when it answers and ends in order."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from charter.ground.artifact.errors import CharterError

GRACE_SECONDS = 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises CharterError for an address that can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise CharterError(f"{host}:{port} can't be served ({said}); give another --port or --host") from None
    return bound


def run_app(app: ASGIApp, bound: socket.socket, ready: Callable[[], None], proxy: bool = False) -> None:
    """Serves until a signal says stop; `ready` is called once the app can be reached. `proxy`: a reverse proxy on this
    machine passes on addresses."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=proxy,
        forwarded_allow_ips="127.0.0.1" if proxy else None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )
    try:
        _Server(config, ready).run([bound])
    except KeyboardInterrupt:
        pass  # uvicorn passes the signal on once it has ended in order


class _Server(uvicorn.Server):
    """Says when it can be reached."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def log_to_stderr(name: str, form: str = "%(asctime)s %(message)s") -> None:
    """Sends a service's log to standard error, once."""
    log = logging.getLogger(name)
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
