"""Simulated workers vote through `charter arena serve` while the server is killed; no vote may be lost or doubled.

    python benchmarks/arena_load.py                     5 minutes each on SQLite and on a private PostgreSQL server
    python benchmarks/arena_load.py --seconds 10 --workers 20 --kills 1 --only sqlite

The server runs as people run it, in a process of its own, on loopback, with two tiny random models. It is killed with
SIGKILL at random moments and started again. Each worker notes what it sends and what the server acknowledged with a 303;
at the end the database must hold each acknowledged vote with the choice that was sent, no vote that nobody sent, one
vote a turn, and no turn that still waits. Exit code 1 where it doesn't. There is no peer: the figures are our own.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from private_postgres import NoPostgres, private_postgres
from side import machine, print_table
from sqlalchemy import Engine, select

from charter.ground.text.ballot import ballot_of
from charter_service.arena.simulated import Load, Outcome, Sent, percentiles, simulate
from charter_service.people.export import open_people
from charter_service.people.tables import CONVERSATIONS, TURNS, VOTES
from charter_service.web.database import reading

KINDS = ("sqlite", "postgresql")
START_SECONDS = 120.0
SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What is asked of one run."""

    workers: int
    seconds: float
    kills: int
    seed: int = 0


@dataclass
class Log:
    """What workers sent and what was acknowledged, by turn."""

    sent: dict[str, set[str]] = field(default_factory=dict)
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, sent: Sent) -> None:
        """Notes a vote."""
        with self._lock:
            kept = self.acknowledged if sent.acknowledged else self.sent
            kept.setdefault(sent.turn, set()).add(sent.choice)


class Server:
    """`charter arena serve` in a process of its own, on one port."""

    def __init__(self, config: Path) -> None:
        self._config = config
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Starts it; returns the seconds until it takes requests."""
        began = time.monotonic()
        words = ["-m", "charter", "arena", "serve", str(self._config), "--port", str(self._port), "--json"]
        log = (self._config.parent / "server.log").open("ab")
        with log:
            self.process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            said = (self._config.parent / "server.log").read_text("utf-8", "replace")[-400:]
            raise SystemExit(f"the server did not start: {said}")
        return time.monotonic() - began

    def end(self, how: signal.Signals) -> None:
        """Sends a signal and waits for the end."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def run_load(place: str, folder: Path, options: Options) -> dict[str, Any]:
    """One run on one database, and what it found."""
    server, log, away = Server(write_config(folder, place)), Log(), list[float]()
    server.start()
    engine = open_people(place, folder)
    try:
        done = threading.Event()
        killer = threading.Thread(target=_kill, args=(server, options, done, away))
        killer.start()
        load = Load(server.url, options.workers, sys.maxsize, options.seed, seconds=options.seconds)
        try:
            outcome = simulate(engine, load, heard=log.hear)
        finally:
            done.set()
            killer.join()
        stuck = _settle(engine)
    finally:
        if server.process is not None:
            server.end(signal.SIGTERM)
        found = check(engine, log)
        engine.dispose()
    return _figures(outcome, options, log, found | {"stuck": stuck, "kills": len(away)}, away)


def write_config(folder: Path, database: str) -> Path:
    """Two tiny models that answer in a few tokens, all three tasks, and limits that many workers of one address keep."""
    limits = ("person_rate", "person_burst", "address_rate", "address_burst", "entry_rate", "entry_burst")
    plain = {"gold_share": 0, "repeat_share": 0}
    content = {
        "name": "Load",
        "database": database,
        "models": [{"name": "first", "model": "random:tiny"}, {"name": "second", "model": "random:tiny@7"}],
        "tasks": {"helpful": plain, "honest": plain, "harmless": {**plain, "pairing": "same"}},
        "pace": {"fastest": 0, "turns_per_hour": 100_000},
        "sampling": {"max_tokens": 8},
        "limits": dict.fromkeys(limits, 1e6),
    }
    path = folder / "arena.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def _kill(server: Server, options: Options, done: threading.Event, away: list[float]) -> None:
    """Kills the server at random moments in the middle of the run, and starts it again."""
    draw = random.Random(options.seed)
    moments = sorted(draw.uniform(0.15, 0.8) * options.seconds for _ in range(options.kills))
    began = time.monotonic()
    for moment in moments:
        if done.wait(max(0.0, began + moment - time.monotonic())):
            return
        server.end(signal.SIGKILL)
        away.append(server.start())


def _settle(engine: Engine) -> int:
    """How many turns of open conversations wait for replies still, after a while."""
    end, waiting = time.monotonic() + SETTLE_SECONDS, -1
    wanted = (
        select(TURNS.c.id)
        .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
        .where(TURNS.c.state == "waiting", CONVERSATIONS.c.state == "open")
    )
    while waiting and time.monotonic() < end:
        with reading(engine) as connection:
            waiting = len(connection.execute(wanted).all())
        time.sleep(0.2 if waiting else 0)
    return waiting


def check(engine: Engine, log: Log) -> dict[str, int]:
    """What is wrong with the database: votes lost, changed, doubled, of nobody; and votes that got in unacknowledged."""
    wanted = select(VOTES, TURNS.c.shown_left, TURNS.c.state).outerjoin(TURNS, TURNS.c.id == VOTES.c.turn)
    with reading(engine) as connection:
        rows = connection.execute(wanted).all()
        numbers = connection.execute(select(TURNS.c.conversation, TURNS.c.number)).all()
        open_ones = connection.execute(
            select(CONVERSATIONS.c.person, CONVERSATIONS.c.axis).where(CONVERSATIONS.c.state == "open")
        ).all()
        voted = set(connection.execute(select(TURNS.c.id).where(TURNS.c.state == "voted")).scalars())
    stored = {row.turn: row for row in rows}

    def said(turn: str, choices: set[str]) -> bool:
        row = stored[turn]
        found = (row.outcome, row.strength)
        return any(
            (ballot := ballot_of(choice, row.shown_left)) and (ballot.outcome, ballot.strength) == found
            for choice in choices
        )

    known = log.acknowledged.keys() & stored.keys()
    return {
        "lost": len(log.acknowledged.keys() - stored.keys()),
        "changed": sum(not said(turn, log.acknowledged[turn]) for turn in known),
        "doubled": len(rows) - len(stored) + sum(len(choices) > 1 for choices in log.acknowledged.values()),
        "of_nobody": len(stored.keys() - log.sent.keys()),
        "half": len(voted ^ stored.keys()),
        "open_twice": sum(count - 1 for count in Counter(map(tuple, open_ones)).values()),
        "turns_twice": sum(count - 1 for count in Counter(map(tuple, numbers)).values()),
        "unacknowledged": len(stored.keys() - log.acknowledged.keys()),
        "stored": len(stored),
    }


WRONG = ("lost", "changed", "doubled", "of_nobody", "half", "open_twice", "turns_twice", "stuck")


def _figures(outcome: Outcome, options: Options, log: Log, found: dict[str, int], away: list[float]) -> dict[str, Any]:
    votes = next((v for what, v in outcome.waits.items() if what.endswith("/vote")), [])
    every = [seconds for values in outcome.waits.values() for seconds in values]
    return {
        "workers": options.workers,
        "seconds": round(outcome.seconds, 1),
        "acknowledged": len(log.acknowledged),
        "votes_a_second": round(len(log.acknowledged) / outcome.seconds, 2),
        "vote_ms": percentiles(votes) if votes else {},
        "request_ms": percentiles(every) if every else {},
        "requests_a_second": round(len(every) / outcome.seconds, 1),
        "away_seconds": [round(seconds, 1) for seconds in away],
        "refused": dict(outcome.refused),
        **found,
    }


@contextmanager
def database_of(kind: str, folder: Path) -> Iterator[str]:
    """The place of a new database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'people.sqlite'}"
        return
    with private_postgres() as url:
        yield url.format(name="postgres")


def main() -> None:
    """Runs the load on each database and prints what was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=200)
    options.add_argument("--seconds", type=float, default=300)
    options.add_argument("--kills", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=KINDS, help="one database")
    options.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the servers too
    found: dict[str, dict[str, Any]] = {}
    for kind in (given.only,) if given.only else KINDS:
        try:
            with tempfile.TemporaryDirectory() as scratch, database_of(kind, Path(scratch)) as place:
                asked = Options(given.workers, given.seconds, given.kills, given.seed)
                found[kind] = run_load(place, Path(scratch), asked)
        except NoPostgres as missing:
            sys.exit(f"arena_load.py: error: {missing}")
    if given.json:
        print(json.dumps({"machine": machine(2), "runs": found}, indent=1))
    else:
        _print(found)
    wrong = {kind: {name: row[name] for name in WRONG if row[name]} for kind, row in found.items()}
    if any(wrong.values()):
        sys.exit(f"arena_load.py: error: {wrong}")


def _print(found: dict[str, dict[str, Any]]) -> None:
    print(", ".join(f"{name} {value}" for name, value in machine(2).items()) + "\n")
    rows = [["", *found]]
    names = dict.fromkeys(name for row in found.values() for name in row if name != "refused")
    for name in names:
        rows.append([name.replace("_", " "), *(_cell(row[name]) for row in found.values())])
    print_table(rows)
    for kind, row in found.items():
        for words, count in row["refused"].items():
            print(f"{kind}: {count} times {words}")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " / ".join(f"{value[name]:.0f}" for name in ("p50", "p95", "p99") if name in value) or "-"
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)


if __name__ == "__main__":
    main()
