"""Search in a chat with many messages: how long it takes, and whether other people's messages make it longer.

    python benchmarks/chat_search.py [--messages 200000] [--postgres]

Fills a database with messages of 20 to 120 words, drawn as words are (Zipf), and searches for frequent and rare words,
pairs of them and beginnings of words, and a word of the oldest half alone. One person owns all messages, then one of a
hundred people owns a hundredth and the rest is the others'. It prints the median and the 95th percentile of each kind
of search and of all. Goal: 50 ms at the 95th percentile.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import psycopg
from private_postgres import private_postgres
from sqlalchemy import Engine, text

from charter_service.chat.branches import DONE, Message
from charter_service.chat.searching import search
from charter_service.chat.tree import copy
from charter_service.people.export import open_people
from charter_service.people.workers import Person, invite, join
from charter_service.web.database import reading, writing

WORDS = 30_000
CHAT = 100  # messages
SEARCHES = 60  # of each kind
STEM = "under"  # begins each twentieth word
OLD = "yesteryear"  # ends each message of the older half


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    options = parser.parse_args()
    for owners in (1, 100):
        with opened(options.postgres) as engine:
            began = time.perf_counter()
            people = fill(engine, options.messages, owners)
            filled = time.perf_counter() - began
            times = measure(engine, people[-1])
        kind = "postgresql" if options.postgres else "sqlite"
        print(f"{kind}: {options.messages:,} messages of {owners} people, {filled:.0f} s to fill")
        for name, some in {**times, "all": list(chain(*times.values()))}.items():
            ordered = sorted(some)
            p95 = ordered[int(0.95 * len(ordered))]
            print(
                f"  {name:18} median {statistics.median(some):5.1f} ms  p95 {p95:5.1f} ms  worst {ordered[-1]:5.1f} ms"
            )
        sys.stdout.flush()


@contextmanager
def opened(postgres: bool) -> Iterator[Engine]:
    """An empty database."""
    if postgres:
        with private_postgres(durable=False) as url:
            with psycopg.connect(url.format(name="postgres"), autocommit=True) as connection:
                connection.execute("CREATE DATABASE chat")
            engine = open_people(url.format(name="chat"))
            yield engine
            engine.dispose()
        return
    with tempfile.TemporaryDirectory() as folder:
        engine = open_people(str(Path(folder) / "people.sqlite"))
        yield engine
        engine.dispose()


def spelled(number: int) -> str:
    """A word of its number: frequent words are short, but for those that begin with STEM."""
    letters, word = "etaoinshrdlucm", STEM if number % 20 == 7 else ""
    number += 1
    while number:
        number, rest = divmod(number, len(letters))
        word += letters[rest]
    return word


def fill(engine: Engine, messages: int, owners: int) -> list[Person]:
    """People with chats, in turn, so that their messages lie among one another's."""
    chance = random.Random(0)
    words = [spelled(n) for n in range(WORDS)]
    weights = [1 / (n + 1) for n in range(WORDS)]
    stock = chance.choices(words, weights, k=2_000_000)
    with writing(engine) as connection:
        people = [join(connection, invite(connection, "member"), f"person {n}")[0] for n in range(owners)]
    for begun in range(0, messages, CHAT):
        line = []
        for n in range(CHAT):
            start, count = chance.randrange(len(stock) - 200), chance.randrange(20, 120)
            said = " ".join([*stock[start : start + count], *([OLD] if begun < messages / 2 else [])])
            role, author = ("assistant", "model") if n % 2 else ("user", "person")
            line.append(Message("", "", "", role, author, DONE, said, "m", "", "", "", 0, 0, 0, "", 0.0))
        with writing(engine) as connection:
            copy(connection, people[begun // CHAT % owners], f"chat {begun}", "m", line)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return people


def measure(engine: Engine, person: Person) -> dict[str, list[float]]:
    """Milliseconds of each search, by its kind."""
    chance = random.Random(1)
    times = defaultdict[str, list[float]](list)
    for n in range(SEARCHES):
        frequent, rare = spelled(chance.randrange(50)), spelled(chance.randrange(1000, WORDS))
        queries = {
            "frequent": frequent,
            "rare": rare,
            "frequent and rare": f"{frequent} {rare}",
            "rare and frequent": f"{rare} {frequent}",
            "both frequent": f"{frequent} {spelled(n % 20)}",
            "two letters": rare[:2],
            "one letter": "e",
            "a frequent stem": STEM,
            "only in old ones": OLD,
            "missing": "zzz",
        }
        for kind, query in queries.items():
            began = time.perf_counter()
            with reading(engine) as connection:
                search(connection, person, query)
            times[kind].append(1000 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
