"""A database of people from before there were console roles: its admins own the admin pages, nobody else does."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from charter.service.people.export import open_people
from charter.service.people.tables import METADATA
from charter.service.web.database import differences, open_database, writing

OLD = (
    "DROP TABLE acts",
    "ALTER TABLE people DROP COLUMN console",
    "ALTER TABLE invitations DROP COLUMN console",
)
PERSON = (
    "INSERT INTO people (name, role, simulated, quota, disabled, created) VALUES ('{}', '{}', 0, 0, 0, 1.0)"
)


def test_admins_become_owners(tmp_path: Path) -> None:
    place = str(tmp_path / "people.sqlite")
    open_people(place).dispose()
    engine = open_database(place)
    with writing(engine) as c:
        for statement in OLD:
            c.execute(text(statement))
        c.execute(text("UPDATE alembic_version SET version_num = 'v0002'"))
        for name, role in (("ann", "admin"), ("bob", "member")):
            c.execute(text(PERSON.format(name, role)))
    engine.dispose()
    engine = open_people(place)
    with writing(engine) as c:
        roles = {row.name: row.console for row in c.execute(text("SELECT name, console FROM people"))}
    assert roles == {"ann": "owner", "bob": ""} and differences(engine, METADATA) == []
    engine.dispose()
