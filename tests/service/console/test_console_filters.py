"""The filters and forms of the console, and tables of its listings: each typed field once, without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from charter.terminal.tables import console
from charter_service.api.errors import ApiError
from charter_service.console import accounts, audit, conduct, members, traffic
from charter_service.console.filters import Texts, organisation_in
from charter_service.console.listing import Listing

MARK, NAMES = "a" * 64, {"org_1": "acme", "org_2": "org_1"}


def read(form: type[Texts], **texts: str) -> Any:
    return form.read(lambda name: texts.get(name, ""))


@pytest.mark.parametrize(
    ("form", "texts", "words"),
    [
        (traffic.RequestFilters, {"status": "nine"}, "status: expected answered, wrong, failed, or a number such"),
        (traffic.RequestFilters, {"status": "99"}, "or a number such as 429"),
        (traffic.RequestFilters, {"slower": "x"}, "slower: expected a whole number"),
        (traffic.RequestFilters, {"tokens": "-1"}, "tokens: expected a whole number"),
        (traffic.RequestFilters, {"tokens": "1" * 10}, "tokens: expected a whole number"),
        (traffic.RequestFilters, {"since": "yesterday"}, "since: expected a time such as 2026-11-26T14:00"),
        (traffic.RequestFilters, {"before": "nowhere"}, "before: expected the place that the page before named"),
        (traffic.RequestFilters, {"before": "nan:1"}, "before: expected the place"),
        (traffic.RequestFilters, {"before": f"1:{2**63}"}, "before: expected the place"),
        (traffic.UsageFilters, {"after": "x|y"}, "after: expected the place that the page before named"),
        (conduct.ThumbFilters, {"thumb": "sideways"}, "thumb: expected up or down, or nothing for both"),
        (conduct.ThumbFilters, {"before": "x"}, "before: expected the place that the page before named"),
        (conduct.DecisionFilters, {"before": "x"}, "before: expected the number of a decision"),
        (conduct.CaseFilters, {"kind": "x"}, "kind: expected flag, report, appeal, standing, or nothing for all"),
        (conduct.CaseFilters, {"severity": "x"}, "severity: expected severe, high, medium, low, or nothing"),
        (conduct.CaseFilters, {"state": "x"}, "state: expected open, closed, all"),
        (conduct.UserFilters, {"user": "x"}, "user: expected the mark of an end user, 64 hex digits"),
        (conduct.Closing, {"verdict": "perhaps"}, "verdict: expected upheld or dismissed"),
        (conduct.Setting, {"level": "x"}, "level: expected good, warned, enhanced, throttled, suspended"),
        (conduct.Setting, {"level": "good", "reason": " "}, "reason: write why, for a possible appeal"),
        (conduct.Setting, {"level": "good", "reason": "x", "seen": "y"}, "seen is not a whole number; go back"),
        (conduct.Exempting, {"organisation": "acme"}, "category: choose one, or"),
        (conduct.Exempting, {"category": "x", "until": "soon"}, "until: expected a day such as 2026-11-26"),
        (conduct.Reasoned, {}, "reason: write why; it is stored"),
        (accounts.Limits, {"concurrency": "many"}, "concurrency is not a whole number; go back and reload"),
        (accounts.Capped, {"monthly_tokens": "9" * 16}, "monthly_tokens is not a whole number"),
        (members.MemberFilters, {"after": "x"}, "after: expected the number of a person"),
        (audit.ActFilters, {"log": "x"}, "log: expected server or people"),
        (audit.ActFilters, {"before": "x"}, "before: expected the number of an act"),
        (audit.ActFilters, {"until": "2026-13-01"}, "until: expected a day such as 2026-11-26"),
    ],
)
def test_a_wrong_text_is_refused_by_its_name(form: type[Texts], texts: dict[str, str], words: str) -> None:
    with pytest.raises(ApiError) as refused:
        read(form, **texts)
    assert words in str(refused.value) and refused.value.status == 400


@pytest.mark.parametrize(
    ("since", "until"), [("yesterday", ""), ("2026-01-02", "2026-01-01"), ("1990-01-01", ""), ("", "0001-01-01")]
)
def test_a_range_of_days_is_bounded(since: str, until: str) -> None:
    with pytest.raises(ApiError, match="since"):
        read(traffic.ToolFilters, since=since, until=until).days()


def test_right_texts_are_typed_and_none_is_the_default() -> None:
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
    found = read(traffic.RequestFilters, status="wrong", since="2026-11-26T12:00", before="9.5:7", refused="yes")
    assert (found.status, found.since, found.before, found.refused) == (4, noon, (9.5, 7), True)
    assert read(traffic.RequestFilters, status="429").status == 429
    assert read(traffic.RequestFilters).model_dump(exclude={"request", "organisation", "key", "model"}) == {
        **dict.fromkeys(("status", "since", "until", "slower", "tokens"), 0),
        **{"refused": False, "before": None},
    }
    assert read(traffic.UsageFilters, after="2026-11-26|key_1|a|b").after == ("2026-11-26", "key_1", "a|b")
    acts = read(audit.ActFilters, since="2026-11-26", until="2026-11-26").search()
    assert (acts.since, acts.until) == (noon - 43_200, noon + 43_200), "the last day is included"
    assert read(conduct.CaseFilters).state == "open" and read(conduct.UserFilters, user=MARK).user == MARK
    assert read(accounts.Limits, concurrency="3").limits().concurrency == 3
    assert [organisation_in(NAMES, name) for name in ("", "org_1", "acme")] == ["", "org_1", "org_1"]
    with pytest.raises(ApiError, match="there is no organisation nobody"):
        organisation_in(NAMES, "nobody")


def test_a_listing_neither_obeys_users_markup_nor_lets_it_steer(capsys: pytest.CaptureFixture[str]) -> None:
    listing = Listing("none", {"name": "name", "size": lambda row: f"{row['size']:,}"}, {"n": "size"})
    listing.show([])
    assert capsys.readouterr().out == "none\n"
    listing.show([{"name": "[red]rude[/red] :smile: \x1b[31m", "size": 1_000}])
    said = capsys.readouterr().out
    assert "[red]rude[/red] :smile: \ufffd[31m" in said and "1,000" in said and "\x1b" not in said
    assert console().width >= 80
