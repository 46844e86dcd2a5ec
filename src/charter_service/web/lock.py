"""One process serves a database: a lock that ends with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, event

from charter.ground.artifact.errors import CharterError
from charter_service.web.database import LOCK, POSTGRESQL, without_password

SERVED = LOCK + 1  # PostgreSQL's advisory lock of the serving process
GONE_SECONDS = 3.0  # until PostgreSQL has seen that a killed process is gone


def serve_alone(engine: Engine, seconds: float = 0.0) -> None:
    """Keeps other processes from serving this database, until the engine is disposed of or the process ends.

    Raises CharterError if another process serves it and doesn't end within some seconds.
    """
    given_up = time.monotonic() + seconds
    if engine.dialect.name == POSTGRESQL:
        lock = _on_server(engine, given_up + GONE_SECONDS)
        event.listen(engine, "engine_disposed", lambda _: lock.close(), once=True)
    else:
        file = _on_file(engine, given_up)
        event.listen(engine, "engine_disposed", lambda _: os.close(file), once=True)


def _on_file(engine: Engine, given_up: float) -> int:
    """A lock on a file beside the database; the file stays, and holds the id of the process."""
    database = Path(engine.url.database or "").resolve()  # whatever link leads to it
    file = os.open(database.with_name(f"{database.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    while not _locked(file):
        if time.monotonic() >= given_up:
            owner = os.read(file, 20).decode("ascii", "replace").strip()
            os.close(file)
            raise _served(engine, f" by process {owner}" if owner else "")
        time.sleep(0.1)
    os.truncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode("ascii"))
    return file


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _on_server(engine: Engine, given_up: float) -> Connection:
    """A separate connection that holds the lock; the server releases it when the connection ends."""
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()  # else it would return to the pool with the lock
    while not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({SERVED})").scalar():
        if time.monotonic() > given_up:
            connection.close()
            raise _served(engine, "")
        time.sleep(0.1)
    return connection


def _served(engine: Engine, by: str) -> CharterError:
    return CharterError(
        f"{without_password(engine.url)} is already served{by}: one process serves a database; stop that one, or name "
        "another database"
    )
