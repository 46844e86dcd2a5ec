"""The log of decisions: an order, a chain that breaks where somebody touched it, and nothing lost or written twice."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from conduct_desk import at_once, counted, entry
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import DBAPIError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts import decisions
from charter_service.accounts.decisions import (
    BEGINNING,
    LATER,
    Entry,
    Log,
    append,
    decisions_of,
    holds,
    link,
    parse_tip,
    tip,
    told_tip,
    verify_chain,
)
from charter_service.accounts.tables import DECISIONS
from charter_service.web.database import reading, writing


def write(engine: Engine, *entries) -> None:
    with writing(engine) as c:
        append(c, entries)


def unlocked(engine: Engine, statement: str) -> None:
    """Changes a row as only somebody can who has the whole database in hand."""
    with writing(engine) as c:
        if engine.dialect.name == "postgresql":
            c.execute(text("ALTER TABLE decisions DISABLE TRIGGER ALL"))
        else:
            for (name,) in c.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                c.execute(text(f"DROP TRIGGER {name}"))
        c.execute(text(statement))


def broken(engine: Engine) -> int | None:
    with reading(engine) as c:
        return verify_chain(c)


def test_a_link_is_the_digest_of_what_was_before_and_of_the_row() -> None:
    made = entry(severity="high", added="a" * 64, grant_id="release_1", unscreened="de", repeats="r")
    content = json.dumps(asdict(made), sort_keys=True, separators=(",", ":"))
    assert link(BEGINNING, made) == hashlib.sha256((BEGINNING + content).encode()).hexdigest()


def test_a_row_from_before_the_later_columns_keeps_its_link() -> None:
    old = {name: value for name, value in asdict(entry()).items() if name not in LATER}
    content = json.dumps(old, sort_keys=True, separators=(",", ":"))
    assert link(BEGINNING, entry()) == hashlib.sha256((BEGINNING + content).encode()).hexdigest()
    for name in LATER:
        assert link(BEGINNING, entry(**{name: "x"})) != link(BEGINNING, entry())


def test_rows_come_back_as_they_were_noted(engine: Engine) -> None:
    numbers = (0.1 + 0.2, 1e-300, -0.0, 1.0, 5e-324, 1 / 3)
    rows = [entry("req_a", at=1764000000.123456, score=n, model="modèle ☃") for n in numbers]
    write(engine, *rows[:2])
    write(engine, *rows[2:], entry("req_b"))
    with reading(engine) as c:
        kept = decisions_of(c, "req_a")
        assert [k.entry for k in kept] == rows
        assert [k.number for k in kept] == sorted(k.number for k in kept)
        assert decisions_of(c, "req_a", "org_2") == [] and decisions_of(c, "req_c") == []
        assert verify_chain(c) is None
        assert kept[0].row()["score"] == 0.1 + 0.2


def test_nothing_is_whole(engine: Engine) -> None:
    with reading(engine) as c:
        assert verify_chain(c) is None and tip(c) == (0, BEGINNING) and holds(c, *tip(c))


@pytest.mark.parametrize(
    ("harm", "first"),
    [
        ("UPDATE decisions SET action = 'allow' WHERE number = 3", 3),
        ("UPDATE decisions SET score = score + 0.0000001 WHERE number = 5", 5),
        ("UPDATE decisions SET score = 'NaN' WHERE number = 5", 5),
        ("UPDATE decisions SET at = at + 1 WHERE number = 1", 1),
        ("DELETE FROM decisions WHERE number = 4", 5),
        ("DELETE FROM decisions WHERE number = 1", 2),
        ("UPDATE decisions SET chain = '' WHERE number = 6", 6),
        ("UPDATE decisions SET request = (SELECT request FROM decisions WHERE number = 4) WHERE number = 2", 2),
    ],
)
def test_what_was_touched_is_found(engine: Engine, harm: str, first: int) -> None:
    write(engine, *(entry(f"req_{n}", at=float(n)) for n in range(6)))
    assert broken(engine) is None
    unlocked(engine, harm)
    assert broken(engine) == first


def test_a_tip_shows_what_was_cut_off_and_what_was_made_anew(engine: Engine) -> None:
    write(engine, *(entry(f"req_{n}") for n in range(4)))
    with reading(engine) as c:
        number, chain = tip(c)
    write(engine, entry("req_later"))
    with reading(engine) as c:
        assert holds(c, number, chain) and parse_tip(f"{number}:{chain}") == (number, chain, None)
        kept = told_tip(c)
        assert parse_tip(str(kept)) == kept == (*tip(c), 1.5)
    unlocked(engine, "DELETE FROM decisions WHERE number > 3")
    with reading(engine) as c:
        assert verify_chain(c) is None  # the rest is whole
        assert not holds(c, number, chain)  # and less than there was
    for wrong in ("", "4", "x:" + chain, f"{number}:abc", f"{number}:nan:{chain}", f"{number}:x:{chain}"):
        with pytest.raises(CharterError, match="is not a tip"):
            parse_tip(wrong)


def test_the_database_refuses_changes(engine: Engine) -> None:
    write(engine, entry())
    for statement in (DECISIONS.update().values(action="allow"), DECISIONS.delete()):
        with pytest.raises(DBAPIError, match="only ever added to"), writing(engine) as c:
            c.execute(statement)
    assert broken(engine) is None and counted(engine, DECISIONS) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": float("nan")},
        {"at": float("inf")},
        {"category": "x" * 65},
        {"model": "nul\0"},
        {"side": "something else"},
    ],
)
def test_what_no_database_could_keep_is_refused_when_it_is_noted(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"a decision's {next(iter(wrong))}"):
        entry(**wrong)


@given(st.lists(st.tuples(st.text(max_size=3), st.floats(0, 1)), min_size=2, max_size=4), st.data())
def test_no_two_histories_have_one_chain(rows, data) -> None:
    entries = [entry(score=score, policy=words.replace("\0", "")) for words, score in rows]
    n = data.draw(st.integers(0, len(entries) - 1))
    other = [*entries[:n], entry(score=2.0), *entries[n + 1 :]]

    def end(given) -> str:
        chain = BEGINNING
        for one in given:
            chain = link(chain, one)
        return chain

    assert end(entries) != end(other) and end(entries) != end(entries[:-1])


def test_notes_wait_and_what_is_urgent_takes_them_along(engine: Engine) -> None:
    log = Log(engine)
    log.note(entry("req_1"))
    log.note(entry("req_2"))
    assert counted(engine, DECISIONS) == 0
    assert log.note_now([entry("req_3")], lambda c: tip(c)[0]) == 3
    log.note(entry("req_4"))
    log.flush()
    log.flush()
    with reading(engine) as c:
        order = c.execute(select(DECISIONS.c.request).order_by(DECISIONS.c.number)).scalars().all()
    assert order == ["req_1", "req_2", "req_3", "req_4"] and broken(engine) is None


def test_what_fails_is_kept_if_it_waited_and_raised_if_it_was_urgent(engine: Engine) -> None:
    log, failing = Log(engine), True

    @event.listens_for(engine, "before_cursor_execute")
    def executing(connection, cursor, statement, parameters, context, many) -> None:
        if failing and statement.startswith("INSERT INTO decisions"):
            raise OSError("disk full")

    log.note(entry("req_1"))
    with pytest.raises(OSError, match="disk full"):
        log.note_now([entry("req_2")])
    log.note(entry("req_3"))
    with pytest.raises(OSError, match="disk full"):
        log.flush()
    assert counted(engine, DECISIONS) == 0
    failing = False
    log.flush()
    with reading(engine) as c:
        order = c.execute(select(DECISIONS.c.request).order_by(DECISIONS.c.number)).scalars().all()
    assert order == ["req_1", "req_3"]


def test_what_follows_an_entry_is_undone_with_it(engine: Engine) -> None:
    log = Log(engine)
    with pytest.raises(ZeroDivisionError):
        log.note_now([entry()], lambda c: 1 // 0)
    assert counted(engine, DECISIONS) == 0


def test_too_many_notes_are_written_by_whoever_notes(engine: Engine, monkeypatch) -> None:
    monkeypatch.setattr(decisions, "BACKLOG", 3)
    log = Log(engine)
    for n in range(4):
        log.note(entry(f"req_{n}"))
    assert counted(engine, DECISIONS) == 4


def test_a_flush_waits_for_what_another_thread_is_writing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    log, under_way, go_on = Log(engine), threading.Event(), threading.Event()
    found: list[int] = []

    def slowly(connection: Connection, entries: Sequence[Entry]) -> None:
        under_way.set()
        assert go_on.wait(60)
        append(connection, entries)

    def second() -> None:
        log.flush()
        found.append(counted(engine, DECISIONS))

    monkeypatch.setattr(decisions, "append", slowly)
    log.note(entry("r"))
    threads = [threading.Thread(target=log.flush), threading.Thread(target=second)]
    threads[0].start()
    assert under_way.wait(60)
    threads[1].start()
    threads[1].join(0.2)  # time enough for one that doesn't wait
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [1]


def test_many_threads_and_two_logs_make_one_chain(engine: Engine) -> None:
    logs = [Log(engine), Log(engine)]

    def work(n: int) -> None:
        for k in range(5):
            log = logs[n % 2]
            (log.note if k % 2 else lambda e, log=log: log.note_now([e]))(entry(f"req_{n}_{k}"))

    assert at_once([lambda n=n: work(n) for n in range(8)]) == [None] * 8
    for log in logs:
        log.flush()
    assert counted(engine, DECISIONS) == 40 and broken(engine) is None
    with reading(engine) as c:
        assert len(set(c.execute(select(DECISIONS.c.request)).scalars())) == 40
