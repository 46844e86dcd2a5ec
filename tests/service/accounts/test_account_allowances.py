"""Limits that are stored: a restart fills no bucket, and a kill gives back no more than was not written yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from test_account_limits import CALLER, MANY, Clock

from charter_service.accounts import allowances as module
from charter_service.accounts.allowances import Allowances
from charter_service.accounts.keys import Caller, KeyLimits
from charter_service.accounts.limits import Admissions, TooMany
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import ALLOWANCES
from charter_service.web.database import reading


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written by itself: tests say when."""
    monkeypatch.setattr(module, "SECONDS", 3_600.0)


def start(engine: Engine, clock: Clock) -> tuple[Admissions, Allowances]:
    admissions = Admissions(MANY, clock)
    return admissions, Allowances(engine, admissions)


def stored(engine: Engine) -> dict[str, object]:
    with reading(engine) as connection:
        return {row.account: row for row in connection.execute(select(ALLOWANCES))}


def test_a_restart_fills_nothing(engine: Engine) -> None:
    clock = Clock()
    admissions, allowances = start(engine, clock)
    for _ in range(60):
        admissions.admit(CALLER, 100, 1).settle(20)
    admissions.count(CALLER)
    allowances.close()
    assert set(stored(engine)) == {"org_1", "org_1/counting"}
    clock.now += 1
    again, allowances = start(engine, clock)
    admitted = again.admit(CALLER, 100, 1)
    assert admitted.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert admitted.openai_headers()["x-ratelimit-remaining-tokens"] == str(100 - 100 + 20)
    with pytest.raises(TooMany, match="limit of 60 requests"):
        again.admit(CALLER, 1, 1)
    admitted.settle(1)
    assert again.under_way("org_1") == 0, "what ran before does not run any more"
    allowances.close()


def test_a_debt_outlives_a_restart(engine: Engine) -> None:
    clock = Clock()
    admissions, allowances = start(engine, clock)
    admissions.admit(CALLER, 1, 1).settle(1_200 * 30)
    allowances.close()
    clock.now += 10 * 60
    again, allowances = start(engine, clock)
    with pytest.raises(TooMany) as refused:
        again.admit(CALLER, 1, 1)
    assert refused.value.retry_after == pytest.approx(19 * 60 + 0.05)
    allowances.close()


def test_a_killed_process_gives_back_only_what_was_not_written(engine: Engine) -> None:
    clock = Clock()
    admissions, allowances = start(engine, clock)
    for _ in range(40):
        admissions.admit(CALLER, 1, 1)
    allowances.flush()
    for _ in range(20):
        admissions.admit(CALLER, 1, 1)
    # killed here: nothing more is written
    again, later = start(engine, clock)
    for _ in range(20):
        again.admit(CALLER, 1, 1)
    with pytest.raises(TooMany):
        again.admit(CALLER, 1, 1)
    later.close()
    allowances._closed.set()


def test_a_key_and_a_user_with_limits_of_their_own_are_stored_too(engine: Engine) -> None:
    clock, own = Clock(), KeyLimits(requests_per_minute=2)
    caller = Caller("key_2", "org_1", "own", limits=own, siblings=(KeyLimits(), own))
    admissions, allowances = start(engine, clock)
    admissions.admit(caller, 1, 1, background=True)
    admissions.admit(caller, 1, 1, user="digest", share=0.9)
    admissions.admit(caller, 1, 1)
    allowances.close()
    assert set(stored(engine)) == {"org_1", "key_2", "org_1/digest", "org_1/background", "key_2/background"}
    again, allowances = start(engine, clock)
    with pytest.raises(TooMany, match="of this key"):
        again.admit(caller, 1, 1)
    allowances.close()


def test_rows_of_full_buckets_go(engine: Engine) -> None:
    clock = Clock()
    admissions, allowances = start(engine, clock)
    admissions.admit(CALLER, 6_000, 1).settle(0)
    allowances.flush()
    clock.now += 61
    admissions.admit(Caller("key_2", "org_2", "x"), 1, 1)
    allowances.close()
    assert set(stored(engine)) == {"org_2"}


def test_a_clock_set_back_between_two_starts_gives_nothing(engine: Engine) -> None:
    clock = Clock()
    admissions, allowances = start(engine, clock)
    admissions.admit(CALLER, 6_000, 1)
    allowances.close()
    clock.now -= 86_400
    again, allowances = start(engine, clock)
    with pytest.raises(TooMany):
        again.admit(CALLER, 10, 1)
    clock.now += 1
    again.admit(CALLER, 100, 1)
    allowances.close()


def test_what_can_not_be_written_is_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    admissions, allowances = start(engine, clock)
    admissions.admit(CALLER, 1_000, 1)

    def fail(*_: object) -> None:
        raise SQLAlchemyError("full")

    with monkeypatch.context() as broken:
        broken.setattr(module, "writing", fail)
        with pytest.raises(SQLAlchemyError):
            allowances.flush()
    allowances.close()
    assert "org_1" in stored(engine)


def test_ten_thousand_end_users_are_stored_at_once(tmp_path: Path) -> None:
    engine, clock = open_accounts(str(tmp_path / "many.sqlite")), Clock()
    admissions, allowances = start(engine, clock)
    for number in range(10_000):
        clock.now += 1
        admissions.admit(CALLER, 0, 1, user=f"{number:064}", share=0.5).settle(0)
    allowances.close()
    assert 1 <= len(stored(engine)) <= 40, "only those that are not full again"
    engine.dispose()
