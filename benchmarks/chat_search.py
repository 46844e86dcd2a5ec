"""Search in a chat with many messages: how long it takes, and whether other people's messages make it longer.

    python benchmarks/chat_search.py [--messages 200000] [--postgres]

Fills a database with messages of 20 to 120 words, drawn as words are (Zipf), and searches for frequent and rare words,
pairs of them and beginnings of words. One person owns all messages, then one of a hundred people owns a hundredth and
the rest is the others'. It prints the median and the 95th percentile. Goal: 50 ms at the 95th percentile.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from private_postgres import private_postgres
from sqlalchemy import Engine, text

from charter.service.chat.branches import DONE, Message
from charter.service.chat.searching import search
from charter.service.chat.tree import copy
from charter.service.people.export import open_people
from charter.service.people.workers import Person, invite, join
from charter.service.web.database import reading, writing

WORDS = 30_000
CHAT = 100  # messages
SEARCHES = 200


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--messages", type=int, default=200_000)
    options.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    asked = options.parse_args()
    for owners in (1, 100):
        with opened(asked.postgres) as engine:
            began = time.perf_counter()
            people = fill(engine, asked.messages, owners)
            filled = time.perf_counter() - began
            times = measure(engine, people[-1])
        ordered = sorted(times)
        print(
            f"{'postgresql' if asked.postgres else 'sqlite'}: {asked.messages:,} messages of {owners} people "
            f"({filled:.0f} s to fill): median {statistics.median(times):.1f} ms, "
            f"p95 {ordered[int(0.95 * len(ordered))]:.1f} ms, worst {ordered[-1]:.1f} ms",
            flush=True,
        )


@contextmanager
def opened(postgres: bool) -> Iterator[Engine]:
    """An empty database."""
    if postgres:
        with private_postgres() as url:
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
    """A word of its number: frequent words are short."""
    letters, word = "etaoinshrdlucm", ""
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
            said = " ".join(stock[start : start + count])
            role, author = ("assistant", "model") if n % 2 else ("user", "person")
            line.append(Message("", "", "", role, author, DONE, said, "m", "", "", "", 0, 0, 0, "", 0.0))
        with writing(engine) as connection:
            copy(connection, people[begun // CHAT % owners], f"chat {begun}", "m", line)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return people


def measure(engine: Engine, person: Person) -> list[float]:
    """Milliseconds of each search."""
    chance = random.Random(1)
    times = []
    for n in range(SEARCHES):
        frequent, rare = spelled(chance.randrange(50)), spelled(chance.randrange(1000, WORDS))
        query = (frequent, rare, f"{frequent} {rare}", f"{frequent} {spelled(n % 20)}", rare[:2], "e")[n % 6]
        began = time.perf_counter()
        with reading(engine) as connection:
            search(connection, person, query)
        times.append(1000 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
