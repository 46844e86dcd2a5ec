"""People: invitations, keys and sessions, consent, and what belongs to one person."""

from pathlib import Path

import pytest
from people_desk import Desk, open_desk
from sqlalchemy import select

from charter_service.people import work, workers
from charter_service.people.conversations import conversation_of
from charter_service.people.export import choices_of
from charter_service.people.tables import EVENTS, INVITATIONS, METADATA, TOKENS
from charter_service.web.refusal import NotFound, Refusal


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path / "people.sqlite")


def test_an_invitation_is_good_for_its_uses(desk: Desk) -> None:
    with desk.writing() as c:
        token = workers.invite(c, "worker", uses=2, quota=7)
        ann, _ = workers.join(c, token, "  Ann   Lee ")
        assert (ann.name, ann.role, ann.quota, ann.simulated) == ("Ann Lee", "worker", 7, False)
        with pytest.raises(Refusal, match="taken"):
            workers.join(c, token, "ann lee")
        workers.join(c, token, "bob")
        with pytest.raises(Refusal, match="used up"):
            workers.join(c, token, "cat")
        with pytest.raises(Refusal, match="unknown"):
            workers.join(c, "guess", "cat")
        stale = workers.invite(c, "worker", days=-1)
        with pytest.raises(Refusal, match="expired"):
            workers.join(c, stale, "cat")
        with pytest.raises(Refusal, match="no role"):
            workers.invite(c, "king")


@pytest.mark.parametrize("name", ["", " ", "x" * 41, "<b>", "a\x00b", "_", "a/b", "\u202eabc", "-"])
def test_names_that_are_none(desk: Desk, name: str) -> None:
    with desk.writing() as c, pytest.raises(Refusal, match="a name has"):
        workers.join(c, workers.invite(c, "worker"), name)


def test_secrets_are_stored_as_digests(desk: Desk) -> None:
    with desk.writing() as c:
        token = workers.invite(c, "worker")
        person, key = workers.join(c, token, "ann")
        session = workers.open_session(c, person.id)
    with desk.writing() as c:
        stored = [str(tuple(row)) for table in METADATA.sorted_tables for row in c.execute(select(table))]
        assert not [row for row in stored if any(secret in row for secret in (token, key, session))]
        assert c.execute(select(INVITATIONS.c.digest)).scalar() and len(c.execute(select(TOKENS)).all()) == 2


def test_keys_and_sessions_are_not_each_other(desk: Desk) -> None:
    with desk.writing() as c:
        person, key = workers.join(c, workers.invite(c, "worker"), "ann")
        session = workers.open_session(c, person.id)
        assert workers.come_back(c, key) == person == workers.person_of(c, session)
        assert workers.person_of(c, key) is None
        with pytest.raises(Refusal):
            workers.come_back(c, session)
        workers.close_session(c, session)
        assert workers.person_of(c, session) is None
        old = workers.open_session(c, person.id)
        c.execute(TOKENS.update().where(TOKENS.c.kind == "session").values(expires=1.0))
        assert workers.person_of(c, old) is None


def test_who_is_locked_out_can_be_let_in_again(desk: Desk) -> None:
    with desk.writing() as c:
        person, key = workers.join(c, workers.invite(c, "worker"), "ann")
        session = workers.open_session(c, person.id)
        workers.disable(c, person.id)
        assert workers.person_of(c, session) is None
        with pytest.raises(Refusal):
            workers.come_back(c, key)
        workers.disable(c, person.id, False)
        assert workers.come_back(c, key) == person
        with pytest.raises(NotFound):
            workers.disable(c, 99)


def test_a_lost_key_is_replaced(desk: Desk) -> None:
    with desk.writing() as c:
        person, lost = workers.join(c, workers.invite(c, "worker"), "ann")
        session = workers.open_session(c, person.id)
        key = workers.renew_key(c, person.id)
        assert workers.come_back(c, key) == person and workers.person_of(c, session) is None
        with pytest.raises(Refusal):
            workers.come_back(c, lost)
        with pytest.raises(NotFound):
            workers.renew_key(c, 99)


def test_consent_is_to_words_of_a_version(desk: Desk) -> None:
    ann = desk.person()
    with desk.writing() as c:
        workers.consent(c, ann.id, "harmless", "v1")
        workers.consent(c, ann.id, "harmless", "v1")
        assert workers.consented(c, ann.id, "harmless", "v1")
        assert not workers.consented(c, ann.id, "harmless", "v2")
        assert not workers.consented(c, ann.id, "helpful", "v1")


def test_one_persons_data_is_handed_out_and_deleted(desk: Desk) -> None:
    ann, bob = desk.person("ann"), desk.person("bob")
    talks = {}
    for person in (ann, bob):
        talks[person.name] = desk.begin(person)
        turn = desk.ask(person, talks[person.name], f"words of {person.name}")
        desk.deliver(turn)
        desk.vote(person, turn)
        failed = desk.ask(person, talks[person.name], "and then?", 2)
        with desk.writing() as c:
            work.fail(c, failed, "start at http://10.0.0.1 is away")
    with desk.writing() as c:
        found = workers.data_of(c, ann.id)
        text = str(found)
        assert "10.0.0.1" not in text and "'kind'" not in text and "'source'" not in text
        assert "words of ann" in text and "words of bob" not in text
        assert "model_a" not in text and "'start'" not in text and "'rl'" not in text
        assert len(found["votes"]) == 1 and len(found["turns"]) == 2
        workers.forget(c, ann.id)
    assert [c.messages[0]["content"] for c in choices_of(desk.engine)] == ["words of bob"]
    with desk.writing() as c:
        left = [row for table in METADATA.sorted_tables for row in c.execute(select(table))]
        assert not any("ann" in str(tuple(row)) for row in left)
        assert c.execute(select(EVENTS.c.id).where(EVENTS.c.person == ann.id)).first() is None
        assert conversation_of(c, bob, talks["bob"]).state == "open"
        for gone in (workers.forget, workers.data_of):
            with pytest.raises(NotFound):
                gone(c, ann.id)  # type: ignore[operator]


def test_a_newcomer_never_gets_a_forgotten_ones_name_in_exports(desk: Desk) -> None:
    ann = desk.person("ann")
    with desk.writing() as c:
        workers.forget(c, ann.id)
    assert desk.person("bob").id > ann.id
