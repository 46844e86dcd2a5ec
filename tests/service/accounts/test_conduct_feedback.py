"""Thumbs and reports: of one's own requests alone, the last one counts, and what is reported lands in the queue."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conduct_desk import at_once, counted, entry, joined
from sqlalchemy import Engine

from charter_service.accounts import cases
from charter_service.accounts.cases import close_case, queue
from charter_service.accounts.decisions import append
from charter_service.accounts.feedback import Opinion, expire_words, give_feedback, thumbs_of
from charter_service.accounts.keys import Caller
from charter_service.accounts.tables import CASES, FEEDBACK
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal

NOW, DAY = 1_000_000.0, 86_400.0


@pytest.fixture
def caller(engine: Engine) -> Caller:
    """Who made the request req_1."""
    made = joined(engine)
    with writing(engine) as c:
        append(c, [entry("req_1", made.organisation, side="request", action="allow", model="small")])
    return made


def give(engine: Engine, caller: Caller, thumb: str, words: str = "", request="req_1", **more) -> str:
    with writing(engine) as c:
        return give_feedback(c, caller, request, Opinion(thumb, words, **more), NOW)  # type: ignore[arg-type]


def test_a_thumb_is_kept_with_the_model_and_the_last_one_counts(engine: Engine, caller: Caller) -> None:
    first = give(engine, caller, "down")
    assert give(engine, caller, "up", "quite good") == first
    with reading(engine) as c:
        (kept,) = thumbs_of(c, "req_1")
    assert (kept["thumb"], kept["words"], kept["model"], kept["key"]) == ("up", "quite good", "small", caller.key)
    assert counted(engine, CASES) == 0  # a thumb alone asks nobody
    other = replace(caller, key="key_other")
    assert give(engine, other, "down") != first
    assert counted(engine, FEEDBACK) == 2


def test_of_many_thumbs_at_once_one_stays(engine: Engine, caller: Caller) -> None:
    thumbs = ["up", "down"] * 4
    made = at_once([lambda t=t: give(engine, caller, t, "why" if t == "down" else "") for t in thumbs])
    assert len(set(made)) == 1 and isinstance(made[0], str), made
    assert counted(engine, FEEDBACK) == 1 and 1 <= counted(engine, CASES) <= 4


def test_only_ones_own_requests_are_known(engine: Engine, caller: Caller) -> None:
    stranger = joined(engine, "other")
    for who, request in ((stranger, "req_1"), (caller, "req_2"), (caller, "")):
        with pytest.raises(NotFound, match="or it isn't yours"):
            give(engine, who, "down", "bad", request)
    assert counted(engine, FEEDBACK) == counted(engine, CASES) == 0


@pytest.mark.parametrize(
    ("more", "reported"),
    [
        ({"words": "it was rude"}, True),
        ({"category": "hate"}, True),
        ({"content": {"reply": "something"}}, True),
        ({}, False),
        ({"words": "  "}, False),
    ],
)
def test_what_is_reported_lands_in_the_queue(engine: Engine, caller: Caller, more, reported: bool) -> None:
    give(engine, caller, "up", **more)
    assert counted(engine, CASES) == 0
    give(engine, caller, "down", **more)
    with reading(engine) as c:
        found = queue(c, "report").cases
    assert len(found) == reported
    for case in found:
        assert (case.request, case.organisation) == ("req_1", caller.organisation)
        assert case.category == more.get("category", "") and case.row()["content"] == more.get("content")


def test_who_says_more_changes_the_open_report_and_not_the_closed_one(engine: Engine, caller: Caller) -> None:
    other = replace(caller, key="key_other")
    give(engine, other, "down", "my own words")
    give(engine, caller, "down", "rude")
    give(engine, caller, "down", "rude and wrong", category="hate")
    with reading(engine) as c:
        mine, changed = sorted(queue(c, "report").cases, key=lambda case: case.category)
    assert (mine.words, changed.words, changed.category) == ("my own words", "rude and wrong", "hate")
    with writing(engine) as c:
        close_case(c, changed.id, "upheld", "ann")
    give(engine, caller, "down", "rude and wrong again")
    with reading(engine) as c:
        assert {case.words for case in queue(c, "report").cases} == {"my own words", "rude and wrong again"}
    give(engine, caller, "up")  # a changed mind doesn't take the report back
    assert counted(engine, CASES, CASES.c.closed.is_(None)) == 2


@pytest.mark.parametrize(
    ("thumb", "more", "status"),
    [
        ("sideways", {}, 400),
        ("down", {"category": "Hate!"}, 400),
        ("down", {"category": "x" * 65}, 400),
        ("down", {"words": "x" * 10_001}, 413),
        ("up", {"words": "x" * 10_001}, 413),
        ("down", {"content": {"reply": "x" * 200_000}}, 413),
    ],
)
def test_what_cannot_be_feedback_is_refused(engine: Engine, caller: Caller, thumb, more, status) -> None:
    with pytest.raises(Refusal) as refused:
        give(engine, caller, thumb, **more)
    assert refused.value.status == status
    assert counted(engine, FEEDBACK) == counted(engine, CASES) == 0


def test_a_flood_of_reports_ends_and_keeps_nothing_by_halves(engine: Engine, caller: Caller, monkeypatch) -> None:
    monkeypatch.setattr(cases, "MOST_OPEN", 1)
    with writing(engine) as c:
        append(c, [entry("req_2", caller.organisation)])
    give(engine, caller, "down", "bad")
    with pytest.raises(Refusal, match="are already waiting") as refused:
        give(engine, caller, "down", "bad", "req_2")
    assert refused.value.status == 429 and counted(engine, FEEDBACK) == 1
    give(engine, caller, "down", request="req_2")


def test_old_words_expire_unless_a_case_waits(engine: Engine, caller: Caller) -> None:
    with writing(engine) as c:
        append(c, [entry("req_2", caller.organisation)])
    give(engine, caller, "up", "fine \0 \ud800", "req_2")
    give(engine, caller, "down", "bad")
    with writing(engine) as c:
        assert expire_words(c, 10, NOW + 9 * DAY) == 0
        assert expire_words(c, 10, NOW + 11 * DAY) == 1
    with reading(engine) as c:
        assert (thumbs_of(c, "req_2")[0]["words"], thumbs_of(c, "req_1")[0]["words"]) == ("", "bad")
