"""A PostgreSQL server of one's own: a new cluster in a temporary folder, reached by a socket in it, gone at the end.

PostgreSQL refuses to run as root: then it runs as `postgres`, or `nobody` where there is no such user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 30.0
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


class NoPostgres(Exception):
    """There is no PostgreSQL here, or it doesn't start; the message says why."""


def programs() -> Path:
    """The folder of `initdb` and `postgres`, of the newest version. Raises NoPostgres."""
    found = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    for pattern in _PLACES:
        found += sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)
    for folder in found:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise NoPostgres("PostgreSQL is not installed: no initdb and postgres on PATH or below /usr/lib/postgresql")


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in str(folder)).split())


def _runner() -> dict[str, Any]:
    """As whom the server runs: whoever runs this, unless that is root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            who = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    raise NoPostgres("PostgreSQL can't run as root, and there is no user postgres or nobody")


@contextmanager
def private_postgres(durable: bool = True) -> Iterator[str]:
    """The URL of a running server, `{name}` standing for a database that the caller makes; stopped at the end.

    Without `durable` nothing is synced to disk: for tests that nobody pulls the plug on. Raises NoPostgres.
    """
    binaries, runner = programs(), _runner()
    folder = Path(tempfile.mkdtemp(prefix="charter-postgres-"))
    try:
        if runner:
            os.chown(folder, runner["user"], runner["group"])
        made = subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "charter", "-E", "UTF8", "-N"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **runner,
        )
        if made.returncode:
            raise NoPostgres(f"initdb failed: {made.stderr.strip()[-300:]}")
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "max_connections=200"]
        settings += [] if durable else ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        command = [str(binaries / "postgres"), "-D", str(folder / "data")]
        for setting in settings:
            command += ["-c", setting]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **runner)
        try:
            _wait(server, folder)
            yield f"postgresql://charter@/{{name}}?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # its "fast" shutdown
            try:
                server.wait(SECONDS)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Until it takes connections."""
    pid = folder / "data" / "postmaster.pid"
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        if pid.is_file() and pid.read_text().rstrip().endswith("ready"):
            return
        time.sleep(0.05)
    raise NoPostgres(f"postgres did not start: {(folder / 'log').read_text()[-300:]}")
