"""What a server holds: decisions on disk before they have an effect, standings from memory, many threads and servers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conduct_desk import ALLOWED, SHORT, Clock, Make, at_once, counted, found, joined, making
from sqlalchemy import Engine, event, select

from charter.ground.moderation.policy import shipped_policy
from charter_service.accounts.cases import Case, queue
from charter_service.accounts.decisions import decisions_of, user_mark, verify_chain
from charter_service.accounts.keys import Caller
from charter_service.accounts.ladder import Ladder
from charter_service.accounts.remembered import Standing
from charter_service.accounts.standings import changes_of, kept_ladder
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import CASES, DECISIONS, STANDINGS
from charter_service.api.conduct import Conduct, RequestFacts
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale

CONTENT = {"messages": [{"role": "user", "content": "how?"}], "reply": ""}
STERN = SHORT.model_copy(update={"forgiven": 0.0})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(engine: Engine, clock: Clock) -> Iterator[Make]:
    with making(engine, SHORT, clock) as new:
        yield new


def sin(conduct: Conduct, caller: Caller, *requests: str, **more: object) -> Standing:
    for request in requests:
        conduct.record(RequestFacts(caller, request, "small", ""), [found()], **more)  # type: ignore[arg-type]
    return conduct.standing(caller.organisation)


def until(true: Callable[[], bool]) -> None:
    """Waits for what another thread does."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_what_is_allowed_is_one_row_a_request(engine: Engine, make: Make) -> None:
    conduct, caller = make(policy=shipped_policy()), joined(engine)
    nearer = replace(ALLOWED, side="reply", score=0.4)
    asked = replace(ALLOWED, unscreened="de")
    conduct.record(RequestFacts(caller, "req_1", "small", "d" * 64), [asked, nearer])
    conduct.record(RequestFacts(caller, "req_2", "small", ""), [])
    conduct.log.flush()
    with reading(engine) as c:
        (kept,), (bare,) = decisions_of(c, "req_1"), decisions_of(c, "req_2")
    row = kept.entry
    assert (row.side, row.action, row.category, row.score, row.threshold) == ("request", "allow", "", 0.4, 0.5)
    assert (row.model, row.sensitivity, row.classifiers) == ("small", "standard", '{"probe":"1"}')
    assert (row.unscreened, bare.entry.unscreened) == ("de", ""), "a language that isn't screened is kept"
    assert row.policy == f"charter-aup {shipped_policy().version} {shipped_policy().id[:16]}"
    assert row.user == user_mark(caller.organisation, "d" * 64) != "d" * 64
    assert bare.entry.user == "" and bare.entry.action == "allow"
    assert counted(engine, CASES) == counted(engine, STANDINGS) == 0


def test_what_has_an_effect_is_on_disk_when_record_returns(engine: Engine, make: Make) -> None:
    conduct, caller = make(), joined(engine)
    verdicts = [found("safety_prompt", "school"), ALLOWED, found("flag", "spam", "reply")]
    conduct.record(RequestFacts(caller, "req_1", "small", "", "enhanced"), verdicts, CONTENT)
    with reading(engine) as c:
        rows = [d.entry for d in decisions_of(c, "req_1")]
        (case,) = queue(c).cases
    assert [(r.side, r.action, r.category, r.sensitivity) for r in rows] == [
        ("prompt", "safety_prompt", "school", "enhanced"),
        ("reply", "flag", "spam", "enhanced"),
    ]
    assert (case.kind, case.category, case.request, case.content) == ("flag", "spam", "req_1", "")


def test_the_same_prompt_is_charged_once_a_day(engine: Engine, make: Make, clock: Clock) -> None:
    conduct, caller = make(STERN), joined(engine)

    def send(request: str, conversation: str, user: str = "", **more: str) -> Callable[[], object]:
        facts = RequestFacts(caller, request, "small", user, conversation=conversation, **more)  # type: ignore[arg-type]
        return lambda: conduct.record(facts, [found()])

    at_once([send(f"a{n}", "m1") for n in range(12)])
    assert conduct.standing(caller.organisation).level == "good" and counted(engine, CASES) == 1
    with reading(engine) as c:
        first = {queue(c).cases[0].request}
        rows = [decisions_of(c, f"a{n}")[0].entry for n in range(12)]
        assert {row.repeats for row in rows} == {"", *first} and {row.action for row in rows} == {"block"}
    send("b", "m2", repeats="a1")()  # nothing new of it was stopped
    assert conduct.standing(caller.organisation).level == "good" and counted(engine, CASES) == 2
    send("c", "m1", "ann")()
    assert conduct.standing(caller.organisation).level == "warned", "of an end user it is another one"
    clock.days(1.1)
    send("d", "m1")()
    send("e", "m3")()
    assert conduct.standing(caller.organisation).level == "enhanced", "the next day it counts again"


def test_content_is_kept_only_where_the_service_says_so(engine: Engine, make: Make) -> None:
    conduct, caller = make(keep_content=True), joined(engine)
    sin(conduct, caller, "req_1", content=CONTENT)
    with reading(engine) as c:
        (case,) = queue(c).cases
        log = str([d.row() for d in decisions_of(c, "req_1")])
    assert case.row()["content"] == CONTENT and "how?" not in log


def test_a_safety_prompt_is_no_violation(engine: Engine, make: Make) -> None:
    conduct, caller = make(), joined(engine)
    for n in range(20):
        conduct.record(RequestFacts(caller, f"req_{n}", "small", ""), [found("safety_prompt")])
    assert conduct.standing(caller.organisation) == Standing()
    assert counted(engine, CASES) == 0 and counted(engine, DECISIONS) == 20


def test_an_account_goes_up_the_ladder_and_down(engine: Engine, make: Make, clock: Clock) -> None:
    conduct, caller = make(), joined(engine)
    org = caller.organisation
    assert conduct.standing(org) == conduct.standing("org_unknown") == Standing()
    assert sin(conduct, caller, "a") == Standing()
    warned = sin(conduct, caller, "b")
    assert (warned.level, warned.sensitivity, warned.factor, warned.blocked) == ("warned", "standard", 1, False)
    assert "warned" in warned.message and "weigh 2 within 30 days" in warned.message
    assert warned.appeal in warned.message
    enhanced = sin(conduct, caller, "c", "d")
    assert (enhanced.level, enhanced.sensitivity, enhanced.factor) == ("enhanced", "enhanced", 1)
    throttled = sin(conduct, caller, *"efghij")
    assert (throttled.level, throttled.factor, throttled.blocked) == ("throttled", 0.25, False)
    with reading(engine) as c:
        (asked,) = queue(c, "standing").cases
    conduct.settle(asked.id, "upheld", "ann")
    suspended = conduct.standing(org)
    assert (suspended.level, suspended.blocked, suspended.sensitivity) == ("suspended", True, "enhanced")
    for level in ("throttled", "enhanced", "warned", "good"):
        clock.days(9.75)
        conduct.refresh()
        assert conduct.standing(org).level != level
        clock.days(0.25)
        conduct.refresh()
        assert conduct.standing(org).level == level
    with reading(engine) as c:
        rows = changes_of(c, org)
    assert [r.level for r in rows] == [
        *("warned", "enhanced", "throttled", "suspended"),
        *("throttled", "enhanced", "warned", "good"),
    ]
    assert [r.by for r in rows] == ["rule"] * 3 + ["ann"] + ["rule"] * 4
    assert counted(engine, STANDINGS) == 8


def test_severity_of_the_policy_weighs(engine: Engine, make: Make) -> None:
    conduct, caller = make(Ladder(), policy=shipped_policy()), joined(engine)
    severe = next(c.id for c in shipped_policy().categories if c.severity == "severe")
    for n in range(2):
        conduct.record(RequestFacts(caller, f"req_{n}", "small", ""), [found(category=severe)])
    assert conduct.standing(caller.organisation).level == "warned"  # 2 of weight 4
    rule = joined(engine, "other")
    for n in range(99):
        conduct.record(RequestFacts(rule, f"r{n}", "small", ""), [found("flag", shipped_policy().high_risk[0].id)])
    assert conduct.standing(rule.organisation) == Standing()


def test_a_dismissed_flag_restores_and_an_appeal_too(engine: Engine, make: Make) -> None:
    conduct, caller = make(), joined(engine)
    sin(conduct, caller, "a", "b")
    with reading(engine) as c:
        first = queue(c, "flag").cases[0]
    assert isinstance(conduct.settle(first.id, "dismissed", "ann"), Case)
    assert conduct.standing(caller.organisation) == Standing()
    with pytest.raises(Stale):
        conduct.settle(first.id, "upheld", "bob")
    with pytest.raises(Refusal, match="good standing"):
        conduct.appeal(caller.organisation, "please")
    sin(conduct, caller, "c", "d", "e")
    id = conduct.appeal(caller.organisation, "it was a test of ours")
    conduct.settle(id, "upheld", "ann", "they test")
    assert conduct.standing(caller.organisation) == Standing()
    conduct.decide(caller.organisation, "throttled", "ann", "on second thoughts")
    assert conduct.standing(caller.organisation).factor == 0.25


def test_feedback_knows_a_request_that_was_just_answered(engine: Engine, make: Make) -> None:
    conduct, caller = make(policy=shipped_policy()), joined(engine)
    conduct.record(RequestFacts(caller, "req_1", "small", ""), [ALLOWED])
    assert conduct.give_feedback(caller, "req_1", "down", "rude", category="hate").startswith("feedback_")
    with pytest.raises(NotFound):
        conduct.give_feedback(joined(engine, "other"), "req_1", "up")
    with pytest.raises(Refusal, match="not a category of the policy"):
        conduct.give_feedback(caller, "req_1", "down", category="nonsense")
    with reading(engine) as c:
        assert [case.category for case in queue(c, "report").cases] == ["hate"]


def test_what_cannot_be_written_has_no_effect(engine: Engine, make: Make) -> None:
    conduct, caller, failing = make(STERN), joined(engine), False

    @event.listens_for(engine, "before_cursor_execute")
    def executing(connection, cursor, statement, parameters, context, many) -> None:
        if failing and statement.startswith("INSERT INTO standings"):
            raise OSError("disk full")

    sin(conduct, caller, "a")
    conduct.record(RequestFacts(caller, "plain", "small", ""), [ALLOWED])
    failing = True
    with pytest.raises(OSError, match="disk full"):
        sin(conduct, caller, "b")
    assert conduct.standing(caller.organisation) == Standing()
    failing = False
    assert counted(engine, CASES) == 1
    conduct.log.flush()
    with reading(engine) as c:
        assert set(c.execute(select(DECISIONS.c.request)).scalars()) == {"a", "plain"}
    assert sin(conduct, caller, "b").level == "warned"


def test_the_thread_writes_and_reads_by_itself(engine: Engine, make: Make) -> None:
    first, second, caller = make(STERN), make(STERN), joined(engine)
    first.record(RequestFacts(caller, "plain", "small", ""), [ALLOWED])
    until(lambda: counted(engine, DECISIONS) == 1)
    sin(first, caller, "a", "b")
    until(lambda: second.standing(caller.organisation).level == "warned")


def test_a_closed_one_has_written_all_and_ended_its_thread(engine: Engine) -> None:
    conduct, caller = Conduct(engine, SHORT), joined(engine)
    for n in range(50):
        conduct.record(RequestFacts(caller, f"req_{n}", "small", ""), [ALLOWED])
    conduct.close()
    assert counted(engine, DECISIONS) == 50 and not conduct._thread.is_alive()


def test_words_expire_by_themselves(engine: Engine, make: Make, clock: Clock) -> None:
    conduct, caller = make(), joined(engine)
    conduct.record(RequestFacts(caller, "req_1", "small", ""), [ALLOWED])
    conduct.give_feedback(caller, "req_1", "down", "rude")
    with reading(engine) as c:
        (case,) = queue(c).cases
    conduct.settle(case.id, "upheld", "ann")
    clock.days(8)
    make(keep_days=7)
    until(lambda: counted(engine, CASES, CASES.c.words != "") == 0)


def test_servers_with_other_rules_dont_undo_each_other(engine: Engine, make: Make) -> None:
    old, caller = make(SHORT), joined(engine)
    sin(old, caller, "a", "b", "c")
    assert old.standing(caller.organisation).level == "warned"
    new = make(SHORT.model_copy(update={"enhanced": 2.0, "throttle": 0.5}))
    for _ in range(3):
        old.refresh()
        new.refresh()
    assert old.standing(caller.organisation).level == new.standing(caller.organisation).level == "enhanced"
    assert counted(engine, STANDINGS) == 2
    with reading(engine) as c:
        assert kept_ladder(c) == old.ladder == new.ladder
    assert old.ladder.throttle == 0.5


def test_many_threads_of_two_servers_make_one_history(engine: Engine, make: Make) -> None:
    servers, callers = [make(), make()], [joined(engine), joined(engine, "other")]

    def work(n: int) -> None:
        server, caller = servers[n % 2], callers[n // 2 % 2]
        for k in range(3):
            server.record(RequestFacts(caller, f"p_{n}_{k}", "small", ""), [ALLOWED])
            sin(server, caller, f"req_{n}_{k}")

    assert at_once([lambda n=n: work(n) for n in range(8)]) == [None] * 8
    for server in servers:
        server.log.flush()
        server.refresh()
        assert {server.standing(c.organisation).level for c in callers} == {"throttled"}
    assert counted(engine, DECISIONS) == 48 and counted(engine, CASES, CASES.c.kind == "flag") == 24
    assert counted(engine, CASES, CASES.c.kind == "standing") == 2
    with reading(engine) as c:
        assert verify_chain(c) is None
        for caller in callers:
            levels = [change.level for change in changes_of(c, caller.organisation)]
            assert levels == ["warned", "enhanced", "throttled"]


KILLED = """
import os, sys
from charter_service.api.conduct import Conduct, RequestFacts
from charter_service.accounts.keys import (make_anonymous)
from charter_service.accounts.store import open_accounts
from charter.ground.moderation.actions import Verdict
from charter_service.web.database import writing
engine = open_accounts(sys.argv[1])
with writing(engine) as c:
    caller = make_anonymous(c)
conduct = Conduct(engine)
conduct.record(RequestFacts(caller, "req_1", "small", ""), [Verdict("prompt", "weapons", 0.9, 0.5, "block")])
os._exit(9)
"""


def test_a_killed_server_has_kept_what_had_an_effect(tmp_path: Path) -> None:
    place = str(tmp_path / "serve.sqlite")
    code = subprocess.run([sys.executable, "-c", KILLED, place], check=False, env=os.environ).returncode
    assert code == 9
    engine = open_accounts(place, new=False)
    try:
        with reading(engine) as c:
            assert [d.entry.action for d in decisions_of(c, "req_1")] == ["block"]
            assert len(queue(c).cases) == 1 and verify_chain(c) is None
        with writing(engine) as c:
            pass
    finally:
        engine.dispose()
