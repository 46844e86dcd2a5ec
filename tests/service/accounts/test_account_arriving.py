"""Large batches: written a piece at a time, others write in between, and nobody sees a part of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, select, update

from charter_service.accounts import batches
from charter_service.accounts.keys import Caller, find_caller, make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES, ORGANISATIONS
from charter_service.api import batching
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound

SIZE = 2 * batches.PIECE + 3
ITEMS = [(f"r{n}", json.dumps({"n": n})) for n in range(SIZE)]


@pytest.fixture
def caller(engine: Engine) -> Caller:
    with writing(engine) as c:
        return find_caller(c, make_key(c, make_organisation(c, "acme"), "ci")[1])


def rows(engine: Engine) -> tuple[int, int]:
    """Batches and requests of the database, seen or not."""
    with reading(engine) as c:
        return tuple(c.scalar(select(func.count()).select_from(t)) for t in (BATCHES, BATCH_ITEMS))  # type: ignore


def test_others_write_while_a_large_batch_arrives_unseen(engine: Engine, caller: Caller) -> None:
    seen: list[int] = []

    def meanwhile(_: float) -> None:
        # at once or not at all: whoever held the lock would be met here
        others = create_engine(engine.url, connect_args={"timeout": 0} if engine.dialect.name == "sqlite" else {})
        with others.begin() as c:
            if engine.dialect.name == "sqlite":
                c.exec_driver_sql("BEGIN IMMEDIATE")
            c.execute(update(ORGANISATIONS).values(disabled=False))
        others.dispose()
        (id,) = [name for (name,) in _all(engine)]
        with writing(engine) as c:
            assert batches.list_batches(c, caller.organisation).batches == []
            assert batching.take(c, 5) == [] and batching.expire(c, 1e12) == 0
            for call in (batches.get_batch, batches.cancel_batch, batches.delete_batch):
                with pytest.raises(NotFound):
                    call(c, caller.organisation, id)
        seen.append(rows(engine)[1])

    id = batches.make_batch(engine, caller, ITEMS, pause=meanwhile)
    assert seen == [batches.PIECE, 2 * batches.PIECE]
    with reading(engine) as c:
        found = batches.get_batch(c, caller.organisation, id)
        assert [item.custom_id for item in batching.take(c, SIZE)] == [name for name, _ in ITEMS]
    assert (found.state, found.size, found.counts["processing"]) == ("in_progress", SIZE, SIZE)


def _all(engine: Engine) -> list[tuple[str]]:
    with reading(engine) as c:
        return [(row.id,) for row in c.execute(select(BATCHES.c.id))]


def test_large_requests_come_few_at_a_time(engine: Engine, caller: Caller) -> None:
    rests: list[float] = []
    large = json.dumps({"x": "y" * (batches.PIECE_BYTES // 2)})
    batches.make_batch(engine, caller, [(f"r{n}", large) for n in range(4)], pause=rests.append)
    assert len(rests) == 3
    batches.make_batch(engine, caller, ITEMS[:5], pause=rests.append)
    assert len(rests) == 3


def test_one_that_fails_midway_leaves_nothing(engine: Engine, caller: Caller) -> None:
    def full(_: float) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        batches.make_batch(engine, caller, ITEMS, pause=full)
    assert rows(engine) == (0, 0)


KILLED = """
import os, sys
from charter_service.accounts import batches
from charter_service.accounts.keys import (Caller)
from charter_service.accounts.store import open_accounts
engine = open_accounts(sys.argv[1], new=False)
items = [(f"r{n}", "{}") for n in range(3 * batches.PIECE)]
batches.make_batch(engine, Caller(sys.argv[2], sys.argv[3], "x"), items, pause=lambda _: os._exit(9))
"""


def test_a_kill_midway_leaves_no_half_batch(tmp_path: Path) -> None:
    place = str(tmp_path / "serve.sqlite")
    engine = open_accounts(place)
    with writing(engine) as c:
        caller = find_caller(c, make_key(c, make_organisation(c, "acme"), "ci")[1])
    whole = batches.make_batch(engine, caller, ITEMS[:2])
    command = [sys.executable, "-c", KILLED, place, caller.key, caller.organisation]
    assert subprocess.run(command, env=os.environ).returncode == 9
    assert rows(engine) == (2, 2 + batches.PIECE)
    with writing(engine) as c:
        assert [batch.id for batch in batches.list_batches(c, caller.organisation).batches] == [whole]
        assert {item.batch for item in batching.take(c, 10)} == {whole}
        batching.resume(c)
    assert rows(engine) == (1, 2)
    engine.dispose()


def test_what_waits_of_a_refused_batch_ends_with_the_reason(engine: Engine, caller: Caller) -> None:
    id, other = (batches.make_batch(engine, caller, ITEMS[:4]) for _ in range(2))
    with writing(engine) as c:
        batching.finish(c, id, 0, "succeeded", "{}")
        batching.refuse_rest(c, id, '{"why":1}', {(id, 2), (other, 1)})
        found = batches.get_batch(c, caller.organisation, id)
        assert (found.state, found.counts["errored"], found.counts["processing"]) == ("in_progress", 2, 1)
        batching.finish(c, id, 2, "succeeded", "{}")
        assert batches.get_batch(c, caller.organisation, id).state == "ended"
        assert batches.get_batch(c, caller.organisation, other).counts["processing"] == 4
    (chunk,) = batches.results(engine, caller.organisation, id)
    assert [(one.state, one.body) for one in chunk] == [
        ("succeeded", "{}"),
        ("errored", '{"why":1}'),
        ("succeeded", "{}"),
        ("errored", '{"why":1}'),
    ]
