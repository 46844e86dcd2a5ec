"""Rows of requests: written once, searched by any mix of fields, a page at a time, and kept for a bounded time."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import Engine, func, select, text

from charter_service.accounts import requests
from charter_service.accounts.feedback import Thumbs, find_thumbs, thumbs_by_day
from charter_service.accounts.keys import make_key
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.requests import RequestRow, Sought, add_requests, find_requests
from charter_service.accounts.retention import Keep, sweep
from charter_service.accounts.tables import FEEDBACK, REQUESTS, USAGE, USAGE_SUMS
from charter_service.accounts.usage import Counts, Meter, Span, all_usage, by_day_and_model, largest, usage_rows
from charter_service.web.database import reading, writing

DAY = 86_400.0


def row(number: int, **facts: object) -> RequestRow:
    values: dict[str, object] = {
        "id": f"req_{number}",
        "at": 1000.0 + number,
        "organisation": "org_a" if number % 2 else "org_b",
        "key": f"key_{number % 3}",
        "model": "m",
        "surface": "messages",
        "status": 429 if number % 10 == 0 else 200,
        "milliseconds": number,
        "input_tokens": number,
    }
    return RequestRow(**{**values, **facts})  # type: ignore[arg-type]


def ids(engine: Engine, **sought: object) -> list[str]:
    """All that a search finds, page after page."""
    found: list[str] = []
    before = None
    while True:
        with reading(engine) as connection:
            page = find_requests(connection, Sought(before=before, **sought), 7)  # type: ignore[arg-type]
        found += [one["id"] for one in page.rows]
        if page.before is None:
            return found
        before = page.before


def test_a_request_is_stored_once_with_the_usage(engine: Engine) -> None:
    with writing(engine) as connection:
        add_requests(connection, [row(1), row(2)])
        add_requests(connection, [row(1, status=500), row(3)])
        stored = connection.execute(select(REQUESTS.c.id, REQUESTS.c.status).order_by(REQUESTS.c.number)).all()
    assert [tuple(one) for one in stored] == [("req_1", 200), ("req_2", 200), ("req_3", 200)]


@pytest.mark.parametrize("looked", [8_000, 5, 1])
def test_every_search_finds_exactly_its_rows_in_pages(
    engine: Engine, looked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a search stops early: the next page goes on exactly there."""
    monkeypatch.setattr(requests, "LOOKED", looked)
    rows = [row(number, refused=number == 12) for number in range(40)]
    rows += [row(number, at=1039.0) for number in range(40, 50)]  # at one time
    with writing(engine) as connection:
        add_requests(connection, rows)
    newest = sorted(rows, key=lambda one: (-one.at, -int(one.id[4:])))
    for sought, matches in (
        ({}, lambda one: True),
        ({"organisation": "org_a"}, lambda one: one.organisation == "org_a"),
        ({"key": "key_1", "organisation": "org_b"}, lambda one: one.key == "key_1" and one.organisation == "org_b"),
        ({"status": 4}, lambda one: one.status == 429),
        ({"status": 429, "model": "m"}, lambda one: one.status == 429),
        ({"refused": True}, lambda one: one.refused),
        ({"slower": 33}, lambda one: one.milliseconds >= 33),
        ({"tokens": 45}, lambda one: one.input_tokens >= 45),
        ({"since": 1010.0, "until": 1020.0}, lambda one: 1010 <= one.at < 1020),
        ({"model": "other"}, lambda one: False),
    ):
        assert ids(engine, **sought) == [one.id for one in newest if matches(one)], sought
    assert ids(engine, id="req_7") == ["req_7"] and ids(engine, id="' OR 1=1") == []


def test_old_rows_and_those_beyond_the_most_go(engine: Engine) -> None:
    now = 100 * DAY
    with writing(engine) as connection:
        add_requests(connection, [row(n, at=(60 + n) * DAY) for n in range(20)])
        add_requests(connection, [row(n, at=now) for n in range(20, 1500)])
    sweep(engine, Keep(requests_days=30), now, pause=lambda _: None)
    with reading(engine) as connection:
        assert connection.execute(select(func.min(REQUESTS.c.at))).scalar() == 70 * DAY
    sweep(engine, Keep(requests_days=365, requests_most=1000), now, pause=lambda _: None)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(REQUESTS)).scalar() == 1000
        assert connection.execute(select(func.max(REQUESTS.c.id)).where(REQUESTS.c.id == "req_1499")).scalar()


def test_sums_equal_the_rows_they_sum(engine: Engine) -> None:
    with writing(engine) as connection:
        keys = [
            make_key(connection, make_organisation(connection, name), "k", ("messages",))[0]
            for name in ("a", "a2", "b")
        ]
    meter = Meter(engine)
    for number in range(60):
        counts = Counts(1, number % 2, number, number // 2, 2)
        meter.record(keys[number % 3], f"m{number % 2}", counts, DAY * (1 + number % 5))
        if number % 7 == 0:
            meter.flush()
    meter.note(row(1))
    meter.close()
    span = Span(date(1970, 1, 1), date(1970, 12, 31))
    with reading(engine) as connection:
        everything = list(all_usage(connection, span))
        sums = by_day_and_model(connection, span)
        assert sum(sums.values(), Counts()) == sum((one.counts for one in everything), Counts())
        assert sum(sums.values(), Counts()).requests == 60
        by_key = by_day_and_model(connection, Span(span.since, span.until, key=keys[0]))
        assert sum(one.requests for one in by_key.values()) == 20
        most = largest(connection, span)
        assert sorted(name for _, name, _ in most) == ["a", "a2", "b"]
        assert sum((counts for _, _, counts in most), Counts()) == sum(sums.values(), Counts())
        owner = next(id for id, name, _ in most if name == "b")
        mine = Span(span.since, span.until, organisation=owner)
        assert [id for id, _, _ in largest(connection, mine)] == [keys[2]]
        pages, place = list[object](), None
        while True:
            some, place = usage_rows(connection, span, place, 4)
            pages += some
            if place is None:
                break
        assert sorted(map(repr, pages)) == sorted(map(repr, everything)) and len(pages) == len(everything)
        assert connection.execute(select(func.count()).select_from(REQUESTS)).scalar() == 1


def test_a_database_with_usage_is_summed_when_it_is_migrated(engine: Engine) -> None:
    """What the migration does, done again on rows that are there."""
    with writing(engine) as connection:
        key = make_key(connection, make_organisation(connection, "a"), "k", ("messages",))[0]
    meter = Meter(engine)
    meter.record(key, "m", Counts(3, 1, 5, 2, 7), DAY)
    meter.record(key, "m", Counts(3, 1, 5, 2, 7), 9 * DAY)
    meter.close()
    with writing(engine) as connection:
        before = sorted(map(tuple, connection.execute(select(USAGE_SUMS))))
        connection.execute(USAGE_SUMS.delete())
        names = "requests, refused, input_tokens, cached_tokens, output_tokens"
        sums = ", ".join(f"SUM(u.{name})" for name in names.split(", "))
        for whose, group in (("k.organisation", ", k.organisation"), ("''", "")):
            connection.execute(
                text(
                    f"INSERT INTO usage_sums (day, organisation, model, {names}) SELECT u.day, {whose}, u.model, {sums} "
                    f"FROM usage u JOIN keys k ON k.id = u.key GROUP BY u.day, u.model{group}"
                )
            )
        assert sorted(map(tuple, connection.execute(select(USAGE_SUMS)))) == before
    sweep(engine, Keep(usage_days=1), 9 * DAY + 1, pause=lambda _: None)
    with reading(engine) as connection:
        days = {
            name: set(connection.execute(select(t.c.day)).scalars()) for name, t in (("u", USAGE), ("s", USAGE_SUMS))
        }
    assert days["u"] == days["s"] == {"1970-01-10"}


def test_thumbs_are_counted_by_day_and_paged(engine: Engine) -> None:
    with writing(engine) as connection:
        owner = make_organisation(connection, "a")
        for number in range(12):
            values = {"id": f"f{number:02}", "request": "r", "organisation": owner, "key": "k", "words": ""}
            at = DAY * (2 + number // 4) + (DAY - 0.5 if number % 4 == 3 else 0.0)
            thumb = "up" if number % 3 else "down"
            connection.execute(FEEDBACK.insert().values(**values, thumb=thumb, model="m", created=at))
    wanted = Thumbs(date(1970, 1, 2), date(1970, 1, 31))
    with reading(engine) as connection:
        counts = thumbs_by_day(connection, wanted)
        assert counts == {
            ("1970-01-03", "m", "down"): 2,
            ("1970-01-03", "m", "up"): 2,
            ("1970-01-04", "m", "down"): 1,
            ("1970-01-04", "m", "up"): 3,
            ("1970-01-05", "m", "down"): 1,
            ("1970-01-05", "m", "up"): 3,
        }
        some, before = find_thumbs(connection, wanted, None, 5)
        more, _ = find_thumbs(connection, wanted, before, 50)
        assert len({one["id"] for one in some + more}) == 12
        assert find_thumbs(connection, Thumbs(wanted.since, wanted.until, words=True), None) == ([], None)
