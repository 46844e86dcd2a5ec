"""Severity orders the queue, and is kept as it was when something was decided."""

from __future__ import annotations

import pytest
from conduct_desk import ALLOWED, found, joined
from sqlalchemy import Engine, text

from charter.ground.artifact.manifest import digest_text
from charter.ground.moderation.policy import Policy, shipped_policy
from charter_service.accounts.cases import NewCase, open_case, queue
from charter_service.accounts.decisions import decisions_of, verify_chain
from charter_service.accounts.ladder import Ladder
from charter_service.accounts.standings import outcome_of
from charter_service.accounts.tables import DECISIONS
from charter_service.api.conduct import Conduct, RequestFacts
from charter_service.web.database import reading, writing

NOW = 1_000_000.0


def opened(engine: Engine, organisation: str, *severities: str, kind="flag") -> list[str]:
    with writing(engine) as c:
        return [
            open_case(c, NewCase(kind, organisation, f"req_{n}", f"c{n}", severity=one), NOW + n)
            for n, one in enumerate(severities)
        ]


def test_the_severest_come_first_and_of_these_the_oldest(engine: Engine) -> None:
    org = joined(engine).organisation
    low, severe, none, high, medium, later = opened(engine, org, "low", "severe", "", "high", "medium", "severe")
    expected = [severe, later, high, none, medium, low]
    with reading(engine) as c:
        assert [case.id for case in queue(c).cases] == expected
        seen, after = [], ""
        while True:
            page = queue(c, limit=2, after=after)
            seen += [case.id for case in page.cases]
            if not (after := page.after):
                break
        assert seen == expected
        assert [case.id for case in queue(c, severity="severe").cases] == [severe, later]
        assert [case.id for case in queue(c, severity="medium").cases] == [medium]
        assert queue(c, severity="low", organisation="org_none").cases == ()


def changed(policy: Policy, category: str, severity: str) -> Policy:
    """The policy with another severity of one category."""
    facts = policy.model_dump(mode="json")
    for one in facts["categories"]:
        if one["id"] == category:
            one["severity"] = severity
    return Policy.model_validate(facts | {"version": policy.version + 1})


def test_a_decision_keeps_the_severity_that_its_category_had(engine: Engine) -> None:
    policy = shipped_policy()
    category = next(one.id for one in policy.categories if one.severity == "severe")
    caller, facts = joined(engine), {"forgiven": 0.0}
    first = Conduct(engine, Ladder(**facts), policy)
    first.record(RequestFacts(caller, "req_1", "small"), [found(category=category)])
    first.record(RequestFacts(caller, "req_9", "small"), [ALLOWED])
    first.close()
    second = Conduct(engine, Ladder(**facts), changed(policy, category, "low"))
    second.record(RequestFacts(caller, "req_2", "small"), [found(category=category)])
    second.give_feedback(caller, "req_9", "down", "bad", category=category)
    second.close()
    with reading(engine) as c:
        rows = [decisions_of(c, id)[0].entry.severity for id in ("req_1", "req_2", "req_9")]
        cases = [(case.request, case.severity) for case in queue(c).cases]
        total = outcome_of(c, caller.organisation, second.ladder, NOW).total
        assert verify_chain(c) is None
    assert rows == ["severe", "low", ""]
    assert cases[0] == ("req_1", "severe") and set(cases[1:]) == {("req_2", "low"), ("req_9", "low")}
    assert total == 4.5, "the first weighs what it weighed then"


def test_the_log_says_which_text_was_added(engine: Engine) -> None:
    policy, caller = shipped_policy(), joined(engine)
    conduct = Conduct(engine, policy=policy)
    rule = policy.high_risk[0]
    verdict = found("safety_prompt", rule.id)
    told = type(verdict)(
        **{**{name: getattr(verdict, name) for name in verdict.__slots__}, "safety_prompt": rule.disclosure}
    )
    conduct.record(RequestFacts(caller, "req_1", "small"), [told])
    conduct.close()
    with reading(engine) as c:
        (row,) = decisions_of(c, "req_1")
        assert row.entry.added == digest_text(rule.disclosure) and verify_chain(c) is None
        assert rule.disclosure not in str(row.row())


@pytest.mark.parametrize("name", ["severity", "added", "grant_id", "unscreened", "repeats"])
def test_a_later_column_that_is_changed_or_emptied_breaks_the_chain(engine: Engine, name: str) -> None:
    caller = joined(engine)
    policy = shipped_policy()
    conduct = Conduct(engine, policy=policy)
    for n in range(3):
        conduct.record(RequestFacts(caller, f"req_{n}", "small"), [found(category=policy.categories[0].id)])
    conduct.close()
    with writing(engine) as c:
        if engine.dialect.name == "postgresql":
            c.execute(text("ALTER TABLE decisions DISABLE TRIGGER ALL"))
        else:
            for (trigger,) in c.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                c.execute(text(f"DROP TRIGGER {trigger}"))
        c.execute(DECISIONS.update().where(DECISIONS.c.number == 2).values({name: "low"}))
        assert verify_chain(c) == 2
        if name == "severity":
            c.execute(DECISIONS.update().where(DECISIONS.c.number == 2).values(severity=""))
            assert verify_chain(c) == 2
