"""End users of an organisation: each has a ladder of its own, and adds no more than a share to the organisation's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conduct_desk import ALLOWED, SHORT, Clock, Make, at_once, found, joined, making
from sqlalchemy import Engine

from charter.ground.moderation.actions import Verdict
from charter_service.accounts import standings
from charter_service.accounts.cases import queue
from charter_service.accounts.decisions import user_mark
from charter_service.accounts.keys import Caller
from charter_service.accounts.ladder import UserSteps
from charter_service.accounts.remembered import Remembered, Standing
from charter_service.accounts.standings import Change, account_of, changes_of, evaluate, outcome_of, users_of
from charter_service.accounts.usage import Counts, Meter
from charter_service.api.conduct import Conduct, RequestFacts
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import digest_of

ANN, BOB = digest_of("ann"), digest_of("bob")
# warned at 2, enhanced at 3, throttled at 4, suspended at 5; a share of 1.5 in an organisation that is warned at 2
USERS = UserSteps(
    warned=2,
    enhanced=3,
    throttled=4,
    suspended=5,
    share=1.5,
    clean_days=10,
    forgiven=0.5,
    throttle=0.1,
    suspend_alone=True,
)
RULES = SHORT.model_copy(update={"users": USERS, "forgiven": 0.0})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(engine: Engine, clock: Clock) -> Iterator[Make]:
    with making(engine, RULES, clock) as new:
        yield new


def sin(conduct: Conduct, caller: Caller, user: str, *requests: str, **more: object) -> Standing:
    for request in requests:
        conduct.record(RequestFacts(caller, f"{request}_{user[:4]}", "small", user), [found(**more)])  # type: ignore[arg-type]
    return conduct.standing(caller.organisation, user)


def test_one_bad_user_is_suspended_alone(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    org = caller.organisation
    levels = [sin(conduct, caller, ANN, f"r{n}") for n in range(5)]
    assert [one.level for one in levels] == ["good", "warned", "enhanced", "throttled", "suspended"]
    assert [one.of for one in levels] == ["account"] + ["user"] * 4
    last = levels[-1]
    assert last.blocked and last.user_factor == 0.1 and last.factor == 1.0
    assert last.sensitivity == "enhanced" and "this user is suspended" in last.message
    for other in (conduct.standing(org), conduct.standing(org, BOB)):
        assert (other.level, other.factor, other.user_factor, other.blocked) == ("good", 1.0, 1.0, False)
    with reading(engine) as c:
        assert outcome_of(c, org, RULES, conduct._clock()).total == 1.5
        assert [change.user for change in users_of(c, org)] == [user_mark(org, ANN)]
        assert changes_of(c, org) == [] and queue(c, "standing").cases == ()


def test_who_takes_another_name_in_each_request_climbs_as_the_organisation(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    for n in range(8):
        sin(conduct, caller, digest_of(f"name {n}"), "r")
    standing = conduct.standing(caller.organisation)
    assert (standing.level, standing.of) == ("throttled", "account")
    with reading(engine) as c:
        (asked,) = queue(c, "standing").cases
        assert users_of(c, caller.organisation) == []
    assert (asked.category, asked.user) == ("suspended", "")
    # the worse of both is told, with each one's limits
    user = sin(conduct, caller, ANN, "a", "b")
    assert (user.level, user.of, user.factor, user.user_factor) == ("throttled", "account", 0.25, 1.0)


def test_without_a_name_all_of_it_counts(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    assert sin(conduct, caller, "", "a", "b", "c", "d").level == "enhanced"


def test_one_users_many_hide_nobody_elses(make: Make, engine: Engine, clock: Clock, monkeypatch) -> None:
    """The newest decisions alone are read; a user who filled them would leave no room for what others did."""
    monkeypatch.setattr(standings, "MOST", 10)
    rules = RULES.model_copy(update={"users": USERS.model_copy(update={"suspend_alone": False})})
    conduct, caller = make(rules), joined(engine)
    for n in range(6):
        sin(conduct, caller, digest_of(f"name {n}"), "r")
        clock.now += 1
    before = conduct.standing(caller.organisation).level
    sin(conduct, caller, ANN, *(f"r{n}" for n in range(24)))
    assert before == conduct.standing(caller.organisation).level == "throttled"
    with reading(engine) as c:
        assert outcome_of(c, caller.organisation, rules, clock.now).total == 7.5


def test_a_users_own_requests_are_forgiven_the_errors_of_classifiers(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    for n in range(4):
        conduct.record(RequestFacts(caller, f"fine{n}", "small", ANN), [ALLOWED])
        conduct.record(RequestFacts(caller, f"other{n}", "small", BOB), [ALLOWED])
    conduct.log.flush()
    assert sin(conduct, caller, ANN, "a", "b").level == "good"  # 2, less a quarter; half of 4 requests is more
    assert sin(conduct, caller, ANN, "c").level == "warned"


def test_requests_that_say_nothing_or_come_in_one_lift_nobody(make: Make, engine: Engine, clock: Clock) -> None:
    """Four requests of 256 blank prompts each, as one of 256 texts that a classifier read, forgive next to nothing."""
    rules = RULES.model_copy(update={"users": USERS.model_copy(update={"forgiven": 0.01})})
    conduct, caller = make(rules), joined(engine)
    org, account = caller.organisation, account_of(caller.organisation, user_mark(caller.organisation, ANN))
    assert sin(conduct, caller, ANN, "a", "b", "c").level == "enhanced"
    meter = Meter(engine)
    for n, said in enumerate([Verdict("prompt")] * 4 + [ALLOWED]):
        for _ in range(256):
            conduct.record(RequestFacts(caller, f"more{n}", "small", ANN), [said])
            meter.record(caller.key, "small", Counts(requests=1), clock.now)
    meter.close()
    conduct.log.flush()
    clock.now += 60
    assert sin(conduct, caller, ANN, "d", "e").level == "throttled"
    with reading(engine) as c:
        whole = standings.history_of(c, org, user_mark(org, ANN), rules.for_users())
        assert whole.requests == standings.history_of(c, org, "", rules).requests
        assert [count for _, count in whole.requests] == [1]
        assert [change.level for change in changes_of(c, account)] == ["warned", "enhanced", "throttled"]


def test_a_level_falls_by_a_dismissal_or_a_clean_period_and_says_which(
    make: Make, engine: Engine, clock: Clock
) -> None:
    rules = RULES.model_copy(update={"forgiven": 0.1})
    conduct, caller = make(rules), joined(engine)
    org = caller.organisation
    sin(conduct, caller, ANN, "a")
    sin(conduct, caller, "", "a", "b")
    assert conduct.standing(org).level == "warned"
    for n in range(200):  # which would have forgiven it, had they been before
        conduct.record(RequestFacts(caller, f"fine{n}", "small", ""), [ALLOWED])
    conduct.log.flush()
    for lighter in (rules, rules.model_copy(update={"warned": 3.0})):
        with writing(engine) as c:
            standing, outcome = evaluate(c, org, lighter, clock.now)
        assert standing is not None and standing.level == outcome.level == "warned"
    with reading(engine) as c:
        flag = next(case for case in queue(c, "flag").cases if not case.user)
    clock.now += 60
    conduct.settle(flag.id, "dismissed", "Ms Ear")
    sin(conduct, caller, "", "c", "d", "e")
    clock.days(10)
    conduct.refresh()
    clock.days(10)
    conduct.refresh()
    with reading(engine) as c:
        reasons = [change.reason for change in changes_of(c, org)]
    assert "because flags were dismissed; what is left: violations that weigh" in reasons[1]
    assert reasons[-1].startswith("lifted from") and reasons[-1].endswith("by 10 days without a violation")


def test_standings_of_users_are_kept_over_restarts_and_seen_by_others(make: Make, engine: Engine) -> None:
    first, second, caller = make(), make(), joined(engine)
    org = caller.organisation
    assert second.standing(org, ANN).level == "good" and second.remembers(org, ANN)
    sin(first, caller, ANN, *"abcde")
    second.refresh()
    assert second.standing(org, ANN).blocked
    third = make()
    assert not third.remembers(org, ANN)
    assert third.standing(org, ANN).blocked and third.remembers(org, ANN)


def test_levels_of_users_are_lifted_by_clean_periods(make: Make, engine: Engine, clock: Clock) -> None:
    conduct, caller = make(), joined(engine)
    org = caller.organisation
    sin(conduct, caller, ANN, *"abcde")
    for expected in ("throttled", "enhanced", "warned", "good"):
        clock.days(10)
        conduct.refresh()
        assert conduct.standing(org, ANN).level == expected
    late = make()  # one that knows nothing of the user lifts as well
    sin(conduct, caller, ANN, *"fghij")
    clock.days(10)
    assert late.standing(org, ANN).level == "suspended", "what stands in the database"
    late.refresh()
    assert late.standing(org, ANN).level == "throttled"


def test_people_decide_on_users_too(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    org, account = caller.organisation, account_of(caller.organisation, user_mark(caller.organisation, ANN))
    with pytest.raises(Refusal, match="the user is in good standing"):
        conduct.appeal(org, "please", ANN)
    sin(conduct, caller, ANN, *"abcde")
    appealed = conduct.appeal(org, "she is a chemist", ANN)
    with pytest.raises(Refusal, match="only one can be open"):
        conduct.appeal(org, "again", ANN)
    conduct.settle(appealed, "upheld", "Ms Ear", "she is")
    assert conduct.standing(org, ANN).level == "good"
    with reading(engine) as c:
        assert [change.by for change in changes_of(c, account)][-1] == "Ms Ear"
    conduct.decide(account, "suspended", "Ms Ear", "sold it")
    assert conduct.standing(org, ANN).blocked and not conduct.standing(org).blocked
    assert conduct.standing(org, BOB).level == "good"


def test_a_dismissed_flag_restores_the_user_and_the_organisation(make: Make, engine: Engine) -> None:
    conduct, caller = make(), joined(engine)
    org = caller.organisation
    sin(conduct, caller, ANN, "a", "b")
    sin(conduct, caller, BOB, "a")
    assert (conduct.standing(org, ANN).of, conduct.standing(org).level) == ("account", "warned")
    with reading(engine) as c:
        flags = queue(c, "flag").cases
    assert {flag.user for flag in flags} == {user_mark(org, ANN), user_mark(org, BOB)}
    for flag in flags:
        if flag.user == user_mark(org, ANN):
            conduct.settle(flag.id, "dismissed", "Ms Ear")
    assert conduct.standing(org, ANN) == conduct.standing(org) == Standing()


def test_where_the_rules_say_so_people_are_asked_about_users(make: Make, engine: Engine) -> None:
    rules = RULES.model_copy(update={"users": USERS.model_copy(update={"suspend_alone": False})})
    conduct, caller = make(rules), joined(engine)
    assert sin(conduct, caller, ANN, *"abcdef").level == "throttled"
    sin(conduct, caller, BOB, *"abcdef")
    with reading(engine) as c:
        asked = {case.user: case for case in queue(c, "standing").cases if case.user}
    org = caller.organisation
    assert set(asked) == {user_mark(org, ANN), user_mark(org, BOB)}
    conduct.settle(asked[user_mark(org, ANN)].id, "upheld", "Ms Ear")
    assert conduct.standing(org, ANN).blocked
    assert not conduct.standing(org, BOB).blocked and not conduct.standing(org).blocked


def test_one_name_in_two_organisations_is_two_people(make: Make, engine: Engine) -> None:
    conduct, acme, other = make(), joined(engine), joined(engine, "other")
    sin(conduct, acme, ANN, *"abcde")
    assert conduct.standing(other.organisation, ANN) == Standing()
    assert user_mark(acme.organisation, ANN) != user_mark(other.organisation, ANN)


def test_many_threads_of_two_servers_make_one_history_of_a_user(make: Make, engine: Engine) -> None:
    servers, caller = [make(), make()], joined(engine)
    work = [lambda n=n: sin(servers[n % 2], caller, ANN, f"r{n}") for n in range(8)]
    assert not [one for one in at_once(work) if isinstance(one, Exception)]
    for server in servers:
        server.refresh()
        assert server.standing(caller.organisation, ANN).blocked
    with reading(engine) as c:
        account = account_of(caller.organisation, user_mark(caller.organisation, ANN))
        levels = [change.level for change in changes_of(c, account)]
    assert levels == ["warned", "enhanced", "throttled", "suspended"]


def row(number: int, level: str = "warned", user: str = "u") -> Change:
    return Change(number, "org", 1.0, level, "x", "rule", user)  # type: ignore[arg-type]


def test_no_more_users_are_remembered_than_a_bound() -> None:
    memory = Remembered(most_users=100)
    for n in range(1000):
        account = account_of("org", f"{n:064}")
        memory.keep_user(account, row(1, user=f"{n:064}"), memory.seen)
        assert memory.user(account)[0]
    assert len(memory) == 100 and len(memory._lifts) == 100
    assert not memory.user(account_of("org", f"{0:064}"))[0]


def test_what_was_read_before_a_change_is_not_kept_over_it() -> None:
    memory, account = Remembered(), account_of("org", "u")
    seen = memory.seen
    memory.learn([row(1, user="another")])  # the change may be this user's: it isn't remembered yet
    memory.keep_user(account, None, seen)
    assert memory.user(account) == (False, None)
    memory.keep_user(account, None, memory.seen)
    memory.learn([row(2)])
    assert memory.user(account) == (True, row(2))
    memory.learn([row(1, "good")])
    assert memory.user(account)[1] == row(2), "an older row"
