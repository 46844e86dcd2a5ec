"""Usage: what is recorded is what is written, by day, key and model, from many threads and through failures."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from charter_service.accounts import usage
from charter_service.accounts.keys import find_key, make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.usage import Counts, Meter, usage_by_day
from charter_service.web.database import reading, writing

DAY = date(2026, 11, 26)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def key(engine: Engine) -> str:
    with writing(engine) as c:
        return make_key(c, make_organisation(c, "acme"), "ci")[0]


@pytest.fixture
def file_key(file_engine: Engine) -> str:
    with writing(file_engine) as c:
        return make_key(c, make_organisation(c, "acme"), "ci")[0]


def days(engine: Engine, since: date = DAY, until: date = DAY, **more: str) -> list[tuple[str, str, Counts]]:
    with reading(engine) as c:
        return [(row.day, row.model, row.counts) for row in usage_by_day(c, since, until, **more)]


def test_use_adds_up_by_day_and_model(engine: Engine, key: str) -> None:
    meter = Meter(engine)
    meter.record(key, "b", Counts(1, 0, 100, 60, 5), NOON)
    meter.record(key, "a", Counts(1, 1, 10), NOON)
    meter.record(key, "b", Counts(1, 0, 50, 0, 7), NOON + 11.9 * 3600)
    meter.flush()
    meter.record(key, "b", Counts(1, output_tokens=2), NOON + 12 * 3600)  # after midnight, UTC
    meter.record(key, "b", Counts(1, output_tokens=1), NOON)
    meter.close()
    first = [("2026-11-26", "a", Counts(1, 1, 10)), ("2026-11-26", "b", Counts(3, 0, 150, 60, 13))]
    assert days(engine) == first
    assert days(engine, until=date(2026, 12, 1)) == [*first, ("2026-11-27", "b", Counts(1, 0, 0, 0, 2))]
    assert days(engine, date(2026, 11, 27), date(2026, 11, 27))[0][1] == "b"
    with reading(engine) as c:
        assert find_key(c, key).used == NOON + 12 * 3600


def test_use_is_listed_of_one_key_or_one_organisation(engine: Engine, key: str) -> None:
    with writing(engine) as c:
        other = make_organisation(c, "other")
        second = make_key(c, other, "their own")[0]
    meter = Meter(engine)
    for one in (key, second):
        meter.record(one, "m", Counts(1), NOON)
    meter.close()
    with reading(engine) as c:
        rows = usage_by_day(c, DAY, DAY)
        assert [(row.organisation, row.name, row.key) for row in rows] == [
            ("acme", "ci", key),
            ("other", "their own", second),
        ]
        assert usage_by_day(c, DAY, DAY, organisation=other) == usage_by_day(c, DAY, DAY, key=second) == rows[1:]


def test_many_threads_record_and_nothing_is_lost(engine: Engine, key: str) -> None:
    meter = Meter(engine)

    def work(number: int) -> None:
        for _ in range(200):
            meter.record(key, f"m{number % 3}", Counts(1, 0, 3, 2, 1), NOON)
            if number == 0:
                meter.flush()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.close()
    assert [counts for *_, counts in days(engine)] == [Counts(400, 0, 1200, 800, 400)] * 3


def test_the_thread_writes_by_itself(file_engine: Engine, file_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "SECONDS", 0.01)
    written, real = threading.Event(), Meter._write

    def seen(self: Meter, *what: object) -> None:
        real(self, *what)  # type: ignore[arg-type]
        written.set()

    monkeypatch.setattr(Meter, "_write", seen)
    meter = Meter(file_engine)
    meter.record(file_key, "m", Counts(1), NOON)
    assert written.wait(60)
    assert days(file_engine) == [("2026-11-26", "m", Counts(1))]
    meter.close()


def test_what_cannot_be_written_now_is_kept(
    file_engine: Engine, file_key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(usage, "SECONDS", 0.01)
    failed, real = threading.Event(), Meter._write

    def away(self: Meter, *_: object) -> None:
        failed.set()
        raise OperationalError("INSERT", {}, Exception("the disk\nis away"))

    monkeypatch.setattr(Meter, "_write", away)
    meter = Meter(file_engine)
    meter.record(file_key, "m", Counts(1), NOON)
    assert failed.wait(60)
    monkeypatch.setattr(Meter, "_write", real)
    meter.record(file_key, "m", Counts(1), NOON)
    meter.close()
    assert days(file_engine) == [("2026-11-26", "m", Counts(2))]
    assert "usage can't be written now and is kept: the disk is away" in caplog.text


def test_an_unknown_key_keeps_nobody_elses_use_from_being_written(
    engine: Engine, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    meter = Meter(engine)
    meter.record("key_nobody", "m", Counts(1), NOON)
    meter.record(key, "m" * 500, Counts(1), NOON)
    meter.close()
    assert days(engine) == [("2026-11-26", "m" * 200, Counts(1))]
    assert "unknown keys is not counted: key_nobody" in caplog.text


ENDLESS = """
import sys
from charter_service.accounts.store import open_accounts
from charter_service.accounts.usage import Counts, Meter
meter, done = Meter(open_accounts(sys.argv[1])), 0
while True:
    for _ in range(10):
        meter.record(sys.argv[2], "m", Counts(1), 1.8e9)
    meter.flush()
    done += 10
    print(done, flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path) -> None:
    place = str(tmp_path / "serve.sqlite")
    engine = open_accounts(place)
    with writing(engine) as c:
        key = make_key(c, make_organisation(c, "acme"), "ci")[0]
    child = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, place, key], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(5)]
    child.send_signal(signal.SIGKILL)
    said += [int(line) for line in child.stdout.read().splitlines()]
    child.stdout.close()
    child.wait()
    (found,) = days(engine, date(2027, 1, 15), date(2027, 1, 15))
    assert found[2].requests - said[-1] in (0, 10)
    engine.dispose()
