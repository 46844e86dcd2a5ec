"""The database of accounts: its schema, what it refuses to be, and rows that nobody can change."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.store import ACCOUNTS, open_accounts
from charter_service.accounts.tables import DECISIONS, METADATA, MIGRATIONS, ORGANISATIONS, STANDINGS
from charter_service.people.export import open_people
from charter_service.web.database import differences, migrate, reading, writing

STANDING = {"organisation": "org_1", "at": 1.0, "level": "good", "reason": "new", "by": "rule"}
WORDS = ("request", "organisation", "key", "user", "model", "side", "action", "category")
DECISION = dict.fromkeys((*WORDS, "sensitivity", "policy", "classifiers", "chain"), "x") | {
    "at": 1.0,
    "score": 0.5,
    "threshold": 0.5,
}


def fill(engine: Engine) -> None:
    with writing(engine) as c:
        c.execute(ORGANISATIONS.insert().values(id="org_1", name="one", created=1.0, disabled=False))
        for _ in range(2):
            c.execute(STANDINGS.insert().values(**STANDING))
            c.execute(DECISIONS.insert().values(**DECISION))


def test_account_migrations_make_the_tables_that_the_code_expects(engine: Engine) -> None:
    assert differences(engine, METADATA) == []
    migrate(engine, MIGRATIONS, METADATA, holds=ACCOUNTS)
    assert differences(engine, METADATA) == []


@pytest.mark.parametrize("table", ["decisions", "standings"])
@pytest.mark.parametrize(
    "change", ["UPDATE {} SET at = 2", "DELETE FROM {}", "DELETE FROM {} WHERE number = 1", "TRUNCATE {}"]
)
def test_what_was_decided_stays(engine: Engine, table: str, change: str) -> None:
    fill(engine)
    if change.startswith("TRUNCATE") and engine.dialect.name == "sqlite":
        change = f"INSERT OR REPLACE INTO {{}} SELECT * FROM {table}"
    with pytest.raises(DBAPIError, match=f"{table} are only ever added to"), writing(engine) as c:
        c.execute(text(change.format(table)))
    with reading(engine) as c:
        assert c.execute(text(f"SELECT number, at FROM {table} ORDER BY number")).all() == [(1, 1.0), (2, 1.0)]


def test_a_collection_is_no_database_of_accounts_nor_the_reverse(database: str) -> None:
    open_people(database).dispose()
    for new in (True, False):
        with pytest.raises(CharterError, match="another kind; name the service's"):
            open_accounts(database, new=new)


def test_accounts_are_no_collection(engine: Engine, database: str) -> None:
    with pytest.raises(CharterError, match="another kind; name the collection's"):
        open_people(database)


def test_a_database_that_is_not_there_says_who_begins_one(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="charter serve or charter keys create") as refused:
        open_accounts("serve.sqlite", tmp_path, new=False)
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())
