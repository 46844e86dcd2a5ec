"""Batches: their life cycle, who gets to work on what, and that nothing accepted is lost, whoever is killed."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from charter_service.accounts import batches
from charter_service.accounts.batches import EXPIRY, KEPT, Batch
from charter_service.accounts.keys import Caller, find_caller, make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.retention import Keep, sweep
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES
from charter_service.api import batching
from charter_service.api.batching import Item
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal

MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 0},
    }
)
ERROR = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}})


def caller_of(engine: Engine, name: str = "acme") -> Caller:
    with writing(engine) as c:
        return find_caller(c, make_key(c, make_organisation(c, name), "ci")[1])


@pytest.fixture
def caller(engine: Engine) -> Caller:
    return caller_of(engine)


def make(engine: Engine, caller: Caller, size: int = 3) -> str:
    return batches.make_batch(engine, caller, [(f"r{n}", json.dumps({"n": n})) for n in range(size)])


def get(engine: Engine, caller: Caller, batch: str) -> Batch:
    with reading(engine) as c:
        return batches.get_batch(c, caller.organisation, batch)


def take(engine: Engine, n: int, under_way: set[tuple[str, int]] | None = None) -> list[Item]:
    with reading(engine) as c:
        return batching.take(c, n, under_way or set())


def finish(engine: Engine, batch: str, number: int, state: str = "succeeded", result: str | None = MESSAGE) -> bool:
    with writing(engine) as c:
        return batching.finish(c, batch, number, state, result)


def cancel(engine: Engine, caller: Caller, batch: str, under_way: set[tuple[str, int]] | None = None) -> Batch:
    with writing(engine) as c:
        return batches.cancel_batch(c, caller.organisation, batch, under_way or set())


def age(engine: Engine, batch: str, seconds: float) -> None:
    with writing(engine) as c:
        now = time.time() - seconds
        c.execute(BATCHES.update().where(BATCHES.c.id == batch).values(created=now, expires=now + EXPIRY))


def lines(engine: Engine, caller: Caller, batch: str, size: int = 2) -> list[str]:
    chunks = list(batches.results(engine, caller.organisation, batch, size))
    assert all(len(chunk) <= size for chunk in chunks)
    return [result.line() for chunk in chunks for result in chunk]


def test_a_batch_is_worked_through_and_ends(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller)
    made = get(engine, caller, id)
    assert id.startswith("msgbatch_") and made.state == "in_progress" and made.size == 3
    assert made.key == caller.key and made.expires == made.created + 86_400 and made.archived() is None
    items = take(engine, 10)
    assert [(i.batch, i.number, i.custom_id, i.params) for i in items] == [
        (id, n, f"r{n}", f'{{"n": {n}}}') for n in range(3)
    ]
    assert {(i.organisation, i.key) for i in items} == {(caller.organisation, caller.key)}
    assert finish(engine, id, 1) and finish(engine, id, 0, "errored", ERROR)
    part = get(engine, caller, id)
    assert part.counts == {"processing": 1, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0}
    assert part.request_counts == {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    assert part.ended is None
    assert finish(engine, id, 2, "expired", None)
    ended = get(engine, caller, id)
    assert ended.state == "ended" and ended.ended is not None and take(engine, 10) == []
    assert ended.request_counts == {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 1}


def test_results_are_lines_that_anthropics_client_reads(engine: Engine, caller: Caller) -> None:
    types = pytest.importorskip("anthropic.types.messages", reason="the anthropic client is not installed")
    id = make(engine, caller, 5)
    with pytest.raises(NotFound, match="has not ended"):
        batches.results(engine, caller.organisation, id)
    finish(engine, id, 0)
    finish(engine, id, 1, "errored", ERROR)
    finish(engine, id, 2, "expired", None)
    cancel(engine, caller, id)
    read = [types.MessageBatchIndividualResponse.model_validate_json(line) for line in lines(engine, caller, id)]
    assert [(r.custom_id, r.result.type) for r in read] == [
        ("r0", "succeeded"),
        ("r1", "errored"),
        ("r2", "expired"),
        ("r3", "canceled"),
        ("r4", "canceled"),
    ]
    assert read[0].result.message.id == "msg_1"
    assert read[1].result.error.error.message == "no"


def test_results_that_are_deleted_meanwhile_do_not_look_whole(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller, 4)
    cancel(engine, caller, id)
    chunks = batches.results(engine, caller.organisation, id, 2)
    next(chunks)
    with writing(engine) as c:
        batches.delete_batch(c, caller.organisation, id)
    with pytest.raises(NotFound, match="was deleted while"):
        next(chunks)


WRONG = [
    ([], "needs at least 1 request"),
    ([("a", "{}"), ("b", "{}"), ("a", "{}")], r"requests\.2\.custom_id: requests\.0 already has 'a'"),
    ([("a", "{}"), ("", "{}")], r"requests\.1\.custom_id: expected 1 to 64"),
    ([("a" * 65, "{}")], r"requests\.0\.custom_id"),
    ([("a\n", "{}")], r"requests\.0\.custom_id"),
    ([("é", "{}")], r"requests\.0\.custom_id"),
    ([("a.b", "{}")], r"requests\.0\.custom_id"),
    ([("a", "{}"), ("b", '{"x": "\ud800"}')], r"requests\.1\.params: expected text"),
]


def test_batches_that_are_none(engine: Engine, caller: Caller) -> None:
    for items, said in WRONG:
        with pytest.raises(Refusal, match=said) as refused:
            batches.make_batch(engine, caller, items)
        assert refused.value.status == 400 and "\n" not in str(refused.value)
    with reading(engine) as c:
        assert batches.list_batches(c, caller.organisation).batches == []


def test_a_batch_has_a_size(engine: Engine, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = ((f"r{n}", "{}") for n in itertools.count())
    with pytest.raises(Refusal, match="may have 100,000 requests"):
        batches.make_batch(engine, caller, endless)
    monkeypatch.setattr(batches, "MOST_BYTES", 2**20)
    with pytest.raises(Refusal, match="may have 1 MB") as refused:
        batches.make_batch(engine, caller, [("a", "é" * 2**19), ("b", "x")])
    assert refused.value.status == 413


def test_another_organisations_batch_is_not_there(engine: Engine, caller: Caller) -> None:
    other, id = caller_of(engine, "other"), make(engine, caller)
    with writing(engine) as c:
        for call in (batches.get_batch, batches.cancel_batch, batches.delete_batch):
            with pytest.raises(NotFound, match="there is no batch"):
                call(c, other.organisation, id)
        assert batches.list_batches(c, other.organisation).batches == []
        with pytest.raises(Refusal, match="after_id: there is no batch"):
            batches.list_batches(c, other.organisation, after=id)
    with pytest.raises(NotFound):
        batches.results(engine, other.organisation, id)


def test_pages_go_both_ways_newest_first(engine: Engine, caller: Caller) -> None:
    made = [make(engine, caller, 1) for _ in range(7)]
    for number, id in enumerate(made):
        age(engine, id, 1000 - 10 * (number // 2))  # some at the same instant
    with reading(engine) as c:

        def page(**more: object) -> tuple[list[str], bool]:
            found = batches.list_batches(c, caller.organisation, **more)  # type: ignore[arg-type]
            ids = [batch.id for batch in found.batches]
            assert (found.first_id, found.last_id) == ((ids[0], ids[-1]) if ids else (None, None))
            return ids, found.has_more

        whole, more = page()
        assert sorted(whole) == sorted(made) and not more
        ages = [made.index(id) // 2 for id in whole]
        assert ages == sorted(ages, reverse=True)
        walked, cursor = [], {}
        while True:
            ids, more = page(limit=3, **cursor)
            walked += ids
            if not more:
                break
            cursor = {"after": ids[-1]}
        assert walked == whole
        assert page(limit=3, before=whole[5]) == (whole[2:5], True)
        assert page(limit=3, before=whole[3]) == (whole[:3], False)
        assert page(before=whole[0]) == ([], False) and page(after=whole[-1]) == ([], False)
        for wrong in ({"limit": 0}, {"limit": 1001}, {"before": whole[0], "after": whole[1]}, {"before": "x"}):
            with pytest.raises(Refusal):
                page(**wrong)


def test_cancelling_ends_what_waits_and_lets_what_is_under_way_finish(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller, 4)
    found = cancel(engine, caller, id, {(id, 1), (id, 2), ("msgbatch_other", 0)})
    assert found.state == "canceling" and found.canceled is not None
    assert found.counts["canceled"] == 2 and found.counts["processing"] == 2
    assert take(engine, 10) == []
    assert cancel(engine, caller, id).counts["processing"] == 2  # again: nothing
    assert finish(engine, id, 1) and not finish(engine, id, 0)
    assert finish(engine, id, 2, "canceled", None)
    ended = get(engine, caller, id)
    assert ended.state == "ended" and ended.counts["succeeded"] == 1 and ended.counts["canceled"] == 3
    with pytest.raises(Refusal, match="has ended"):
        cancel(engine, caller, id)


def test_a_batch_of_which_nothing_is_under_way_ends_when_it_is_cancelled(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller)
    assert cancel(engine, caller, id).state == "ended"
    assert not finish(engine, id, 0)
    assert get(engine, caller, id).counts["canceled"] == 3


def test_a_new_worker_ends_what_was_being_cancelled(engine: Engine, caller: Caller) -> None:
    id, other = make(engine, caller), make(engine, caller)
    cancel(engine, caller, id, {(id, 0)})
    with writing(engine) as c:
        assert batching.resume(c) == 1
    assert get(engine, caller, id).counts["canceled"] == 3 and get(engine, caller, id).state == "ended"
    assert get(engine, caller, other).state == "in_progress"


def test_only_what_ended_is_deleted(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller)
    with pytest.raises(Refusal, match="has not ended; cancel it first"), writing(engine) as c:
        batches.delete_batch(c, caller.organisation, id)
    cancel(engine, caller, id)
    with writing(engine) as c:
        batches.delete_batch(c, caller.organisation, id)
        assert c.execute(BATCH_ITEMS.select()).all() == []
    with pytest.raises(NotFound):
        get(engine, caller, id)
    assert not finish(engine, id, 0)


def test_a_day_later_what_waits_expires(engine: Engine, caller: Caller) -> None:
    old, young = make(engine, caller), make(engine, caller)
    finish(engine, old, 0)
    age(engine, old, EXPIRY + 1)
    assert {item.batch for item in take(engine, 10)} == {young}
    with writing(engine) as c:
        assert batching.expire(c, time.time()) == 1 and batching.expire(c, time.time()) == 0
    found = get(engine, caller, old)
    assert found.state == "ended" and found.counts["succeeded"] == 1 and found.counts["expired"] == 2
    assert not finish(engine, old, 1)  # it was under way: too late
    assert get(engine, caller, young).state == "in_progress"


def test_results_go_after_29_days_and_the_batch_stays(engine: Engine, caller: Caller) -> None:
    old, young = make(engine, caller), make(engine, caller)
    for id in (old, young):
        finish(engine, id, 0)
        cancel(engine, caller, id)
    age(engine, old, KEPT - 60)
    assert sweep(engine, Keep(), time.time())["results"] == 0
    assert len(lines(engine, caller, old)) == 3
    age(engine, old, KEPT + 1)
    with pytest.raises(NotFound, match="are gone"):
        lines(engine, caller, old)
    now = time.time()
    assert [sweep(engine, Keep(), now)["results"] for _ in range(2)] == [1, 0]
    with reading(engine) as c:
        rows = c.execute(BATCH_ITEMS.select().where(BATCH_ITEMS.c.batch == old)).all()
    assert {(row.params, row.result) for row in rows} == {("", None)}
    found = get(engine, caller, old)
    assert found.archived() == now and found.counts["succeeded"] == 1
    assert len(lines(engine, caller, young)) == 3


def test_work_is_shared_between_organisations_and_the_oldest_batch_comes_first(engine: Engine, caller: Caller) -> None:
    first, second = make(engine, caller, 50), make(engine, caller, 50)
    other = caller_of(engine, "other")
    late = make(engine, other, 3)
    found = take(engine, 8)
    assert Counter(item.batch for item in found) == {first: 5, late: 3}
    assert [item.number for item in found if item.batch == first] == list(range(5))
    under_way = {(item.batch, item.number) for item in found}
    more = take(engine, 60, under_way)
    assert Counter(item.batch for item in more) == {first: 45, second: 15}
    assert not under_way & {(item.batch, item.number) for item in more}
    busy = {(first, number) for number in range(40)}
    assert [item.batch for item in take(engine, 3, busy)] == [late] * 3


def test_one_at_a_time_starves_nobody(engine: Engine, caller: Caller) -> None:
    random.seed(7)
    make(engine, caller, 40)
    late = make(engine, caller_of(engine, "other"), 2)
    taken = []
    for _ in range(30):
        (item,) = take(engine, 1)
        taken.append(item.batch)
        finish(engine, item.batch, item.number)
    assert taken.count(late) == 2


def test_a_state_that_is_none_is_an_error(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller)
    with pytest.raises(ValueError, match="not 'waiting'"):
        finish(engine, id, 0, "waiting")


def test_two_threads_finish_everything_once(engine: Engine, caller: Caller) -> None:
    ids = [make(engine, caller, 20) for _ in range(2)]
    places = [(id, number) for id in ids for number in range(20)]
    won: list[list[tuple[str, int]]] = [[], []]
    start = threading.Barrier(2)

    def work(mine: int) -> None:
        start.wait()
        for id, number in random.Random(mine).sample(places, len(places)):
            if finish(engine, id, number, result=json.dumps({"by": mine})):
                won[mine].append((id, number))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won[0] + won[1]) == sorted(places)
    for id in ids:
        found = get(engine, caller, id)
        assert found.state == "ended" and found.counts["succeeded"] == 20
        said = [json.loads(line)["result"]["message"]["by"] for line in lines(engine, caller, id)]
        assert said == [0 if (id, number) in won[0] else 1 for number in range(20)]


def test_the_last_two_requests_finished_at_the_same_time_end_the_batch(engine: Engine, caller: Caller) -> None:
    for _ in range(8):
        id, start = make(engine, caller, 2), threading.Barrier(2)

        def work(number: int, id: str = id, start: threading.Barrier = start) -> None:
            start.wait()
            finish(engine, id, number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(engine, caller, id).state == "ended"


def test_results_are_read_in_chunks_each_in_its_own_transaction(engine: Engine, caller: Caller) -> None:
    id = make(engine, caller, 50)
    cancel(engine, caller, id)
    fetched: list[int] = []

    def seen(connection: object, *_: object) -> None:
        fetched.append(1)

    event.listen(engine, "begin", lambda connection: seen(connection))
    chunks = batches.results(engine, caller.organisation, id, 10)
    assert len(next(chunks)) == 10 and len(fetched) == 2  # the batch, and the first chunk
    assert finish(engine, make(engine, caller), 0)  # somebody writes meanwhile
    assert [len(chunk) for chunk in chunks] == [10] * 4


WORKER = """
import random, sys
from charter_service.api import batching as batch_work
from charter_service.accounts.store import open_accounts
from charter_service.web.database import reading, writing
engine = open_accounts(sys.argv[1], new=False)
with writing(engine) as c:
    batch_work.resume(c)
print("begun", flush=True)
while True:
    with reading(engine) as c:
        items = batch_work.take(c, 4)
    if not items:
        break
    for item in items:
        with writing(engine) as c:
            won = batch_work.finish(c, item.batch, item.number, "succeeded", '{"by": "%s"}' % sys.argv[2])
        if won:
            print(item.batch, item.number, flush=True)
print("done", flush=True)
"""


def worker(place: str, name: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, place, name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ)


def test_killed_workers_lose_nothing_and_finish_nothing_twice(database: str) -> None:
    engine = open_accounts(database)
    caller, other = caller_of(engine), caller_of(engine, "other")
    ids = [make(engine, caller, 60), make(engine, other, 60)]
    said: list[str] = []
    for kill in range(3):  # each is killed while it finishes requests, at another point
        child = worker(database, f"w{kill}")
        assert child.stdout is not None
        for _ in range(2 + 7 * kill):
            said.append(child.stdout.readline().strip())
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().split("\n")
        child.stdout.close()
        child.wait()
    assert "done" not in said
    last = worker(database, "last")
    out, _ = last.communicate(timeout=300)
    assert last.returncode == 0 and out.endswith("done\n")
    won = [line for line in said + out.splitlines() if line.startswith("msgbatch_") and " " in line]
    assert len(won) == len(set(won))  # nobody won twice
    for id, owner in zip(ids, (caller, other), strict=True):
        found = get(engine, owner, id)
        assert found.state == "ended" and found.counts["succeeded"] == found.size == 60
        assert sorted({json.loads(line)["custom_id"] for line in lines(engine, owner, id, 50)}) == sorted(
            f"r{n}" for n in range(60)
        )
    # what a worker was told is finished stayed finished by it; a kill hides at most the last line of each
    assert 120 - len(won) <= 3
    engine.dispose()


MAKER = """
import json, sys
from charter_service.accounts import batches
from charter_service.accounts.keys import (Caller)
from charter_service.accounts.store import open_accounts
engine = open_accounts(sys.argv[1], new=False)
while True:
    id = batches.make_batch(engine, Caller(sys.argv[2], sys.argv[3], "x"), [(f"r{n}", "{}") for n in range(300)])
    print(id, flush=True)
"""


def test_a_killed_service_has_whole_batches_and_all_that_it_accepted(tmp_path: Path) -> None:
    place = str(tmp_path / "serve.sqlite")
    engine = open_accounts(place)
    caller = caller_of(engine)
    child = subprocess.Popen(
        [sys.executable, "-c", MAKER, place, caller.key, caller.organisation],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert child.stdout is not None
    accepted = [child.stdout.readline().strip() for _ in range(3)]
    child.send_signal(signal.SIGKILL)
    accepted += child.stdout.read().split()
    child.stdout.close()
    child.wait()
    with reading(engine) as c:
        found = batches.list_batches(c, caller.organisation, limit=1000).batches
    assert set(accepted) <= {batch.id for batch in found} and len(found) - len(accepted) in (0, 1)
    assert all(batch.counts["processing"] == batch.size == 300 for batch in found)
    engine.dispose()
