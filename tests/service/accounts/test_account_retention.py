"""What grows by itself is removed after its days, in pieces, and the log of decisions still follows from what it was."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conduct_desk import entry
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import DBAPIError

from charter_service.accounts import retention
from charter_service.accounts.batches import DAY, get_batch, make_batch, results
from charter_service.accounts.decisions import anchor, append, holds, prune, tip, verify_chain
from charter_service.accounts.keys import Caller, make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.retention import Keep, sweep
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import ANCHORS, BATCH_ITEMS, BATCHES, DECISIONS, MADE_ONCE, USAGE
from charter_service.accounts.usage import Counts, Meter
from charter_service.api.batching import finish, take
from charter_service.web.database import reading, shrink, writing
from charter_service.web.refusal import NotFound

NOW = 1_800_000_000.0
KEEP = Keep(decisions_days=30, usage_days=31, results_days=10, batches_days=20)


def caller_of(engine: Engine) -> Caller:
    with writing(engine) as c:
        organisation = make_organisation(c, "acme")
        return Caller(make_key(c, organisation, "test")[0], organisation, "test")


def logged(engine: Engine, *days: float) -> list[tuple[int, str]]:
    """Rows so many days old; the tip behind each."""
    tips = []
    for n, day in enumerate(days):
        with writing(engine) as c:
            append(c, [entry(f"req_{n}", at=NOW - day * DAY)])
            tips.append(tip(c))
    return tips


def count(engine: Engine, table) -> int:
    with reading(engine) as c:
        return c.execute(select(func.count()).select_from(table)).scalar_one()


def test_the_log_without_its_oldest_rows_is_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PIECE", 2)
    tips = logged(engine, 50, 49, 48, 47, 46, 20, 10)
    assert sweep(engine, KEEP, NOW)["decisions"] == 3
    with reading(engine) as c:
        assert c.execute(select(DECISIONS.c.number)).scalars().all() == [6, 7]
        assert verify_chain(c) is None and anchor(c) == tips[4] and tip(c) == tips[6]
        held = [holds(c, number, chain) for number, chain in tips]
        assert held == [None, True, None, True, True, True, True], "an anchor a piece"
        assert not holds(c, tips[1][0], "0" * 64) and not holds(c, tips[6][0], "0" * 64)
    logged(engine, 5)
    with reading(engine) as c:
        assert verify_chain(c) is None and tip(c)[0] == 8


def test_a_log_of_which_all_rows_went_goes_on(engine: Engine) -> None:
    tips = logged(engine, 50, 49)
    sweep(engine, KEEP, NOW)
    with reading(engine) as c:
        assert count(engine, DECISIONS) == 0 and tip(c) == tips[1] and verify_chain(c) is None
    logged(engine, 1)
    with reading(engine) as c:
        assert verify_chain(c) is None and tip(c)[0] == 3


def test_a_young_row_keeps_what_follows_it(engine: Engine) -> None:
    """Rows go in their order: a clock that was wrong once removes nothing that it shouldn't."""
    logged(engine, 50, 1, 49)
    sweep(engine, KEEP, NOW)
    with reading(engine) as c:
        assert c.execute(select(DECISIONS.c.number)).scalars().all() == [2, 3]


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM decisions WHERE number > 2",
        "INSERT INTO anchors (number, chain, at) VALUES (4, 'x', 1)",
        "INSERT INTO anchors (number, chain, at) VALUES (99, 'x', 1)",
        "UPDATE anchors SET number = 4",
        "DELETE FROM anchors",
    ],
)
def test_nothing_behind_the_anchor_can_be_deleted(engine: Engine, harm: str) -> None:
    logged(engine, 50, 49, 10, 9)
    sweep(engine, KEEP, NOW)
    with pytest.raises(DBAPIError, match=r"only ever added to|is a row of"), writing(engine) as c:
        c.execute(text(harm))
    with reading(engine) as c:
        assert count(engine, DECISIONS) == 2 and verify_chain(c) is None


def test_a_row_that_is_left_and_changed_is_found(engine: Engine) -> None:
    logged(engine, 50, 10, 9)
    with writing(engine) as c:
        assert prune(c, NOW - 30 * DAY, NOW, 10) and not prune(c, NOW - 30 * DAY, NOW, 10)
        if engine.dialect.name == "postgresql":
            c.execute(text("ALTER TABLE decisions DISABLE TRIGGER ALL"))
        else:
            c.execute(text("DROP TRIGGER decisions_stay_update"))
        c.execute(text("UPDATE decisions SET score = score + 0.1 WHERE number = 2"))
        assert verify_chain(c) == 2


def test_results_go_first_and_then_their_batch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PIECE", 2)
    caller = caller_of(engine)
    old, young = (make_batch(engine, caller, [(f"r{n}", "{}") for n in range(5)]) for _ in range(2))
    with writing(engine) as c:
        for item in take(c, 10):
            finish(c, item.batch, item.number, "succeeded", "{}")
        for id, days in ((old, 11), (young, 9)):
            c.execute(BATCHES.update().where(BATCHES.c.id == id).values(created=NOW - days * DAY))
    steps = []
    assert sweep(engine, KEEP, NOW, steps.append)["results"] == 3 and len(steps) == 3
    with reading(engine) as c:
        assert get_batch(c, caller.organisation, old).archived(NOW) == NOW
        assert get_batch(c, caller.organisation, old).request_counts["succeeded"] == 5
        kept = c.execute(select(BATCH_ITEMS.c.batch).where(BATCH_ITEMS.c.params != "")).scalars().all()
    assert set(kept) == {young} and len(kept) == 5
    with pytest.raises(NotFound, match="are gone"):
        results(engine, caller.organisation, old)
    sweep(engine, KEEP, NOW + 10 * DAY)
    assert count(engine, BATCHES) == 1 and count(engine, BATCH_ITEMS) == 5


def test_usage_and_keys_of_batches_go(engine: Engine) -> None:
    caller = caller_of(engine)
    meter = Meter(engine)
    for days in (40, 33, 30, 0):
        meter.record(caller.key, "toy", Counts(requests=1), NOW - days * DAY)
    meter.close()
    with writing(engine) as c:
        for name, age in (("a", DAY + 1), ("b", 1.0)):
            row = {"organisation": caller.organisation, "name": name, "body": "x", "batch": "x"}
            c.execute(MADE_ONCE.insert().values(**row, created=NOW - age))
    sweep(engine, KEEP, NOW)
    assert count(engine, USAGE) == 2 and count(engine, MADE_ONCE) == 1 and count(engine, ANCHORS) == 0


def test_a_file_shrinks_once_rows_are_gone(tmp_path: Path) -> None:
    engine = open_accounts("serve.sqlite", tmp_path)
    caller, file = caller_of(engine), tmp_path / "serve.sqlite"
    id = make_batch(engine, caller, [(f"r{n}", "x" * 100_000) for n in range(100)])
    with engine.connect() as c:
        c.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    large = file.stat().st_size
    assert large > 10_000_000
    with writing(engine) as c:
        c.execute(BATCHES.delete().where(BATCHES.c.id == id))
    pauses = []
    assert shrink(engine, pauses.append) > 2000 and len(pauses) > 5, "a few at a time"
    assert file.stat().st_size < large / 5
    assert (tmp_path / "serve.sqlite-wal").stat().st_size == 0
    with reading(engine) as c:
        assert c.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    engine.dispose()


def test_a_file_that_can_not_shrink_stays(tmp_path: Path) -> None:
    """One that was begun before: its free pages are used again."""
    engine = open_accounts("serve.sqlite", tmp_path)
    with engine.connect() as c:
        driver = c.connection.driver_connection
        driver.execute("PRAGMA auto_vacuum=NONE")
        driver.execute("VACUUM")
    caller = caller_of(engine)
    id = make_batch(engine, caller, [(f"r{n}", "x" * 100_000) for n in range(20)])
    with writing(engine) as c:
        c.execute(BATCHES.delete().where(BATCHES.c.id == id))
    assert shrink(engine) == 0
    engine.dispose()


def test_a_sweep_runs_beside_a_service_and_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SHRINK_SECONDS", 0.01)
    with writing(engine) as c:
        append(c, [entry("req_1", at=time.time() - 400 * DAY)])
    sweeping = retention.Sweeping(engine, Keep())
    end = time.monotonic() + 30
    while count(engine, DECISIONS) and time.monotonic() < end:
        time.sleep(0.01)
    sweeping.close()
    assert count(engine, DECISIONS) == 0
