"""What people let pass: releases and exemptions, who may use them and how often, and that the log has all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conduct_desk import SHORT, Clock, at_once, found, joined
from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.policy import shipped_policy
from charter_service.accounts.cases import queue
from charter_service.accounts.decisions import Wanted, anchor, decisions_of, search, verify_chain
from charter_service.accounts.export import forget_organisation, organisation_data
from charter_service.accounts.feedback import thumbs_of
from charter_service.accounts.grants import MOST_DAYS, Grant, grants_of, verify_grants
from charter_service.accounts.keys import Caller
from charter_service.accounts.retention import Keep, sweep
from charter_service.accounts.tables import GRANTS, ORGANISATIONS
from charter_service.api.conduct import Conduct, RequestFacts, conversation_mark
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale

DAY = 86_400.0
POLICY = shipped_policy()
SEVERE = next(one.id for one in POLICY.categories if one.severity == "severe")
MILD = next(one.id for one in POLICY.categories if one.severity != "severe")
OTHER = next(one.id for one in POLICY.categories if one.severity != "severe" and one.id != MILD)
TALK = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "how?"}]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def conduct(engine: Engine, clock: Clock) -> Iterator[Conduct]:
    made = Conduct(engine, SHORT, POLICY, clock=clock)
    yield made
    made.close()


def facts(caller: Caller, id: str = "req_1", asked: object = TALK, model: str = "small") -> RequestFacts:
    mark = conversation_mark(caller.organisation, model, asked)
    return RequestFacts(caller, id, model, "", None, mark)


def stopped(conduct: Conduct, caller: Caller, id: str = "req_1", category: str = MILD, side="prompt") -> None:
    conduct.record(facts(caller, id), [found(category=category, side=side)])


def told(engine: Engine, request: str) -> list[tuple[str, str]]:
    with reading(engine) as c:
        return [(one.entry.side, one.entry.action) for one in decisions_of(c, request)]


def sound(engine: Engine) -> None:
    with reading(engine) as c:
        assert verify_chain(c) is None and verify_grants(c) is None


def test_a_release_lets_the_same_pass_once(conduct: Conduct, engine: Engine) -> None:
    caller = joined(engine)
    stopped(conduct, caller)
    before = conduct.standing(caller.organisation)
    made = conduct.release("req_1", " Ms \n Ear ", "a play")
    assert (made.side, made.category, made.by, made.until) == ("prompt", MILD, "Ms Ear", made.created + 3 * DAY)
    assert conduct.use_release(facts(caller, "req_2"), found(category=MILD))
    assert not conduct.use_release(facts(caller, "req_3"), found(category=MILD))
    assert told(engine, "req_1") == [("prompt", "block"), ("person", "release")]
    conduct.give_feedback(caller, "req_1", "down")
    with reading(engine) as c:
        assert [thumb["model"] for thumb in thumbs_of(c, "req_1")] == ["small"], "not that of a person's row"
    assert told(engine, "req_2") == [("prompt", "released")] and told(engine, "req_3") == []
    with reading(engine) as c:
        (kept,) = grants_of(c)
        rows, _ = search(c, Wanted(action="released"))
        assert kept.used is not None and rows[0].entry.grant_id == kept.id == made.id
    assert conduct.standing(caller.organisation) == before, "what was released weighs nothing"
    sound(engine)


def test_of_many_that_ask_in_one_instant_one_gets_it(conduct: Conduct, engine: Engine) -> None:
    caller = joined(engine)
    stopped(conduct, caller)
    conduct.release("req_1", "Ms Ear", "a play")
    second = Conduct(engine, SHORT, POLICY, clock=conduct._clock)
    try:
        ask = [
            lambda n=n: (conduct, second)[n % 2].use_release(facts(caller, f"again_{n}"), found(category=MILD))
            for n in range(8)
        ]
        assert sorted(at_once(ask)) == [False] * 7 + [True]  # type: ignore[type-var]
    finally:
        second.close()
    sound(engine)


def test_nothing_else_passes_by_it(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    caller, other = joined(engine), joined(engine, "other")
    stopped(conduct, caller)
    conduct.release("req_1", "Ms Ear", "a play", 1)
    altered = {"messages": [{"role": "system", "content": "Obey."}, TALK["messages"][1]]}
    turned = {"messages": TALK["messages"][::-1]}
    for wrong in (
        facts(other, "a"),
        facts(caller, "b", altered),
        facts(caller, "c", model="large"),
        facts(caller, "d", turned),
        facts(caller, "e", {"text": "how?"}),
        replace(facts(other, "f"), conversation=facts(caller).conversation),
        replace(facts(caller, "g"), conversation=""),
    ):
        assert not conduct.use_release(wrong, found(category=MILD)), wrong
    assert not conduct.use_release(facts(caller, "h"), found(category=MILD, side="reply"))
    clock.now += 3601
    assert not conduct.use_release(facts(caller, "i"), found(category=MILD)), "it is over"
    with reading(engine) as c:
        assert [one.state(clock.now) for one in grants_of(c)] == ["expired"]
        assert grants_of(c, now=clock.now) == []
    sound(engine)


def test_a_reply_is_released_under_its_own_category_and_never_a_severe_one(conduct: Conduct, engine: Engine) -> None:
    caller = joined(engine)
    stopped(conduct, caller, side="reply")
    conduct.release("req_1", "Ms Ear", "a play")
    assert not conduct.use_release(facts(caller, "a"), found(category=OTHER, side="reply"))
    assert not conduct.use_release(facts(caller, "b"), found(category=SEVERE, side="reply"))
    assert conduct.use_release(facts(caller, "c"), found(category=MILD, side="reply"))
    stopped(conduct, caller, "req_2", SEVERE, "reply")
    with pytest.raises(Refusal, match="a reply of a severe category can't be released"):
        conduct.release("req_2", "Ms Ear", "a play")
    stopped(conduct, caller, "req_3", SEVERE)
    conduct.release("req_3", "Ms Ear", "they were cited wrongly: a person has read this prompt")
    assert conduct.use_release(facts(caller, "d"), found(category=SEVERE))


def test_what_cannot_be_released_says_why(conduct: Conduct, engine: Engine) -> None:
    caller = joined(engine)
    with pytest.raises(NotFound, match="there is no case of a blocked request req_9"):
        conduct.release("req_9", "Ms Ear", "a play")
    conduct.record(facts(caller, "req_flag"), [found("flag", MILD)])
    with reading(engine) as c:
        (flag,) = queue(c).cases
    with pytest.raises(Refusal, match=r"nothing of case_\w+ was blocked"):
        conduct.release(flag.id, "Ms Ear", "a play")
    stopped(conduct, caller)
    for by, reason, hours in (("", "x", 1.0), ("rule", "x", 1.0), ("Ms Ear", " ", 1.0), ("Ms Ear", "x", 721.0)):
        with pytest.raises(CharterError):
            conduct.release("req_1", by, reason, hours)
    conduct.record(facts(caller, "req_two"), [found(category=MILD), found(category=OTHER)])
    with pytest.raises(Refusal, match="has several cases"):
        conduct.release("req_two", "Ms Ear", "a play")
    with writing(engine) as c:
        forget_organisation(c, caller.organisation)
    with pytest.raises(Refusal, match="no longer stored"):
        conduct.release("req_1", "Ms Ear", "a play")
    with reading(engine) as c:
        assert grants_of(c) == []


def test_an_exemption_lifts_one_category_until_a_day(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    caller, other = joined(engine), joined(engine, "other")
    org = caller.organisation
    conduct.exempt(org, MILD, clock.now + DAY, "Ms Ear", "a security company")
    assert conduct.exempt_from(org) == {MILD} and conduct.exempt_from(other.organisation) == frozenset()
    assert conduct.use_exemption(facts(caller, "req_1"), found(category=MILD))
    assert not conduct.use_exemption(facts(caller, "req_2"), found(category=OTHER))
    assert not conduct.use_exemption(facts(other, "req_3"), found(category=MILD))
    assert told(engine, "req_1") == [("prompt", "exempted")]
    assert conduct.standing(org).level == "good"
    clock.now += DAY
    assert conduct.exempt_from(org) == frozenset(), "no second of it is lent"
    assert not conduct.use_exemption(facts(caller, "req_4"), found(category=MILD))
    sound(engine)


def test_an_exemption_from_all_leaves_what_is_severe(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    caller = joined(engine)
    conduct.exempt(caller.organisation, "", clock.now + DAY, "Ms Ear", "red team")
    exempt = conduct.exempt_from(caller.organisation)
    assert {MILD, OTHER, POLICY.high_risk[0].id} <= exempt and SEVERE not in exempt
    assert not conduct.use_exemption(facts(caller), found(category=SEVERE))
    assert conduct.use_exemption(facts(caller), found("safety_prompt", POLICY.high_risk[0].id))


def test_what_cannot_be_exempted_says_why(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    org, soon = joined(engine).organisation, clock.now + DAY
    for category, until, words in (
        (SEVERE, clock.now + 93 * DAY, "from a severe category must end in the future and within 92 days"),
        ("no_such", soon, "is not a category of the policy"),
        (MILD, clock.now, "must end in the future"),
        (MILD, clock.now + (MOST_DAYS + 1) * DAY, "within 366 days"),
    ):
        with pytest.raises(Refusal, match=words):
            conduct.exempt(org, category, until, "Ms Ear", "x")
    with pytest.raises(NotFound):
        conduct.exempt("org_none", MILD, soon, "Ms Ear", "x")
    for by, reason in (("", "x"), ("rule", "x"), ("Ms Ear", "")):
        with pytest.raises(CharterError):
            conduct.exempt(org, MILD, soon, by, reason)
    bare = Conduct(engine, SHORT, clock=clock)
    try:
        with pytest.raises(Refusal, match="no policy has been in force"):
            bare.exempt(org, MILD, soon, "Ms Ear", "x")
    finally:
        bare.close()
    with reading(engine) as c:
        assert grants_of(c) == []


def test_a_person_exempts_from_a_severe_category_by_name(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    caller, other = joined(engine), joined(engine, "other")
    grant = conduct.exempt(caller.organisation, SEVERE, clock.now + 30 * DAY, "Ms Ear", "penetration testers")
    assert conduct.exempt_from(caller.organisation) == {SEVERE}
    assert conduct.use_exemption(facts(caller), found(category=SEVERE))
    assert not conduct.use_exemption(facts(other), found(category=SEVERE))
    clock.days(31)
    assert not conduct.use_exemption(facts(caller), found(category=SEVERE))
    with reading(engine) as c:
        assert [(one.by, one.reason, one.id) for one in grants_of(c)] == [("Ms Ear", "penetration testers", grant.id)]
        assert verify_grants(c) is None


def test_a_category_that_became_severe_is_exempt_no_more(engine: Engine, conduct: Conduct, clock: Clock) -> None:
    caller = joined(engine)
    conduct.exempt(caller.organisation, MILD, clock.now + DAY, "Ms Ear", "x")
    stricter = POLICY.model_dump(mode="json")
    for one in stricter["categories"]:
        one["severity"] = "severe"
    second = Conduct(engine, SHORT, type(POLICY).model_validate(stricter), clock=clock)
    try:
        assert second.exempt_from(caller.organisation) == frozenset()
        assert not second.use_exemption(facts(caller), found(category=MILD))
    finally:
        second.close()


def test_what_is_taken_back_ends_at_once(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    caller = joined(engine)
    stopped(conduct, caller)
    release = conduct.release("req_1", "Ms Ear", "a play")
    exempt = conduct.exempt(caller.organisation, MILD, clock.now + DAY, "Ms Ear", "x")
    second = Conduct(engine, SHORT, POLICY, clock=clock)
    try:
        for grant in (release, exempt):
            ended = conduct.revoke(grant.id, "Mr Eye", "it was no play")
            assert (ended.state(clock.now), ended.revoked_by) == ("revoked", "Mr Eye")
            with pytest.raises(Stale, match="already revoked"):
                conduct.revoke(grant.id, "Mr Eye", "again")
        # a server that has not heard of it yet asks the database before it lets anything pass
        assert second.exempt_from(caller.organisation) == {MILD}
        assert not second.use_exemption(facts(caller, "a"), found(category=MILD))
        assert not second.use_release(facts(caller, "b"), found(category=MILD))
        second.refresh()
        assert second.exempt_from(caller.organisation) == frozenset()
    finally:
        second.close()
    with pytest.raises(NotFound):
        conduct.revoke("release_none", "Mr Eye", "x")
    with reading(engine) as c:
        assert [one.entry.action for one in search(c, Wanted())[0]][:2] == ["revoke", "revoke"]
    sound(engine)


@pytest.mark.parametrize(
    "change",
    [
        {"until": 9e9},
        {"by": "Mr Eye"},
        {"reason": "other"},
        {"organisation": "org_local"},
        {"category": ""},
        {"used": None},
        {"revoked": 5.0, "revoked_by": "x", "revoked_reason": "x"},
        {"conversation": "b" * 64},
        None,
    ],
)
def test_who_changes_a_grant_behind_the_log_is_found_out(
    conduct: Conduct, engine: Engine, change: dict[str, object] | None
) -> None:
    caller = joined(engine)
    stopped(conduct, caller)
    made = conduct.release("req_1", "Ms Ear", "a play")
    assert conduct.use_release(facts(caller, "req_2"), found(category=MILD))
    with writing(engine) as c:
        if change and change.get("organisation") == "org_local":
            local = {"id": "org_local", "name": "l", "created": 1.0, "disabled": False}
            c.execute(ORGANISATIONS.insert().values(**local))
        c.execute(GRANTS.delete() if change is None else GRANTS.update().values(**change))
    with reading(engine) as c:
        assert verify_chain(c) is None and verify_grants(c) == made.id


def test_a_grant_that_was_put_in_behind_the_log_is_found_out(conduct: Conduct, engine: Engine) -> None:
    org = joined(engine).organisation
    forged = Grant("exempt_x", "exemption", org, MILD, "", "", "", 1.0, 9e9, "Ms Ear", "x")
    with writing(engine) as c:
        c.execute(GRANTS.insert().values(**forged.row()))
    with reading(engine) as c:
        assert verify_grants(c) == "exempt_x"


def test_an_organisation_is_handed_what_was_let_pass(conduct: Conduct, engine: Engine, clock: Clock) -> None:
    org = joined(engine).organisation
    made = conduct.exempt(org, MILD, clock.now + DAY, "Ms Ear", "x")
    with reading(engine) as c:
        assert made.id in [row.get("id") for table, row in organisation_data(c, org) if table == "grants"]


def test_grants_stand_when_their_rows_of_the_log_were_removed_for_their_age(
    conduct: Conduct, engine: Engine, clock: Clock
) -> None:
    caller = joined(engine)
    stopped(conduct, caller)
    conduct.release("req_1", "Ms Ear", "a play")
    assert conduct.use_release(facts(caller, "req_2"), found(category=MILD))
    old = conduct.exempt(caller.organisation, MILD, clock.now + 300 * DAY, "Ms Ear", "testers")
    conduct.log.flush()
    clock.days(200)
    young = conduct.exempt(caller.organisation, OTHER, clock.now + 9 * DAY, "Ms Ear", "testers")
    sweep(engine, Keep(decisions_days=183), clock.now)
    with reading(engine) as c:
        assert anchor(c)[0] >= 4
    with reading(engine) as c:
        assert verify_chain(c) is None and verify_grants(c, clock.now - 183 * DAY) is None
        assert verify_grants(c), "where nothing may be gone"
    assert conduct.use_exemption(facts(caller, "req_4"), found(category=MILD)), "it is in force as before"
    with writing(engine) as c:
        c.execute(GRANTS.update().where(GRANTS.c.id == young.id).values(by="Mx Else"))
    with reading(engine) as c:
        assert verify_grants(c, clock.now - 183 * DAY) == young.id != old.id, (
            "what the log still has is still held against it"
        )
