"""How a service listens: a bound socket, and a uvicorn server that reports when it is ready, closes stuck connections
and ends in order.

uvicorn closes only connections that are idle between two requests. `Sweep` closes those of a client that sends its
headers too slowly, or doesn't read its answer. Single bytes don't count as progress; only a request whose answer has
begun does, and an answer of which the client read a good part.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from charter.ground.artifact.errors import CharterError

REQUEST_SECONDS = 30.0  # for the headers of a request, from the start of the connection or the answer before
ANSWER_SECONDS = 120.0  # in which the client read neither `TAKEN` bytes of an answer nor all that was written
TAKEN = 32 * 1024  # bytes: asyncio writes more once 48 KiB are gone, and a look may miss some
GRACE_SECONDS = 2  # for requests after a signal; `ending` gives the whole process five
BACKLOG = 2048  # connections that wait to be accepted, uvicorn's default
STILL_LOOKS = 30  # a second apart, for which an event loop may be blocked
ENDING_LOOKS = 10  # for which a process may take to end
LOOK_SECONDS = 0.5  # between two looks for stuck connections
MOST_FILES = 65_536
# for which a thread keeps the interpreter while others want it: an engine asks for it hundreds of times a token
SWITCH_SECONDS = 0.0005
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Sweep:
    """Remembers the progress of connections; `look` closes those without progress for too long."""

    def __init__(self, request_seconds: float = REQUEST_SECONDS, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._request, self._answer = request_seconds, answer_seconds
        self._stood: dict[Any, tuple[tuple[str, int], float]] = {}

    @property
    def standing(self) -> int:
        """Number of watched connections."""
        return len(self._stood)

    def look(self, connections: Iterable[Any], now: float) -> int:
        """Closes uvicorn's stuck connections; returns their number."""
        ended, present = 0, list(connections)
        for gone in self._stood.keys() - set(present):
            del self._stood[gone]
        for connection in present:
            mark = _mark(connection)
            before, since = self._stood.get(connection, (mark, now))
            if mark[0] == before[0] == "answer" and before[1] - mark[1] < TAKEN:
                mark = "answer", max(before[1], mark[1])  # more may have been written meanwhile
            elif mark != before:
                since = now
            self._stood[connection] = mark, since
            most = {"request": self._request, "answer": self._answer}.get(mark[0])
            if most is not None and now - since > most:
                connection.transport.abort()
                ended += 1
        return ended


def _mark(connection: Any) -> tuple[str, int]:
    """What a connection waits for, and a number that changes with its progress."""
    transport, cycle = connection.transport, getattr(connection, "cycle", None)
    if unsent := transport.get_write_buffer_size():
        return "answer", unsent
    if cycle is None or cycle.response_complete:
        return "request", id(cycle)
    return "work", 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that nobody else gets its address while a service starts: an early client waits for the
    first answer. Port 0 takes a free one. Raises CharterError if the address isn't available."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            bound.listen(BACKLOG)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise CharterError(
                f"{host}:{port} is already in use, perhaps by another server that is starting or running; stop "
                "it, or give another --port (0 takes a free one)"
            ) from None
        problem = getattr(error, "strerror", None) or error
        raise CharterError(f"can't listen at {host}:{port} ({problem}); give another --port or --host") from None
    return bound


def address_at(host: str, bound: socket.socket) -> str:
    """The address of a listening socket, as a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"


def run_app(app: ASGIApp, bound: socket.socket, ready: Callable[[], None], proxy: bool = False) -> None:
    """Serves until a signal stops it; `ready` is called once the app can be reached. `proxy`: a reverse proxy on this
    machine passes on addresses."""
    config = uvicorn.Config(
        app,
        http="h11",  # it limits the size of headers
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=proxy,
        forwarded_allow_ips="127.0.0.1" if proxy else None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )
    _open_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    server = Server(config, ready)
    ended = threading.Event()
    threading.Thread(target=Watch(server, ended).run, name="charter-watch", daemon=True).start()
    try:
        # uvicorn passes the signal on once it has ended in order
        with contextlib.suppress(KeyboardInterrupt):
            server.run([bound])
    finally:
        ended.set()


class Watch:
    """Ends a process whose event loop is blocked, or that doesn't end after a signal; the next process continues from
    the disk. Time is counted in looks, so that a suspended process doesn't count as hanging."""

    def __init__(
        self,
        server: Server,
        ended: threading.Event,
        look: float = 1.0,
        end: Callable[[str], None] = lambda words: _end(words),
    ) -> None:
        self._server, self._ended, self._look, self._end = server, ended, look, end
        self._still = self._ending = 0

    def run(self) -> None:
        """Looks until the server has ended, or has to be ended."""
        before = -1
        while not self._ended.wait(self._look):
            ticks = self._server.ticks
            self._still = self._still + 1 if ticks == before and ticks else 0
            self._ending += self._server.should_exit
            before = ticks
            if self._still >= STILL_LOOKS:
                return self._end(f"the event loop has been blocked for {STILL_LOOKS} seconds")
            if self._ending >= ENDING_LOOKS:
                return self._end(f"it did not end within {ENDING_LOOKS} seconds")


def _end(words: str) -> None:
    print(f"charter: error: {words}; this process ends itself; start it again", file=sys.stderr, flush=True)
    os._exit(70)  # EX_SOFTWARE: waits for nothing that hangs


class Server(uvicorn.Server):
    """Reports when it can be reached, and closes stuck connections. `ticks` grow while its event loop runs."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None] = lambda: None, sweep: Sweep | None = None
    ) -> None:
        super().__init__(config)
        self._ready, self._sweep, self._looked = ready, sweep or Sweep(), 0.0
        self.ticks = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        self.ticks += 1
        if (now := time.monotonic()) - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._sweep.look(self.server_state.connections, now)
        return await super().on_tick(counter)


def _open_files() -> None:
    """Raises this process's limit of open files as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or soft < hard):
        limit = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def log_to_stderr(name: str, form: str = "%(asctime)s %(message)s") -> None:
    """Sends a service's log to standard error, once."""
    log = logging.getLogger(name)
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
