"""A service's database: what a place may be, what a schema must be, and that a commit is on disk."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, Integer, inspect, text
from sqlalchemy.exc import IntegrityError

from charter.ground.artifact.errors import CharterError
from charter_service.people.export import open_people, votes_of
from charter_service.people.tables import METADATA, MIGRATIONS, PEOPLE
from charter_service.people.workers import invite, join
from charter_service.web.database import WORDS, differences, migrate, open_database, reading, writing

NEXT = '''"""One column more."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "v9999", "{newest}", None, None


def upgrade() -> None:
    """Adds it."""
    with op.batch_alter_table("people") as table:
        table.add_column(sa.Column("shoe_size", sa.Integer(), nullable=False, server_default="42"))
'''


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = open_people(database)
    yield made
    made.dispose()


def newest() -> str:
    return max(file.stem for file in (MIGRATIONS / "versions").glob("v*.py"))


def further(tmp_path: Path) -> Path:
    """The migrations with one more."""
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "v9999.py").write_text(NEXT.format(newest=newest()))
    return scripts


def test_migrations_make_the_tables_that_the_code_expects(engine: Engine) -> None:
    assert differences(engine, METADATA) == []
    migrate(engine, MIGRATIONS, METADATA)  # again: nothing to do
    assert differences(engine, METADATA) == []


def test_a_difference_is_seen(engine: Engine) -> None:
    with writing(engine) as c:
        c.exec_driver_sql("ALTER TABLE people ADD COLUMN extra INTEGER")
    assert differences(engine, METADATA)


def test_a_further_migration_keeps_what_is_there(engine: Engine, tmp_path: Path) -> None:
    with writing(engine) as c:
        join(c, invite(c, "worker"), "ann")
    migrate(engine, further(tmp_path), METADATA)
    with reading(engine) as c:
        assert c.execute(text("SELECT name, shoe_size FROM people")).all() == [("ann", 42)]


KILLED = """
import sys
from pathlib import Path
from charter_service.people.tables import METADATA
from charter_service.web.database import migrate, open_database
migrate(open_database(sys.argv[1]), Path(sys.argv[2]), METADATA)
"""


def test_an_upgrade_that_is_killed_changes_nothing_and_the_next_one_does_all(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    scripts = further(tmp_path)
    migration = scripts / "versions" / "v9999.py"
    whole = migration.read_text()
    migration.write_text(f"import os\n{whole}    os.kill(os.getpid(), 9)\n")
    command = [sys.executable, "-c", KILLED, database, str(scripts)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert differences(engine, METADATA) == []
    migration.write_text(whole)
    migrate(engine, scripts, METADATA)
    assert "shoe_size" in {column["name"] for column in inspect(engine).get_columns("people")}


def test_a_newer_schema_is_refused_and_left_alone(engine: Engine, database: str, tmp_path: Path) -> None:
    migrate(engine, further(tmp_path), METADATA)
    with pytest.raises(CharterError, match="newer Charter") as refused:
        open_people(database)
    assert "\n" not in str(refused.value)
    assert "shoe_size" in {column["name"] for column in inspect(engine).get_columns("people")}


def test_a_migration_that_breaks_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    scripts = further(tmp_path)
    file = scripts / "versions" / "v9999.py"
    file.write_text(file.read_text() + "    op.execute('SELECT nothing FROM nowhere')\n")
    with pytest.raises(CharterError, match="can't be used") as refused:
        migrate(engine, scripts, METADATA)
    assert "\n" not in str(refused.value)
    assert differences(engine, METADATA) == []
    with reading(engine) as c:
        assert c.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [newest()]


def test_a_block_that_raises_is_undone(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine) as c:
        join(c, invite(c, "worker"), "ann")
        1 / 0
    with reading(engine) as c:
        assert c.execute(PEOPLE.select()).all() == []


def test_foreign_keys_hold(engine: Engine) -> None:
    with pytest.raises(IntegrityError), writing(engine) as c:
        c.execute(text("INSERT INTO consents (person, task, version, at) VALUES (77, 'x', 'y', 1)"))


def test_time_and_numbers_come_back_as_they_were(engine: Engine) -> None:
    assert isinstance(PEOPLE.c.id.type, Integer)
    with writing(engine) as c:
        c.execute(text("INSERT INTO facts VALUES ('snow', '☃ \u202e \U0001f600')"))
    with reading(engine) as c:
        assert c.execute(text("SELECT value FROM facts WHERE name = 'snow'")).scalar() == "☃ \u202e \U0001f600"


def test_postgres_has_no_other_tables(engine: Engine) -> None:
    tables = {name for name in inspect(engine).get_table_names() if not name.startswith(WORDS)}
    assert tables == {*METADATA.tables, "alembic_version"}


def test_a_sqlite_file_is_its_owners_and_durable(tmp_path: Path) -> None:
    file, before = tmp_path / "people.sqlite", os.umask(0)
    try:
        engine = open_people(str(file))
    finally:
        os.umask(before)
    with reading(engine) as c:
        found = {
            name: c.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        # all that SQLite puts beside the file as well
        assert {stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()} == {0o600}
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are no tables, and long enough to hold a header of some hundred bytes. " * 20)
    with pytest.raises(CharterError, match="not a database") as refused:
        open_people(str(file))
    assert "\n" not in str(refused.value) and "notes.txt" in str(refused.value)
    assert file.read_text().startswith("these are no tables")


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path, database: str) -> None:
    engine = open_database(database)
    with writing(engine) as c:
        c.exec_driver_sql("CREATE TABLE recipes (dish TEXT)")
    for new in (True, False):
        with pytest.raises(CharterError, match="a database of another kind; name the collection's") as refused:
            open_people(database, new=new)
        assert "\n" not in str(refused.value)
    assert inspect(engine).get_table_names() == ["recipes"]
    with writing(engine) as c:  # another program's that keeps versions as well
        c.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        c.exec_driver_sql("INSERT INTO alembic_version VALUES ('abc')")
    with pytest.raises(CharterError, match="a database of another kind"):
        open_people(database)
    engine.dispose()


def test_the_file_of_something_else_keeps_each_byte(tmp_path: Path) -> None:
    file = tmp_path / "foreign.sqlite"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE recipes (dish TEXT)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(CharterError, match="another kind"):
        open_people(str(file), new=False)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_what_is_only_read_is_never_made(tmp_path: Path, database: str) -> None:
    open_database(database).dispose()  # a file, or a database, without tables
    with pytest.raises(CharterError, match="holds no collection"):
        open_people(database, new=False)
    engine = open_database(database)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    with pytest.raises(CharterError, match="there is no database"):
        votes_of("none.sqlite", tmp_path)
    assert not (tmp_path / "none.sqlite").exists()
    open_people(database).dispose()
    assert votes_of(database) == []


def test_an_older_schema_is_brought_up_to_date_for_readers(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setattr("charter_service.people.export.MIGRATIONS", further(tmp_path))
    open_people(database, new=False).dispose()
    assert "shoe_size" in {column["name"] for column in inspect(engine).get_columns("people")}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("mysql://host/name", "expected a database of SQLite or PostgreSQL"),
        ("sqlite:///:memory:", "would lose"),
        ("sqlite://", "would lose"),
        ("nothing://x", "expected a database of SQLite or PostgreSQL"),
        ("://", "is not a URL"),
        ("no/such/folder/p.sqlite", "there is no folder"),
    ],
)
def test_places_that_are_none(place: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CharterError, match=said) as refused:
        open_database(place, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_server_that_is_away_is_one_line_without_the_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(CharterError, match="can't be opened") as refused:
        open_people(f"postgresql://ann:secret@/x?host={tmp_path}")
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_relative_paths_start_at_the_folder(tmp_path: Path) -> None:
    open_database("people.sqlite", tmp_path).dispose()
    assert (tmp_path / "people.sqlite").is_file()
