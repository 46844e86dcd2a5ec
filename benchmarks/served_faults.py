"""What a server does on a full disk and while somebody holds its database's lock, with times: criterion by criterion.

    python benchmarks/served_faults.py [--seconds 60] [--postgres]

The disk is a tmpfs of 20 MiB, for which root is needed; the lock is SQLite's write lock, and on PostgreSQL EXCLUSIVE on
every table, held by another session. The model is a double that says two words. It prints a line of JSON for each part,
with how often each thing was asked.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "tests" / "serve"), str(HERE)]

from lobby import MODEL, Hall, Said, configuration, open_hall  # noqa: E402
from malformed import HELLO  # noqa: E402
from private_postgres import private_postgres  # noqa: E402

from charter_service.accounts.keys import USUAL  # noqa: E402
from charter_service.accounts.tables import KEYS, METADATA  # noqa: E402

MIB = 2**20
BODY = {"model": MODEL, "max_tokens": 50, "messages": HELLO}
BATCHES = "/v1/messages/batches"
FORGOTTEN = 1.05  # seconds after which a key is looked up anew


def asked(hall: Hall, secret: str, path: str, body: Any = None) -> tuple[int, float]:
    """Status and seconds of a request."""
    given, began = {"x-api-key": secret, "anthropic-version": "2023-06-01"}, time.monotonic()
    method = "GET" if body is None else "POST"
    answer = httpx.request(method, hall.url + path, headers=given, json=body, timeout=120)
    return answer.status_code, time.monotonic() - began


def many(ask: Callable[[], tuple[int, float]], n: int, pause: float = 0.0) -> dict[str, Any]:
    """Statuses and times of a request that is made again and again."""
    found = []
    for _ in range(n):
        time.sleep(pause)
        found.append(ask())
    times = sorted(seconds for _, seconds in found)
    statuses = sorted({status for status, _ in found})
    return {"n": n, "statuses": statuses, "median_ms": _ms(times[n // 2]), "longest_ms": _ms(times[-1])}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


@contextmanager
def small_disk(mib: int) -> Iterator[Path]:
    """A file system of so many MiB."""
    folder = Path(tempfile.mkdtemp(prefix="charter-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def fill(file: Path, most: int = 2**40) -> Path:
    """Takes room: so many bytes, or all that is left."""
    with file.open("wb", buffering=0) as out, suppress(OSError):
        while most > 0 and (wrote := out.write(b"x" * min(4096, most))):
            most -= wrote
    return file


def full_disk(rounds: int) -> dict[str, Any]:
    """One key's batches, then a full disk."""
    said = Said("One ", "two")
    with small_disk(20) as disk:
        others = fill(disk / "others", 10 * MIB)
        with open_hall(disk, said=said) as hall:
            greedy, ours, admin = hall.key("greedy"), hall.key("ours"), hall.key("us", (*USUAL, "admin"))
            more = [hall.key("greedy") for _ in range(9)]
            ids = [row.id for row in hall.rows(KEYS) if row.organisation == hall.organisations["greedy"]]
            again = iter(ids)
            said.gate.clear()
            large = {"requests": [{"custom_id": "a", "params": {**BODY, "system": "x" * (MIB // 2)}}]}
            taken = [asked(hall, greedy, BATCHES, large)[0] for _ in range(60)]
            stopped = {"taken": taken.count(200), "then": sorted(set(taken[taken.count(200) :]))}
            said.gate.set()
            fill(disk / "rest")
            found: dict[str, Any] = {
                "key_stopped": stopped,
                "free_bytes": hall.service.room.free,
                "ready": httpx.get(f"{hall.url}/ready").json(),
                "ready_status": httpx.get(f"{hall.url}/ready").status_code,
                "messages": many(lambda: asked(hall, ours, "/v1/messages", BODY), rounds),
                "admin": many(lambda: asked(hall, admin, "/admin/keys"), 10),
                "revoke": many(lambda: asked(hall, admin, f"/admin/keys/{next(again)}/revoke", {}), len(ids)),
                "revoked_keys": [asked(hall, one, "/v1/messages", BODY)[0] for one in (greedy, *more)],
            }
        with open_hall(disk, said=said) as hall:
            after = [asked(hall, one, "/v1/messages", BODY)[0] for one in (greedy, *more)]
            found["revoked_keys_after_restart"] = after
            found["messages_after_restart"] = many(lambda: asked(hall, ours, "/v1/messages", BODY), rounds)
            others.unlink()
            found["free_bytes_then"] = hall.service.room.free
            found["ready_then"] = httpx.get(f"{hall.url}/ready").status_code
            small = {"requests": [{"custom_id": "a", "params": BODY}]}
            found["batch_then"] = asked(hall, ours, BATCHES, small)[0]
            found["messages_then"] = many(lambda: asked(hall, ours, "/v1/messages", BODY), rounds)
    return found


def held_lock(seconds: float, database: str, holding: Callable[[], Any], folder: Path) -> dict[str, Any]:
    """Keys are looked up once a second while somebody holds the lock."""
    config = configuration(database=database)
    with open_hall(folder, config, said=Said("One ", "two")) as hall:
        secret, other = hall.key(), hall.key("other")
        asked(hall, secret, "/v1/messages", BODY)
        time.sleep(1)
        n = max(1, int(seconds / 2 / (FORGOTTEN + 0.1)))
        before = many(lambda: asked(hall, secret, "/v1/models"), n, FORGOTTEN)
        free = holding()
        try:
            keys = many(lambda: asked(hall, secret, "/v1/models"), n, FORGOTTEN)
            messages = many(lambda: asked(hall, other, "/v1/messages", BODY), n, FORGOTTEN)
        finally:
            free()
        then = many(lambda: asked(hall, secret, "/v1/messages", BODY), 5)
    return {"seconds": seconds, "keys_before": before, "keys": keys, "messages": messages, "then": then}


def sqlite_lock(seconds: float) -> dict[str, Any]:
    """SQLite's write lock."""
    with tempfile.TemporaryDirectory() as folder:

        def holding() -> Callable[[], Any]:
            holder = sqlite3.connect(Path(folder) / "serve.sqlite", isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            return lambda: (holder.execute("ROLLBACK"), holder.close())

        return held_lock(seconds, "serve.sqlite", holding, Path(folder))


def postgres_lock(seconds: float) -> dict[str, Any]:
    """All tables of a PostgreSQL database, against whoever writes."""
    import psycopg

    with private_postgres() as url, tempfile.TemporaryDirectory() as folder:
        with psycopg.connect(url.format(name="postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE served")

        def holding() -> Callable[[], Any]:
            holder = psycopg.connect(url.format(name="served"))
            names = ", ".join(f'"{name}"' for name in METADATA.tables)
            holder.execute(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            return lambda: (holder.rollback(), holder.close())

        return held_lock(seconds, url.format(name="served"), holding, Path(folder))


def main() -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    print(json.dumps({"full disk": full_disk(given.rounds)}), flush=True)
    print(json.dumps({"lock": sqlite_lock(given.seconds)}), flush=True)
    if given.postgres:
        print(json.dumps({"lock of PostgreSQL": postgres_lock(given.seconds)}), flush=True)


if __name__ == "__main__":
    main()
