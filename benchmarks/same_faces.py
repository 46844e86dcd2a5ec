"""What people and programs see of charter, written as text, so that two versions can be compared.

    python benchmarks/same_faces.py BEFORE --tree ONE_CHECKOUT
    python benchmarks/same_faces.py AFTER               # of this checkout
    diff -r BEFORE AFTER

Help of every command; the plan of every recipe; a server with the packaged model: its `/openapi.json`, what the
published clients of Anthropic and OpenAI get at temperature 0, streams and errors included, and every page that links
lead to, signed in; the chat before and after a question; an arena before and after a vote; the tables of their
databases. What chance or the clock decides (ids, tokens, times, speeds, ports) is written as its kind, by the table in
`same_faces_web.py`. All goes by the command line, in a fresh folder; nothing of charter is imported here.

The tested tree's `src` goes on PYTHONPATH. Compare what was written on one machine on one day, one after the other:
texts of replies, of which kernels decide the last bit, and lists by day are not normalised.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from private_postgres import NoPostgres, private_postgres
from same_faces_served import SOURCE, write_arena, write_chat, write_service
from same_faces_web import Part

if TYPE_CHECKING:
    import psycopg

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {
    "columns": "SELECT table_schema, table_name, column_name, ordinal_position, column_default, is_nullable, data_type, "
    "character_maximum_length FROM information_schema.columns WHERE {own} ORDER BY 1, 2, 4",
    "constraints": "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = "
    "'public'::regnamespace ORDER BY 1::text, 2",
    "indexes": "SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes WHERE schemaname NOT IN "
    "('pg_catalog', 'information_schema') ORDER BY 1, 2, 3",
    "tables": "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE {own} ORDER BY 1, 2",
}


def write_help(part: Part) -> None:
    """The help of every command, found from that of its family."""
    waiting: deque[Sequence[str]] = deque([()])
    while waiting:
        command = waiting.popleft()
        text = part.charter(*command, "--help")
        (part.out / f"{'_'.join(command) or 'charter'}.txt").write_text(text)
        panels = re.findall(r"─ (\w[^─]*?) ─+╮\n(.*?)╰", text, re.DOTALL)
        rows = [body for title, body in panels if title not in ("Options", "Arguments")]
        names = [name for body in rows for name in re.findall(r"(?m)^│ ([a-z][\w-]*) ", body)]
        waiting.extend((*command, name) for name in names)


def write_plans(part: Part) -> None:
    """What each recipe would run; ids of artifacts, which depend on the code, are left out."""
    for recipe in sorted((part.tree / "recipes").glob("*.yaml")):
        text = part.charter("plan", str(recipe), "--json", "--out", str(part.cwd / "none"), check=False)
        part.write(f"{recipe.stem}.txt", re.sub(r"(?<![.\w])(?!\d{8,11}\b)[0-9a-f]{8,64}\b", "HEX", text))


def write_postgres(part: Part) -> None:
    """Tables of PostgreSQL, of accounts and of people, that commands made."""
    try:
        import psycopg

        with private_postgres(durable=False) as url:
            with psycopg.connect(url.format(name="postgres"), autocommit=True) as maker:
                maker.execute("CREATE DATABASE accounts")
                maker.execute("CREATE DATABASE people")
            accounts, people = url.format(name="accounts"), url.format(name="people")
            part.charter("keys", "create", "--org", "acme", "--name", "ci", "--database", accounts)
            part.charter("arena", "init", "mine")
            config = part.cwd / "mine" / "arena.yaml"
            config.write_text(config.read_text().replace("database: people.sqlite", f'database: "{people}"'))
            part.charter("arena", "invite", "mine/arena.yaml")
            served = ("serve", SOURCE, "--no-policy")  # only its tables are read
            with part.running(*served, "--database", accounts, "--people", people):
                pass
            part.charter("conduct", "queue", "--database", accounts)
            for name, place in (("accounts", accounts), ("people", people)):
                with psycopg.connect(place) as connection:
                    write_tables(part, name, connection)
            (part.out / "log.txt").unlink()  # names the folder of the server
    except (ImportError, NoPostgres) as missing:
        print(f"postgres: left out: {missing}", flush=True)


def write_tables(part: Part, name: str, connection: psycopg.Connection) -> None:
    """What PostgreSQL says of the tables of a database."""
    for what, query in SHOWN.items():
        rows = connection.execute(query.format(own="table_schema NOT IN ('pg_catalog', 'information_schema')").encode())
        part.write(f"{name}_{what}.txt", "\n".join(" | ".join(map(str, row)) for row in rows))


def write_schema(part: Part) -> None:
    """Tables and indices of every SQLite file that the part made; rows, and so revisions, are left out."""
    for file in sorted(part.cwd.rglob("*.sqlite")):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name, tbl_name")
            text = "\n".join(f"{kind} {name} of {table}\n{sql or ''}" for kind, name, table, sql in rows)
        (part.out / f"{file.stem}.sql").write_text(text + "\n")


PARTS = {
    "help": write_help,
    "plans": write_plans,
    "service": write_service,
    "chat": write_chat,
    "arena": write_arena,
    "postgres": write_postgres,
}


def main() -> None:
    """Write all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder; it may have other parts already")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to test; default: this one")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"--only: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if taken := [name for name in names if (options.out / name).exists()]:
        parser.error(f"{options.out} has {', '.join(taken)} already; nothing is overwritten")
    with tempfile.TemporaryDirectory(prefix="charter-faces-") as scratch:
        for name in names:
            part = Part(options.out.resolve() / name, Path(scratch) / name, options.tree.resolve())
            part.out.mkdir(parents=True)
            part.cwd.mkdir()
            PARTS[name](part)
            write_schema(part)
            print(f"{name}: {sum(file.is_file() for file in part.out.rglob('*'))} files", flush=True)


if __name__ == "__main__":
    main()
