"""The human queue: cases are opened once, decided once, and what was decided changes where the account stands."""

from __future__ import annotations

import pytest
from conduct_desk import SHORT, at_once, counted, entry, joined
from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import wilson
from charter_service.accounts import cases
from charter_service.accounts.cases import (
    NewCase,
    appeal,
    audit,
    close_case,
    expire_content,
    find_case,
    open_case,
    queue,
)
from charter_service.accounts.decisions import append
from charter_service.accounts.standings import (
    changes_of,
    decide,
    evaluate,
    keep_ladder,
    kept_ladder,
    newest_of,
    outcome_of,
    settle,
)
from charter_service.accounts.tables import CASES, STANDINGS
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale

NOW = 1_000_000.0
DAY = 86_400.0


def opened(engine: Engine, organisation: str, count: int = 1, kind="flag", **more) -> list[str]:
    with writing(engine) as c:
        return [open_case(c, NewCase(kind, organisation, f"req_{n}", "weapons", **more), NOW + n) for n in range(count)]


def flagged(engine: Engine, organisation: str, *requests: str, at: float = NOW, category="weapons") -> list[str]:
    """Requests with a decision and its case, and the standing that follows."""
    with writing(engine) as c:
        append(c, [entry(r, organisation, at, category=category, action="block") for r in requests])
        ids = [open_case(c, NewCase("flag", organisation, r, category), at) for r in requests]
        evaluate(c, organisation, SHORT, at)
    return ids


def level(engine: Engine, organisation: str) -> str:
    with reading(engine) as c:
        newest = newest_of(c, organisation)
    return newest.level if newest else "good"


def settled(engine: Engine, id: str, verdict: str, now: float = NOW + 1, by: str = "ann") -> cases.Case:
    with writing(engine) as c:
        return settle(c, id, verdict, by, "", SHORT, now)


def test_a_queue_is_read_page_by_page(engine: Engine) -> None:
    ann, bob = joined(engine).organisation, joined(engine, "other").organisation
    first, second = opened(engine, ann, 5), opened(engine, bob, 1, "report")
    with writing(engine) as c:
        close_case(c, first[1], "upheld", "ann", now=NOW)
    with reading(engine) as c:
        seen, after = [], ""
        while True:
            page = queue(c, limit=2, after=after)
            seen += [case.id for case in page.cases]
            if not (after := page.after):
                break
        assert sorted(seen) == sorted([*(f for f in first if f != first[1]), *second])
        times = [find_case(c, id).created for id in seen]
        assert times == sorted(times)
        assert [x.id for x in queue(c, "report").cases] == second
        assert [x.id for x in queue(c, state="closed").cases] == [first[1]]
        assert len(queue(c, state="all").cases) == 6
        assert {x.id for x in queue(c, organisation=bob).cases} == set(second)
        with pytest.raises(NotFound, match="no case"):
            queue(c, after="case_none")


def test_one_request_and_category_is_one_flag(engine: Engine) -> None:
    ann, bob = joined(engine).organisation, joined(engine, "other").organisation
    assert opened(engine, ann) == opened(engine, ann)
    assert opened(engine, bob) != opened(engine, ann)  # an id that another organisation used as well
    assert counted(engine, CASES) == 2
    assert opened(engine, ann, 1, "report") != opened(engine, ann, 1, "report")


def test_no_more_wait_than_people_would_read(engine: Engine, monkeypatch) -> None:
    monkeypatch.setattr(cases, "MOST_OPEN", 2)
    ann = joined(engine).organisation
    first = opened(engine, ann, 3)
    assert first[2] is None and None not in first[:2]
    with writing(engine) as c:
        close_case(c, first[0], "dismissed", "ann")
    assert opened(engine, ann, 3)[2] is not None


def test_content_is_kept_as_it_was_and_as_both_databases_can(engine: Engine) -> None:
    ann = joined(engine).organisation
    content = {"messages": [{"role": "user", "content": "nul \0 half \ud800 ☃"}], "reply": ""}
    (id,) = opened(engine, ann, content=content, words="nul \0 half \ud800 ☃")
    with reading(engine) as c:
        row = find_case(c, id).row()
    assert row["content"]["messages"][0]["content"] == "nul \0 half \ufffd ☃"
    assert row["words"] == "nul \ufffd half \ufffd ☃"


def test_what_is_too_long_is_refused_from_people_and_left_out_of_flags(engine: Engine) -> None:
    ann = joined(engine).organisation
    long = {"reply": "x" * cases.MOST_CONTENT}
    with pytest.raises(Refusal, match="the limit is 200,000") as refused:
        opened(engine, ann, kind="report", content=long)
    assert refused.value.status == 413
    with pytest.raises(Refusal, match="the limit is 10,000"):
        opened(engine, ann, kind="report", words="x" * 10_001)
    (id,) = opened(engine, ann, content=long)
    with reading(engine) as c:
        assert find_case(c, id).row()["content"] == {"too_long": cases.MOST_CONTENT + 13}


def test_a_case_is_closed_once(engine: Engine) -> None:
    (id,) = opened(engine, joined(engine).organisation)
    with writing(engine) as c:
        closed = close_case(c, id, "upheld", " ann \n of trust ", "clear", NOW)
    assert (closed.verdict, closed.by, closed.note, closed.closed) == ("upheld", "ann of trust", "clear", NOW)
    with pytest.raises(Stale, match="upheld by ann of trust already"), writing(engine) as c:
        close_case(c, id, "dismissed", "bob")
    with pytest.raises(NotFound), writing(engine) as c:
        close_case(c, "case_none", "dismissed", "bob")
    with reading(engine) as c:
        assert find_case(c, id) == closed


@pytest.mark.parametrize(("verdict", "by"), [("maybe", "ann"), ("upheld", " "), ("upheld", "rule")])
def test_a_verdict_needs_a_word_and_a_name(engine: Engine, verdict: str, by: str) -> None:
    (id,) = opened(engine, joined(engine).organisation)
    with pytest.raises(CharterError), writing(engine) as c:
        close_case(c, id, verdict, by)
    with reading(engine) as c:
        assert find_case(c, id).closed is None


def test_of_two_reviewers_at_once_one_decides(engine: Engine) -> None:
    org = joined(engine).organisation
    flags = flagged(engine, org, "req_1", "req_2")
    verdicts = ["upheld", "dismissed"] * 4
    made = at_once([lambda v=v, n=n: settled(engine, flags[0], v, by=f"r{n}") for n, v in enumerate(verdicts)])
    taken = [m for m in made if isinstance(m, cases.Case)]
    assert len(taken) == 1 and all(isinstance(m, Stale) for m in made if m not in taken), made
    with reading(engine) as c:
        assert find_case(c, flags[0]) == taken[0]


def test_violations_raise_and_dismissed_flags_restore_at_once(engine: Engine) -> None:
    org = joined(engine).organisation
    flags = flagged(engine, org, "req_1", "req_2", "req_3", "req_4")
    assert level(engine, org) == "enhanced"
    settled(engine, flags[0], "dismissed")
    assert level(engine, org) == "warned"
    settled(engine, flags[1], "dismissed")
    settled(engine, flags[2], "dismissed")
    assert level(engine, org) == "good"
    settled(engine, flags[3], "upheld")  # one upheld weighs 2
    assert level(engine, org) == "warned"
    with reading(engine) as c:
        assert {change.by for change in changes_of(c, org)} == {"rule"}


def test_a_request_counts_once_by_the_heaviest_part_that_stands(engine: Engine) -> None:
    org = joined(engine).organisation
    ladder = SHORT.model_copy(update={"severities": {"weapons": "severe", "spam": "low"}})
    with writing(engine) as c:
        rows = [entry("req_1", org, NOW, category=x, action="flag") for x in ("weapons", "spam", "weapons")]
        append(c, [*rows, entry("req_1", org, NOW, category="weapons", action="safety_prompt")])
        case = open_case(c, NewCase("flag", org, "req_1", "weapons"), NOW)
        _, outcome = evaluate(c, org, ladder, NOW)
        assert (outcome.level, outcome.total) == ("enhanced", 4.0)
        settle(c, case, "dismissed", "ann", "", ladder, NOW + 1)
        _, outcome = evaluate(c, org, ladder, NOW + 1)
        assert (outcome.level, outcome.total) == ("good", 0.5)


def test_who_asks_much_is_forgiven_the_errors_of_classifiers(engine: Engine) -> None:
    org, other = joined(engine).organisation, joined(engine, "other").organisation
    asked = [(org, f"fine{n}", NOW - n, "x") for n in range(60)]
    asked += [(org, "many prompts in one", NOW, "x")] * 99  # one request
    asked += [(org, f"blank{n}", NOW, "{}") for n in range(99)]  # that no classifier read
    asked += [(org, f"old{n}", NOW - 30 * DAY, "x") for n in range(99)]
    asked += [(org, f"later{n}", NOW + 2, "x") for n in range(99)]
    asked += [(other, f"other{n}", NOW, "x") for n in range(99)]
    with writing(engine) as c:
        rows = [
            entry(request, whose, at, action="allow", category="", classifiers=classifiers)
            for whose, request, at, classifiers in asked
        ]
        append(c, rows)
    flagged(engine, org, "req_1", "req_2", "req_3")
    with reading(engine) as c:
        outcome = outcome_of(c, org, SHORT, NOW)
    assert (outcome.level, outcome.total) == ("warned", 2.39)


def test_the_rule_asks_before_it_suspends(engine: Engine) -> None:
    org = joined(engine).organisation
    flagged(engine, org, *(f"req_{n}" for n in range(9)))
    assert level(engine, org) == "throttled"
    flagged(engine, org, "req_9")
    with reading(engine) as c:
        (asked,) = queue(c, "standing").cases  # once
    assert asked.category == "suspended" and "weigh" in asked.words
    settled(engine, asked.id, "upheld", NOW + 5)
    with reading(engine) as c:
        newest = newest_of(c, org)
    assert (newest.level, newest.by) == ("suspended", "ann")
    # its clean periods lift it
    for days, expected in ((9.9, "suspended"), (10, "throttled"), (25, "enhanced"), (40, "good")):
        with writing(engine) as c:
            evaluate(c, org, SHORT, NOW + 5 + days * DAY)
        assert level(engine, org) == expected


def test_a_person_who_declines_to_suspend_isnt_asked_again_at_once(engine: Engine) -> None:
    org = joined(engine).organisation
    flagged(engine, org, *(f"req_{n}" for n in range(9)))
    with reading(engine) as c:
        (asked,) = queue(c, "standing").cases
    settled(engine, asked.id, "dismissed")
    with reading(engine) as c:
        newest = newest_of(c, org)
    assert (newest.level, newest.by) == ("throttled", "ann")
    flagged(engine, org, "req_more", at=NOW + 2)
    with reading(engine) as c:
        assert queue(c, "standing").cases == ()
    flagged(engine, org, *(f"req_new_{n}" for n in range(9)), at=NOW + 3)
    with reading(engine) as c:
        assert len(queue(c, "standing").cases) == 1


def test_an_appeal_restores_or_keeps(engine: Engine) -> None:
    org = joined(engine).organisation
    flagged(engine, org, *(f"req_{n}" for n in range(6)))
    with writing(engine) as c:
        first = appeal(c, org, "we are a school", NOW)
        with pytest.raises(Refusal, match="only one can be open"):
            appeal(c, org, "please", NOW)
        with pytest.raises(Refusal, match="needs words"):
            appeal(c, org, " ", NOW)
    settled(engine, first, "dismissed")
    assert level(engine, org) == "throttled"
    with writing(engine) as c:
        second = appeal(c, org, "we are a school, really", NOW)
    settled(engine, second, "upheld")
    with reading(engine) as c:
        newest = newest_of(c, org)
    assert (newest.level, newest.by) == ("good", "ann")
    # the next violation alone doesn't bring the old ones back
    flagged(engine, org, "req_next", at=NOW + 11 * DAY)
    assert level(engine, org) == "good"


def test_a_person_decides_on_what_the_person_saw(engine: Engine) -> None:
    org = joined(engine).organisation
    with writing(engine) as c:
        first = decide(c, org, "warned", "ann", "a talk with them", NOW, seen=0)
    with pytest.raises(Stale, match="it is warned, by ann"), writing(engine) as c:
        decide(c, org, "good", "bob", "no", NOW, seen=0)
    with writing(engine) as c:
        decide(c, org, "good", "bob", "settled", NOW - 5, seen=first.number)  # a clock behind
    with reading(engine) as c:
        assert [change.at for change in changes_of(c, org)] == [NOW, NOW]
    for wrong in (("lost", "ann", "x"), ("good", "", "x"), ("good", "rule", "x"), ("good", "ann", " ")):
        with pytest.raises(CharterError), writing(engine) as c:
            decide(c, org, *wrong, NOW)
    with pytest.raises(NotFound, match="no organisation"), writing(engine) as c:
        decide(c, "org_none", "good", "ann", "x", NOW)
    assert counted(engine, STANDINGS) == 2


def test_an_audit_counts_what_people_said(engine: Engine) -> None:
    org = joined(engine).organisation
    weapons = flagged(engine, org, *(f"w{n}" for n in range(6)))
    (spam,) = flagged(engine, org, "s0", category="spam")
    for n, id in enumerate(weapons[:5]):
        settled(engine, id, "upheld" if n < 3 else "dismissed")
    with writing(engine) as c:
        append(c, [entry("unseen", org, NOW, category="", action="allow", side="request")])
        for request, category in (("unseen", "spam"), ("w5", "weapons"), ("unseen", "")):
            report = open_case(c, NewCase("report", org, request, category, "bad"), NOW)
            close_case(c, report, "upheld", "ann")
    with reading(engine) as c:
        found_spam, found_weapons = audit(c)
    low, high = wilson(3, 5)
    assert found_weapons == cases.Audit("weapons", 3, 2, 1, 0, 0.6, low, high)
    assert found_spam == cases.Audit("spam", 0, 0, 1, 1, None, 0.0, 1.0)
    assert spam


def test_content_expires_with_closed_cases_alone(engine: Engine) -> None:
    org = joined(engine).organisation
    old, young, open_ = opened(engine, org, 3, content={"reply": "x"}, words="w")
    with writing(engine) as c:
        close_case(c, old, "upheld", "ann", "a note", NOW)
        close_case(c, young, "upheld", "ann", "", NOW + 5 * DAY)
        assert expire_content(c, 10, NOW + 11 * DAY) == 1
        assert expire_content(c, 10, NOW + 11 * DAY) == 0
    with reading(engine) as c:
        gone, kept, waits = (find_case(c, id) for id in (old, young, open_))
    assert (gone.words, gone.content, gone.note, gone.verdict) == ("", "", "a note", "upheld")
    assert kept.content and waits.content and kept.words == waits.words == "w"


def test_the_rules_of_the_service_lie_in_its_database(engine: Engine) -> None:
    with writing(engine) as c:
        assert kept_ladder(c).clean_days == 30
        keep_ladder(c, SHORT)
        keep_ladder(c, SHORT.model_copy(update={"severities": {"weapons": "severe"}}))
        assert kept_ladder(c) == SHORT.model_copy(update={"severities": {"weapons": "severe"}})
