"""How long the admin pages take on a large database: requests, usage, feedback and decisions, as p50 and p95.

    python benchmarks/console_load.py [--requests 10000000] [--days 365] [--organisations 100] [--keys 10] [--models 5]
                                      [--database postgresql] [--times 20] [--folder DIR]

It seeds an accounts' database by SQL alone, serves it without a model, and asks each page over TCP, one after another.
A row of usage stands for about 5 requests at the defaults, so that 1.8 million rows are the usage of 10 million
requests. `--database postgresql` starts a private server of PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, Engine, event, text

sys.path += [str(Path(__file__).parents[1] / "tests" / place) for place in ("", "service/api")]
sys.path.append(str(Path(__file__).parent))

from lobby import Hall, Said, configuration, open_hall
from private_postgres import private_postgres

from charter_service.accounts.store import open_accounts
from charter_service.web.database import writing

PIECE = 500_000


def main() -> None:
    options = read_options()
    with place_of(options) as (folder, database):
        began = time.perf_counter()
        if options.seeded:
            database = str(options.seeded.resolve())
        else:
            engine = open_accounts(database, folder)
            seed(engine, options)
            engine.dispose()
        print(f"seeded in {time.perf_counter() - began:.0f} s")
        with open_hall(folder, configuration(database=database), said=Said("x")) as hall:
            measure(hall, options.times)


def read_options() -> argparse.Namespace:
    reader = argparse.ArgumentParser()
    for name, number in (("requests", 10_000_000), ("days", 365), ("organisations", 100), ("keys", 10)):
        reader.add_argument(f"--{name}", type=int, default=number)
    reader.add_argument("--models", type=int, default=5)
    reader.add_argument("--times", type=int, default=20)
    reader.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    reader.add_argument("--folder", type=Path, default=None)
    reader.add_argument("--seeded", type=Path, default=None, help="a SQLite file that was seeded before")
    return reader.parse_args()


@contextmanager
def place_of(options: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.database == "sqlite":
            yield Path(folder), "serve.sqlite"
        else:
            with private_postgres() as url:
                yield Path(folder), url.format(name="postgres")


def series(connection: Connection, count: str, first: str = "0") -> str:
    """A table of one column n with whole numbers."""
    if connection.dialect.name == "postgresql":
        return f"(SELECT n FROM generate_series({first}::bigint, {first} + {count} - 1) AS s(n)) AS s"
    return (
        f"(WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {first} + {count}) "
        "SELECT n FROM s) AS s"
    )


def seed(engine: Engine, options: argparse.Namespace) -> None:
    """Organisations, keys, their usage by day, its sums, and requests over 30 days."""
    keys, now = options.organisations * options.keys, time.time()
    first = datetime.now(UTC).date() - timedelta(options.days - 1)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA cache_size=-1000000")

        engine.dispose()
    with writing(engine) as connection:
        _owners(connection, options)
        days = f"{series(connection, str(options.days)).removesuffix(' AS s')} AS d"
        date = (
            f"CAST(DATE '{first}' + CAST(d.n AS integer) AS text)"
            if connection.dialect.name == "postgresql"
            else f"date('{first}', d.n || ' days')"
        )
        for key in range(keys):  # near each other in the table's own order
            connection.execute(
                text(
                    "INSERT INTO usage (key, day, model, requests, refused, input_tokens, cached_tokens, output_tokens) "
                    f"SELECT 'key_{key}', {date}, 'model-' || s.n, 5, d.n % 3, 900 + d.n % 1000, d.n % 700, 100 + d.n % 90 "
                    f"FROM {days}, {series(connection, str(options.models))}"
                )
            )
        print(f"  {keys * options.days * options.models:,} rows of usage", flush=True)
        names = ("requests", "refused", "input_tokens", "cached_tokens", "output_tokens")
        sums = ", ".join(f"SUM(u.{name})" for name in names)
        for whose, group in (("k.organisation", ", k.organisation"), ("''", "")):
            connection.execute(
                text(
                    f"INSERT INTO usage_sums (day, organisation, model, {', '.join(names)}) "
                    f"SELECT u.day, {whose}, u.model, {sums} FROM usage u JOIN keys k ON k.id = u.key "
                    f"GROUP BY u.day, u.model{group}"
                )
            )
    for start in range(0, options.requests, PIECE):
        count = min(PIECE, options.requests - start)
        with writing(engine) as connection:
            _requests(connection, options, start, count, now)
        print(f"  {start + count:,} requests", flush=True)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _owners(connection: Connection, options: argparse.Namespace) -> None:
    keys = options.organisations * options.keys
    connection.execute(
        text(
            "INSERT INTO organisations (id, name, created, disabled) "
            f"SELECT 'org_' || n, 'Organisation ' || n, 1.0, false FROM {series(connection, str(options.organisations))}"
        )
    )
    connection.execute(
        text(
            "INSERT INTO keys (id, organisation, name, digest, hint, scopes, models, created, requests_per_minute, "
            "input_tokens_per_minute, output_tokens_per_minute, concurrency) "
            f"SELECT 'key_' || n, 'org_' || (n % {options.organisations}), 'key ' || n, 'digest' || n, 'abcd', "
            f"'messages', '', 1.0, 0, 0, 0, 0 FROM {series(connection, str(keys))}"
        )
    )


def _requests(connection: Connection, options: argparse.Namespace, start: int, count: int, now: float) -> None:
    keys, span = options.organisations * options.keys, 30 * 86_400.0
    key = f"((n * 7919) % {keys})"
    connection.execute(
        text(
            "INSERT INTO requests (id, at, organisation, key, model, surface, status, refused, milliseconds, "
            "first_milliseconds, input_tokens, cached_tokens, output_tokens) "
            f"SELECT 'req_' || n, {now - span} + n * {span / options.requests}, 'org_' || ({key} % "
            f"{options.organisations}), 'key_' || {key}, 'model-' || (n % {options.models}), 'messages', "
            "CASE WHEN n % 997 = 0 THEN 500 WHEN n % 53 = 0 THEN 429 ELSE 200 END, n % 1009 = 0, (n * 31) % 20000, "
            f"(n * 17) % 900, n % 5000, n % 3000, n % 700 FROM {series(connection, str(count), str(start))}"
        )
    )


def pages(hall: Hall) -> dict[str, str]:
    """Addresses by what they show."""
    today = datetime.now(UTC).date()
    year = f"since={(today - timedelta(364)).isoformat()}"
    return {
        "overview": "",
        "requests, newest": "/requests",
        "requests of an organisation": "/requests?organisation=org_7",
        "requests of a key": "/requests?key=key_77",
        "requests that failed (500)": "/requests?status=500",
        "requests, 4xx of a model": "/requests?status=wrong&model=model-1",
        "requests, slow of a key": "/requests?key=key_77&slower=19000",
        "requests, none match": "/requests?slower=999999",
        "requests, a week ago": f"/requests?until={(today - timedelta(7)).isoformat()}T00:00",
        "one request": "/requests?request=req_12345",
        "usage, 30 days": "/usage",
        "usage, a year": f"/usage?{year}",
        "usage, a year, an organisation": f"/usage?{year}&organisation=org_7",
        "usage, a year, a key": f"/usage?{year}&organisation=org_7&key=key_7",
        "usage, a year, a model": f"/usage?{year}&model=model-2",
        "usage, a year, next page": f"/usage?{year}&after={today.isoformat()}|key_5|model-3",
        "feedback": "/feedback",
        "policy": "/policy",
        "evaluations": "/runs",
    }


def measure(hall: Hall, times: int) -> None:
    headers = {"x-api-key": hall.key("house", ("admin",)), "accept": "text/html"}
    session = httpx.Client(base_url=hall.url, timeout=600)
    entered = session.post("/admin/enter", data={"key": headers["x-api-key"]})
    cookie = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
    found = {}
    for what, path in pages(hall).items():
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            answer = session.get(f"/admin{path}", headers=cookie)
            seconds.append(time.perf_counter() - began)
            assert answer.status_code == 200, (what, answer.text[:500])
        p50, p95 = statistics.median(seconds), sorted(seconds)[max(0, round(0.95 * times) - 1)]
        found[what] = {"p50_ms": round(1000 * p50), "p95_ms": round(1000 * p95)}
        print(f"{what:34} p50 {1000 * p50:7.0f} ms  p95 {1000 * p95:7.0f} ms", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
