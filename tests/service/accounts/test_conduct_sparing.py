"""Nobody is punished by a machine alone: administrators are spared, suspensions need people, withdrawn verdicts weigh
nothing, and cases that a sentence of the server's own caused are lifted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conduct_desk import SHORT, Clock, Make, found, joined, making
from sqlalchemy import Engine, select

from charter.ground.moderation.actions import Verdict
from charter_service.accounts.cases import queue
from charter_service.accounts.keys import Caller, make_key
from charter_service.accounts.ladder import DAY, History, Ladder, Violation, next_standing
from charter_service.accounts.standings import account_of, changes_of, outcome_of
from charter_service.accounts.tables import CASES, DECISIONS
from charter_service.api.conduct import Conduct, RequestFacts
from charter_service.web.database import reading, writing
from charter_service.web.tokens import digest_of

ANN = digest_of("ann")
OURS = 0.9748310275341382  # what the server's own sentence scored
ENCODER = {"encoder": "f84ea9398b13fb62", "words": "b2dafd4d5e04c7ca"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(engine: Engine, clock: Clock) -> Iterator[Make]:
    with making(engine, SHORT, clock) as new:
        yield new


def hate(score: float) -> Verdict:
    return replace(found(category="hate"), score=score, threshold=0.9526567, classifiers=ENCODER)


def sin(conduct: Conduct, caller: Caller, *requests: str, user: str = "", verdict: Verdict | None = None) -> str:
    for request in requests:
        conduct.record(RequestFacts(caller, request, "small", user), [verdict or found()])
    return conduct.standing(caller.organisation, user).level


def test_an_administrators_account_is_never_lowered_by_the_rule(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    with writing(engine) as c:
        make_key(c, caller.organisation, "console", ("admin",))
    assert sin(conduct, caller, *(f"r{n}" for n in range(12))) == "good"
    with reading(engine) as c:
        asked = [case.category for case in queue(c, "standing").cases]
        assert asked == ["warned"] and changes_of(c, caller.organisation) == []
    conduct.decide(caller.organisation, "throttled", "ms ear", "seen")
    assert conduct.standing(caller.organisation).level == "throttled", "a person may"


def test_an_account_that_was_lowered_is_restored_once_it_holds_an_admin_key(
    make: Make, engine: Engine, clock: Clock
) -> None:
    conduct, caller = make(), joined(engine)
    assert sin(conduct, caller, "a", "b") == "warned"
    with writing(engine) as c:
        make_key(c, caller.organisation, "console", ("admin",))
    assert make().standing(caller.organisation).level == "good", "the next server weighs it again"


def test_with_standings_off_nothing_follows_and_all_is_logged(make: Make, engine: Engine) -> None:
    off = SHORT.model_copy(update={"state": "off"})  # the ladder, not the screen
    conduct, caller = make(off), joined(engine)
    assert sin(conduct, caller, *(f"r{n}" for n in range(12)), user=ANN) == "good"
    with reading(engine) as c:
        assert len(c.execute(select(DECISIONS.c.number)).all()) == 12
        assert changes_of(c, caller.organisation) == [] and not queue(c, "standing").cases


def violations(count: int, score: float, severe: bool = True) -> History:
    return History([Violation(n * 60.0, 4.0, severe=severe, score=score) for n in range(count)])


@pytest.mark.parametrize(
    ("count", "score", "severe", "level"),
    [
        (10, 0.995, True, "suspended"),
        (9, 0.995, True, "throttled"),
        (30, 0.98, True, "throttled"),
        (30, 0.995, False, "throttled"),
    ],
)
def test_an_end_user_is_suspended_by_severe_repeated_clear_violations_alone(
    count: int, score: float, severe: bool, level: str
) -> None:
    rules = Ladder(forgiven=0.0)
    outcome = next_standing(rules.for_users(), violations(count, score, severe), DAY)
    assert outcome.level == level
    assert (outcome.asks == "suspended") == (level == "throttled"), "else a person is asked"
    whole = next_standing(rules, violations(count, score, severe), DAY)
    assert whole.level == "throttled", "an organisation never by the rule alone"


@pytest.mark.parametrize("at_start", [False, True])
def test_a_rise_that_the_rule_no_longer_asks_for_is_withdrawn(make: Make, engine: Engine, at_start: bool) -> None:
    conduct, caller = make(), joined(engine)
    assert sin(conduct, caller, *(f"r{n}" for n in range(12))) == "throttled"
    with reading(engine) as c:
        flags = queue(c, "flag").cases
        assert [case.category for case in queue(c, "standing").cases] == ["suspended"]
    if at_start:  # as an upgrade closes them
        with writing(engine) as c:
            closed = {"closed": 1_000_001.0, "verdict": "dismissed", "by": "upgrade to v0010"}
            c.execute(CASES.update().where(CASES.c.kind == "flag").values(**closed))
        make()
    for case in () if at_start else flags[:6]:
        conduct.settle(case.id, "dismissed", "ms ear")
    with reading(engine) as c:
        (rise,) = queue(c, "standing", "all").cases
    assert (rise.verdict, rise.by) == ("dismissed", "rule") and "Withdrawn" in str(rise.note)


def test_an_upheld_appeal_takes_a_users_weight_off_the_organisation(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    rules, account = conduct.ladder, account_of(caller.organisation, "")
    assert sin(conduct, caller, *(f"r{n}" for n in range(3)), user=ANN) != "good"
    with reading(engine) as c:
        assert outcome_of(c, account, rules, 1_000_001.0).level == "warned"
    case = conduct.appeal(caller.organisation, "I wrote about a game.", ANN)
    conduct.settle(case, "upheld", "ms ear", "a game")
    assert conduct.standing(caller.organisation).level == "good"
    with reading(engine) as c:
        assert outcome_of(c, account, rules, 1_000_001.0).total == 0
