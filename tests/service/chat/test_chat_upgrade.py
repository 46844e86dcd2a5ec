"""A database of an earlier release: brought up to date whole, or, if that is killed in the middle, not at all."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from sqlalchemy import Engine, insert, select

from charter_service.chat.searching import search
from charter_service.chat.storage import held
from charter_service.people.export import open_people
from charter_service.people.tables import CHATS, METADATA, MIGRATIONS, PEOPLE
from charter_service.people.workers import find_person
from charter_service.web.database import differences, migrate, open_database, reading, writing

MESSAGES = 300
KILLED = """
import os, sys
from charter_service.people import words
read, whole = [], words.keys_of
def keys_of(person, text):
    read.append(text)
    if len(read) == 200:
        os.kill(os.getpid(), 9)
    return whole(person, text)
words.keys_of = keys_of
from charter_service.people.export import open_people
open_people(sys.argv[1])
"""


def older(place: str, folder: Path) -> Engine:
    """A database as the release before had it, with a chat."""
    shutil.copytree(MIGRATIONS, folder / "older")
    for file in (folder / "older" / "versions").glob("v*.py"):
        if file.stem > "v0002":
            file.unlink()
    engine = open_database(place)
    migrate(engine, folder / "older", METADATA)
    with writing(engine) as c:
        person = {"name": "ann", "role": "member", "simulated": False, "quota": 0, "disabled": False}
        made = c.execute(insert(PEOPLE).values(**person, created=1.0)).inserted_primary_key
        assert made is not None
        chat = {"id": "c", "person": made[0], "title": "t", "titled": True, "model": "m", "leaf": ""}
        flags = {"draft": "", "pinned": False, "archived": False, "created": 1.0, "touched": 1.0}
        c.execute(insert(CHATS).values(**chat, **flags))  # which leaves newer columns out
        driver = c.connection.driver_connection
        assert driver is not None
        mark = "?" if engine.dialect.name == "sqlite" else "%s"
        names = "id chat parent number role author state text model request stop reason input_tokens cached_tokens"
        names += " output_tokens thumb created"
        sql = f"INSERT INTO messages ({', '.join(names.split())}) VALUES ({', '.join([mark] * 17)})"
        rest = ("", "", "", "", 0, 0, 0, "", 1.0)
        rows = []
        for n in range(MESSAGES):
            state, parent = "running" if n == MESSAGES - 1 else "done", f"m{n - 1}" if n else ""
            rows.append((f"m{n}", "c", parent, n + 1, "user", "person", state, f"Étude number{n}", *rest))
        cursor = driver.cursor()
        cursor.executemany(sql, rows)
        cursor.close()
    return engine


def test_an_upgrade_that_is_killed_changes_nothing_and_the_next_one_does_all(
    database: str, tmp_path: Path
) -> None:
    older(database, tmp_path).dispose()
    killed = subprocess.run([sys.executable, "-c", KILLED, database], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    engine = open_people(database)
    try:
        assert differences(engine, METADATA) == []
        with reading(engine) as c:
            ann = find_person(c, "ann")
            assert [hit.message for hit in search(c, ann, "etude number17")][-1] == "m17"
            assert len(search(c, ann, "etude")) == 50 and search(c, ann, "number299") == []  # still running
            texts = [f"Étude number{n}" for n in range(MESSAGES - 1)]
            size = held(c, ann.id)
            assert size.characters == sum(len(one) for one in texts)
            assert size.bytes == sum(len(one.encode()) for one in texts)
            assert c.execute(select(CHATS.c.title)).scalar_one() == "t"
    finally:
        engine.dispose()
