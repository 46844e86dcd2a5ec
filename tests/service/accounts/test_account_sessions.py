"""Sessions of the admin page: for admins alone, as long as their key is good, and never stored in clear."""

import time

import pytest
from sqlalchemy import Engine, select

from charter_service.accounts import keys, organisations
from charter_service.accounts.keys import Caller
from charter_service.accounts.sessions import HOURS, close_session, find_session, open_session
from charter_service.accounts.tables import KEYS, SESSIONS
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal


@pytest.fixture
def admin(engine: Engine) -> Caller:
    with writing(engine) as c:
        owner = organisations.make_organisation(c, "acme")
        return keys.find_caller(c, keys.make_key(c, owner, "me", ("admin",))[1])


def test_a_session_stands_for_its_key_until_it_is_closed(engine: Engine, admin: Caller) -> None:
    with writing(engine) as c:
        token, other = open_session(c, admin), open_session(c, admin)
        assert find_session(c, token) == admin
        assert find_session(c, token[:-1]) is None and find_session(c, "") is None
        close_session(c, token)
        assert find_session(c, token) is None and find_session(c, other) == admin


def test_only_admins_open_one(engine: Engine, admin: Caller) -> None:
    plain = Caller(admin.key, admin.organisation, "plain")
    with pytest.raises(Refusal, match="scope admin") as refused, writing(engine) as c:
        open_session(c, plain)
    assert refused.value.status == 403


@pytest.mark.parametrize("end", ["revoked", "expired", "scope", "old"])
def test_a_session_ends_with_its_key_or_its_time(engine: Engine, admin: Caller, end: str) -> None:
    with writing(engine) as c:
        token = open_session(c, admin)
        if end == "revoked":
            keys.revoke(c, admin.key)
        elif end == "expired":
            c.execute(KEYS.update().values(expires=time.time() - 1))
        elif end == "scope":
            c.execute(KEYS.update().values(scopes="messages"))
        else:
            c.execute(SESSIONS.update().values(expires=time.time() - 1))
        assert find_session(c, token) is None


def test_what_is_stored_is_no_token_and_what_ended_is_removed(engine: Engine, admin: Caller) -> None:
    with writing(engine) as c:
        open_session(c, admin)
        (row,) = c.execute(select(SESSIONS)).all()
        assert row.expires == row.created + HOURS * 3_600 and find_session(c, row.digest) is None
        c.execute(SESSIONS.update().values(expires=1.0))
        open_session(c, admin)
    with reading(engine) as c:
        assert row.digest not in c.execute(select(SESSIONS.c.digest)).scalars().all()
