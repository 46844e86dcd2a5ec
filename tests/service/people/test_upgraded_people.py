"""A database of people from before there were console roles: its admins own the admin pages, nobody else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from charter_service.people.export import open_people
from charter_service.people.tables import METADATA, MIGRATIONS
from charter_service.web.database import differences, migrate, open_database, writing

PERSON = "INSERT INTO people (name, role, simulated, quota, disabled, created) VALUES ('{}', '{}', :no, 0, :no, 1.0)"


@pytest.mark.parametrize("first", [2, 4])
def test_admins_become_owners(first: int, database: str, tmp_path: Path) -> None:
    """`first`: the newest migration that the database has had."""
    scripts = tmp_path / "before"
    later = [f"v000{number}.py" for number in range(first + 1, 10)]
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns(*later, "__pycache__"))
    engine = open_database(database)
    migrate(engine, scripts, METADATA)
    with writing(engine) as c:
        for name, role in (("ann", "admin"), ("bob", "member")):
            c.execute(text(PERSON.format(name, role)), {"no": False})
    engine.dispose()
    engine = open_people(database)
    with writing(engine) as c:
        roles = {row.name: row.console for row in c.execute(text("SELECT name, console FROM people"))}
    assert roles == {"ann": "owner", "bob": ""} and differences(engine, METADATA) == []
    engine.dispose()
