"""Keys: what a secret opens and when it stops, what is stored of it, and what a keyring remembers."""

import re
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from charter_service.accounts import keys, organisations
from charter_service.accounts.keys import ANONYMOUS, KeyLimits, KeyRefused, Keyring
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import KEYS, USAGE
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_key(engine: Engine, organisation: str = "acme", **more: object) -> tuple[str, str]:
    with writing(engine) as c:
        try:
            owner = organisations.find_organisation(c, organisation)
        except NotFound:
            owner = organisations.make_organisation(c, organisation)
        return keys.make_key(c, owner, "ci", **more)  # type: ignore[arg-type]


def reason_of(engine: Engine, secret: str) -> str:
    with reading(engine) as c, pytest.raises(KeyRefused) as refused:
        keys.find_caller(c, secret)
    assert refused.value.status == 401 and "\n" not in str(refused.value)
    assert secret not in str(refused.value) or not secret
    return refused.value.reason


def test_a_secret_finds_its_caller_with_all_that_it_may(engine: Engine) -> None:
    limits = KeyLimits(10, 2_000, 300, 4)
    id, secret = new_key(engine, scopes=("batches", "admin"), models=("tiny", "small"), limits=limits)
    assert re.fullmatch(r"sk-charter-[A-Za-z0-9_-]{43}", secret) and id.startswith("key_")
    with reading(engine) as c:
        caller = keys.find_caller(c, secret)
        assert caller.organisation == organisations.find_organisation(c, "acme")
    assert (caller.key, caller.name, caller.models, caller.limits) == (id, "ci", ("tiny", "small"), limits)
    assert caller.may("admin") and caller.may("batches") and not caller.may("messages")
    assert caller.may_use("tiny") and not caller.may_use("large")


def test_a_plain_key_has_the_usual_scopes_and_all_models(engine: Engine) -> None:
    _, secret = new_key(engine)
    with reading(engine) as c:
        caller = keys.find_caller(c, secret)
    assert caller.scopes == ("messages", "batches", "feedback") and caller.may_use("anything")
    assert caller.limits == KeyLimits()


def test_nothing_in_the_database_opens_anything(tmp_path: Path) -> None:
    engine = open_accounts(str(tmp_path / "serve.sqlite"))
    secret = new_key(engine)[1]
    with reading(engine) as c:
        row = c.execute(select(KEYS)).one()
        for stored in row:
            with pytest.raises(KeyRefused):
                keys.find_caller(c, str(stored))
    assert row.hint == secret[-4:]
    engine.dispose()
    body = secret.removeprefix("sk-charter-").encode()
    for file in tmp_path.iterdir():
        assert body not in file.read_bytes()


@pytest.mark.parametrize("secret", ["", "sk-charter-", "sk-ant-x", "sk-charter-" + "é" * 43, "sk-charter-" + "A" * 43])
def test_unknown_and_malformed_secrets_read_alike(file_engine: Engine, secret: str) -> None:
    made = new_key(file_engine)[1]
    assert reason_of(file_engine, secret) == "unknown"
    for other in (made + "A", made[:-1], made.upper(), made + "\n", " " + made, "\ud800" + made):
        assert reason_of(file_engine, other) == "unknown"


def test_an_id_and_a_secret_are_told_apart_where_one_is_given_for_the_other(engine: Engine) -> None:
    id, secret = new_key(engine)
    assert reason_of(engine, id) == reason_of(engine, "key_other") == "id"
    with writing(engine) as c:
        with pytest.raises(KeyRefused, match=r"that is a key's id, .*; send the secret, sk-charter-"):
            keys.find_caller(c, id)
        with pytest.raises(NotFound, match=r"that is a key's secret, .*; expected its id, key_") as refused:
            keys.revoke(c, secret)
        assert secret.removeprefix("sk-charter-") not in str(refused.value)
        keys.find_caller(c, secret)


def test_keys_stop_when_they_are_revoked_out_of_date_or_their_organisation_is_disabled(engine: Engine) -> None:
    id, secret = new_key(engine)
    with writing(engine) as c:
        organisation = organisations.find_organisation(c, "acme")
        organisations.disable_organisation(c, organisation)
    assert reason_of(engine, secret) == "disabled"
    with writing(engine) as c:
        organisations.disable_organisation(c, organisation, False)
        keys.find_caller(c, secret)
        c.execute(KEYS.update().values(expires=time.time() - 1))
    assert reason_of(engine, secret) == "expired"
    with writing(engine) as c:
        keys.revoke(c, id)
        first = keys.find_key(c, id).revoked
        keys.revoke(c, id)
        assert keys.find_key(c, id).revoked == first
    assert reason_of(engine, secret) == "revoked"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scopes": ("everything",)}, "no scope 'everything'; expected some of messages"),
        ({"scopes": ()}, "a key needs a scope"),
        ({"expires": 1.0}, "would already be expired"),
        ({"expires": float("inf")}, "already be expired"),
        ({"models": ("a b",)}, "without spaces"),
    ],
)
def test_keys_that_would_be_none(file_engine: Engine, more: dict[str, object], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        new_key(file_engine, **more)
    with reading(file_engine) as c:
        assert keys.list_keys(c) == []


def test_names_and_limits_are_checked(engine: Engine) -> None:
    id, _ = new_key(engine)
    with writing(engine) as c:
        keys.rename(c, id, "  night   build ")
        keys.set_limits(c, id, KeyLimits(concurrency=2))
        found = keys.find_key(c, id)
        assert found.caller.name == "night build" and found.caller.limits == KeyLimits(0, 0, 0, 2)
        for name in ("", " ", "a\u202eb", "x" * 201):
            with pytest.raises(Refusal, match="1 to 200 printable"):
                keys.rename(c, id, name)
        for taken in ("acme", " acme ", "local"):
            with pytest.raises(Refusal, match="already") as refused:
                organisations.make_organisation(c, taken)
            assert refused.value.status == 409
        for change in (lambda: keys.rename(c, "key_x", "y"), lambda: keys.revoke(c, "key_x")):
            with pytest.raises(NotFound, match=r"no key key_x; expected its id, key_\.\.\., as charter keys list"):
                change()
    for wrong in (-1, 2**31):
        with pytest.raises(Refusal, match="concurrency must be a number"):
            KeyLimits(concurrency=wrong)


def test_lists_show_all_but_the_secret(engine: Engine) -> None:
    a, secret = new_key(engine, expires=time.time() + 60)
    b, _ = new_key(engine, "other")
    with writing(engine) as c:
        keys.make_anonymous(c)
        keys.revoke(c, b)
        found = keys.list_keys(c)
        assert [(k.caller.key, k.organisation, k.state()) for k in found] == [
            (a, "acme", "usable"),
            (b, "other", "revoked"),
        ]
        assert keys.list_keys(c, found[1].caller.organisation) == found[1:]
    assert found[0].state(time.time() + 61) == "expired"
    assert secret[11:40] not in repr(found)


def test_use_is_noted_to_the_minute(engine: Engine) -> None:
    id, _ = new_key(engine)
    with writing(engine) as c:
        for at, noted in ((125.0, 120.0), (170.0, 120.0), (181.0, 180.0), (10.0, 180.0)):
            keys.note_used(c, id, at)
            assert keys.find_key(c, id).used == noted


def test_callers_without_a_key_have_rows_to_refer_to_and_no_secret(engine: Engine) -> None:
    for _ in range(2):
        with writing(engine) as c:
            assert keys.make_anonymous(c) == ANONYMOUS
    with writing(engine) as c:
        none = dict.fromkeys(("requests", "refused", "input_tokens", "cached_tokens", "output_tokens"), 0)
        c.execute(USAGE.insert().values(key=ANONYMOUS.key, day="2026-01-01", model="m", **none))
    assert not ANONYMOUS.may("admin") and ANONYMOUS.may("messages")
    assert reason_of(engine, "none") == "unknown"


def test_a_keyring_asks_the_database_once_a_second(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    id, secret = new_key(file_engine)
    clock, looked = Clock(), []
    ring, real = Keyring(file_engine, clock), keys.look_up
    monkeypatch.setattr(keys, "look_up", lambda c, s: (looked.append(s), real(c, s))[1])
    for _ in range(5):
        assert ring.find_caller(secret).key == id
    clock.now += 0.99
    ring.find_caller(secret)
    assert len(looked) == 1
    clock.now += 0.02
    ring.find_caller(secret)
    assert len(looked) == 2


def test_a_revocation_from_elsewhere_acts_within_a_second_and_our_own_at_once(file_engine: Engine) -> None:
    id, secret = new_key(file_engine)
    clock = Clock()
    ring, elsewhere = Keyring(file_engine, clock), Keyring(file_engine, clock)
    ring.find_caller(secret)
    elsewhere.find_caller(secret)
    with writing(file_engine) as c:
        keys.revoke(c, id)
    ring.forget(id)
    with pytest.raises(KeyRefused, match="revoked"):
        ring.find_caller(secret)
    assert elsewhere.find_caller(secret).key == id  # still within the second
    clock.now += 1.0
    with pytest.raises(KeyRefused, match="revoked"):
        elsewhere.find_caller(secret)


def test_a_revocation_while_the_key_is_being_read_is_not_lost(
    file_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, secret = new_key(file_engine)
    ring, real = Keyring(file_engine, Clock()), keys.look_up

    def overtaken(connection: object, secret: str) -> object:
        found = real(connection, secret)  # type: ignore[arg-type]
        other = threading.Thread(target=revoked)  # commits after what was read
        other.start()
        other.join()
        return found

    def revoked() -> None:
        with writing(file_engine) as c:
            keys.revoke(c, id)
        ring.forget(id)

    monkeypatch.setattr(keys, "look_up", overtaken)
    ring.find_caller(secret)
    monkeypatch.setattr(keys, "look_up", real)
    with pytest.raises(KeyRefused, match="revoked"):
        ring.find_caller(secret)


def test_a_remembered_key_ends_on_time(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = new_key(file_engine, expires=time.time() + 60)
    ring = Keyring(file_engine, Clock())
    ring.find_caller(secret)
    later = time.time() + 61
    monkeypatch.setattr(keys.time, "time", lambda: later)
    with pytest.raises(KeyRefused, match="has expired"):
        ring.find_caller(secret)


def test_guesses_push_no_key_out_and_a_keyring_is_bounded(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REMEMBERED", 3)
    secrets = [new_key(file_engine)[1] for _ in range(4)]
    ring = Keyring(file_engine, Clock())
    for secret in secrets[:3]:
        ring.find_caller(secret)
    for number in range(20):
        with pytest.raises(KeyRefused):
            ring.find_caller(f"sk-charter-{number:043d}")
    assert len(ring._held) == 3
    ring.find_caller(secrets[0])  # the second is the quiet one now
    ring.find_caller(secrets[3])
    held = {key.caller.key for key, _ in ring._held.values()}
    with reading(file_engine) as c:
        assert held == {keys.find_caller(c, secrets[n]).key for n in (0, 2, 3)}


def test_many_threads_find_and_forget(engine: Engine) -> None:
    made = [new_key(engine) for _ in range(3)]
    ring, wrong = Keyring(engine), []

    def work(number: int) -> None:
        id, secret = made[number % 3]
        for _ in range(30):
            if ring.find_caller(secret).key != id:
                wrong.append(id)
            ring.forget(id)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_disabled_organisation_is_forgotten_with_all_its_keys(file_engine: Engine) -> None:
    made = [new_key(file_engine)[1] for _ in range(2)]
    ring = Keyring(file_engine, Clock())
    for secret in made:
        ring.find_caller(secret)
    with writing(file_engine) as c:
        organisations.disable_organisation(c, organisations.find_organisation(c, "acme"))
    ring.forget()
    for secret in made:
        with pytest.raises(KeyRefused, match="disabled"):
            ring.find_caller(secret)


def test_the_database_never_holds_a_secret_in_clear(engine: Engine) -> None:
    secret = new_key(engine)[1]
    with reading(engine) as c:
        for table in ("keys", "organisations"):
            assert secret[11:40] not in repr(c.execute(text(f"SELECT * FROM {table}")).all())
