"""The audit log: a chain that shows changes, rows that are only added to, and an act and its row in one transaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from charter_service.accounts.organisations import list_organisations
from charter_service.accounts.store import open_accounts
from charter_service.people.export import open_people
from charter_service.web.audit import (
    BEGINNING,
    LONGEST,
    Actor,
    Wanted,
    audit_tip,
    holds_act,
    note_act,
    search_acts,
    verify_acts,
)
from charter_service.web.database import reading, writing

ANN, BOB = Actor("ann (person 1)", "person_1", "owner"), Actor("bob (person 2)", "person_2", "operator")


@pytest.fixture(params=[open_accounts, open_people], ids=["accounts", "people"])
def engine(request: pytest.FixtureRequest, database: str) -> Iterator[Engine]:
    """Each database that holds an audit log."""
    opened = request.param(database)
    yield opened
    opened.dispose()


def three(engine: Engine) -> None:
    with writing(engine) as c:
        note_act(c, ANN, "key.create", "key_1", after={"scopes": ["messages"]})
        note_act(c, BOB, "key.revoke", "key_1", {"state": "usable"}, {"state": "revoked"})
        note_act(c, ANN, "member.role", "person_2", {"console": "analyst"}, {"console": "operator"})


def unlocked(engine: Engine, statement: str) -> None:
    """Changes a row as only somebody can who has the whole database in hand."""
    with writing(engine) as c:
        if engine.dialect.name == "postgresql":
            c.execute(text("ALTER TABLE acts DISABLE TRIGGER ALL"))
        else:
            for (name,) in c.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                c.execute(text(f"DROP TRIGGER {name}"))
        c.execute(text(statement))


def test_acts_are_found_by_who_what_whose_and_page(engine: Engine) -> None:
    three(engine)
    with reading(engine) as c:
        rows, more = search_acts(c, Wanted())
        assert [row.act.what for row in rows] == ["member.role", "key.revoke", "key.create"] and not more
        assert [row.number for row in search_acts(c, Wanted(by="person_1"))[0]] == [3, 1]
        assert [row.number for row in search_acts(c, Wanted(by=BOB.by))[0]] == [2]
        assert [row.number for row in search_acts(c, Wanted(what="key"))[0]] == [2, 1]
        assert not search_acts(c, Wanted(what="k_y"))[0] and not search_acts(c, Wanted(what="ke"))[0]
        assert [row.number for row in search_acts(c, Wanted(whose="person_2"))[0]] == [3]
        page, before = search_acts(c, Wanted(), 2)
        assert [row.number for row in page] == [3, 2] and before == 2
        assert [row.number for row in search_acts(c, Wanted(before=before), 2)[0]] == [1]
        assert not search_acts(c, Wanted(until=1.0))[0] and len(search_acts(c, Wanted(since=1.0))[0]) == 3
    facts = rows[1].facts()
    assert facts["before"] == {"state": "usable"} and facts["role"] == "operator"


def test_no_row_is_changed_removed_or_replaced(engine: Engine) -> None:
    three(engine)
    for statement in ("UPDATE acts SET by = 'x'", "DELETE FROM acts"):
        with pytest.raises(DBAPIError, match="only ever added to"), writing(engine) as c:
            c.execute(text(statement.replace(" by ", ' "by" ')))
    with reading(engine) as c:
        assert verify_acts(c) is None and len(search_acts(c, Wanted())[0]) == 3


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE acts SET role = 'analyst' WHERE number = 2", 2),
        ("DELETE FROM acts WHERE number = 1", 2),
        ("UPDATE acts SET at = at + 1 WHERE number = 3", 3),
        ("UPDATE acts SET chain = 'x' WHERE number = 1", 1),
    ],
)
def test_the_chain_shows_what_was_changed(engine: Engine, change: str, broken: int) -> None:
    three(engine)
    unlocked(engine, change)
    with reading(engine) as c:
        assert verify_acts(c) == broken


def test_a_tip_shows_a_cut_end(engine: Engine) -> None:
    with reading(engine) as c:
        assert holds_act(c, f"0:{BEGINNING}") and audit_tip(c) == f"0:{BEGINNING}"
    three(engine)
    with reading(engine) as c:
        tip = audit_tip(c)
        assert holds_act(c, tip)
        assert not any(holds_act(c, wrong) for wrong in ("", "3", "x:y", f"2:{tip[2:]}", f"{'9' * 30}:{tip[2:]}"))
    unlocked(engine, "DELETE FROM acts WHERE number = 3")
    with reading(engine) as c:
        assert verify_acts(c) is None and not holds_act(c, tip)


def test_an_act_that_fails_leaves_no_row(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine) as c:
        note_act(c, ANN, "key.create", "key_1")
        _ = 1 / 0
    with pytest.raises(ValueError, match="no texts"), writing(engine) as c:
        note_act(c, ANN, "key.create", "key_1", after={"words": "x" * LONGEST})
    with reading(engine) as c:
        assert not search_acts(c, Wanted())[0]
    three(engine)  # the numbers and the chain begin as if nothing had been
    with reading(engine) as c:
        assert verify_acts(c) is None


def test_a_killed_process_leaves_the_act_and_its_row_or_neither(tmp_path: Path) -> None:
    place = tmp_path / "serve.sqlite"
    open_accounts(str(place)).dispose()
    code = f"""
        import itertools
        from charter_service.accounts.organisations import make_organisation
        from charter_service.accounts.store import open_accounts
        from charter_service.web.audit import Actor, note_act
        from charter_service.web.database import writing
        engine = open_accounts({str(place)!r})
        for n in itertools.count():
            with writing(engine) as c:
                id = make_organisation(c, f"org {{n}}")
                note_act(c, Actor("ann", "person_1", "owner"), "organisation.create", id)
            print(n, flush=True)
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.stdout.close()
    engine = open_accounts(str(place))
    with reading(engine) as c:
        made = {one.id for one in list_organisations(c)}
        noted = {row.act.whose for row in search_acts(c, Wanted(), 100_000)[0]}
        assert verify_acts(c) is None
    engine.dispose()
    assert made == noted and len(made) >= len(acknowledged)


def test_two_writers_make_one_chain(engine: Engine) -> None:
    """Writers wait for each other, so that no two rows follow the same one."""

    def write() -> None:
        for _ in range(10):
            with writing(engine) as c:
                note_act(c, BOB, "key.limits", "key_2")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as c:
        assert verify_acts(c) is None and len(search_acts(c, Wanted())[0]) == 40
