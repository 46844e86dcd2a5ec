"""A service's database: SQLite in a file, or PostgreSQL, by URL; durable commits and schema migrations.

A commit that returned is on disk: SQLite runs with a write-ahead log and full syncs, PostgreSQL by its own default. A
writing transaction takes SQLite's one write lock when it begins, so that what it read still holds when it writes; on
PostgreSQL rows that a decision depends on are locked by the statement that reads them.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.extras import need

BUSY_SECONDS = 30
# bytes of the write-ahead log that are kept for the next changes
WAL_LEFT = f"journal_size_limit={64 * 2**20}"
SPARE, PAGES = 256, 256  # free pages that a file keeps, and those that it gives back at a time
LOCK = 0x636861727465  # PostgreSQL's advisory locks are numbers; this one says "charte"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
WORDS = "words_of_"  # begins the names of full-text indexes
VERSIONS = "alembic_version"  # the table that names the newest migration


@dataclass(frozen=True, slots=True)
class Holding:
    """The purpose of a database, in the words of its errors."""

    what: str  # the name of its content
    begun_by: str  # the command that creates one
    file: str  # the usual name of its file
    table: str  # one that no other kind of database has


COLLECTION = Holding("collection", "charter arena serve", "people.sqlite", "people")


def make_metadata() -> MetaData:
    """Metadata for a service's tables. Indexes and constraints are named after their columns, so that migrations find
    them by name in databases of either kind."""
    return MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def open_database(place: str, folder: Path | None = None, new: bool = True, holds: Holding = COLLECTION) -> Engine:
    """The engine of a database: a `sqlite:///FILE` or `postgresql://...` URL, or a path of a SQLite file, which with
    `new` may not exist yet; relative paths start at `folder`. Only its owner can read a new SQLite file.

    Raises CharterError for another kind of database, and if the driver isn't installed.
    """
    url = _url(place, folder, holds)
    if url.get_backend_name() == SQLITE:
        return _sqlite(url, new, holds)
    try:
        engine = create_engine(url, pool_size=20, max_overflow=20, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise CharterError(need(without_password(url), "postgresql", error.name or "")) from None

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")  # as long as SQLite waits
        connection.commit()

    return engine


def without_password(url: URL) -> str:
    """A URL without its password."""
    return url.render_as_string(hide_password=True)


def _url(place: str, folder: Path | None, holds: Holding) -> URL:
    if "://" not in place:
        place = f"sqlite:///{place}"
    try:
        url = make_url(place)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise CharterError(
            f"the database is not a URL; write sqlite:///{holds.file} or postgresql://USER@HOST/NAME"
        ) from None
    if backend == SQLITE:
        if not url.database or url.database == ":memory:":
            raise CharterError(f"a database in memory would lose all data; name a file, sqlite:///{holds.file}")
        return url.set(database=str((folder or Path()) / Path(url.database).expanduser()))
    if backend != POSTGRESQL:
        raise CharterError(f"{without_password(url)}: expected a database of SQLite or PostgreSQL")
    # the maintained driver, unless another is named
    return url.set(drivername="postgresql+psycopg") if url.drivername in (POSTGRESQL, "postgres") else url


def _sqlite(url: URL, new: bool, holds: Holding) -> Engine:
    file = Path(url.database or "")
    if not new and not file.is_file():
        raise CharterError(f"there is no database {file}; name one that {holds.begun_by} has created")
    if not file.parent.is_dir():
        raise CharterError(f"there is no folder {file.parent} for the database {file.name}; create it first")
    if not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, pool_size=20)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver itself begins no transactions
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:  # later it would need a copy of the whole file
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        if not tables or VERSIONS in tables:  # a file of another kind stays as it is
            _write_ahead(connection)
        # deleted data is overwritten, so that the file no longer holds it
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", WAL_LEFT):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(connection: Any) -> None:
    """Switches the file to a write-ahead log. SQLite doesn't wait for a lock here (two processes that switch would
    wait for each other), so several that open a new file try again."""
    given_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > given_up:
                raise
        time.sleep(0.01)


def shrink(engine: Engine, pause: Callable[[float], object] = time.sleep) -> int:
    """Gives free pages back to the disk, a few at a time, with a `pause` as long as that took; returns their number.
    Files created before Charter did so keep them for new rows, and PostgreSQL manages its own pages: 0."""
    pages = 0
    while engine.url.get_backend_name() == SQLITE:
        began = time.monotonic()
        with writing(engine) as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            (free,) = driver.execute("PRAGMA freelist_count").fetchone()
            (kind,) = driver.execute("PRAGMA auto_vacuum").fetchone()
            if kind != 2 or free <= SPARE:
                break
            driver.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
        pages += min(PAGES, free)
        pause(time.monotonic() - began)
    if pages:
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return pages


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed when the block ends, undone when it raises."""
    with connected(engine) as connection, connection.execution_options(writes=True).begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads one state of the database."""
    with connected(engine) as connection, connection.begin():
        yield connection


@contextmanager
def connected(engine: Engine) -> Iterator[Connection]:
    """A connection. Raises CharterError, one line, if the database can't be reached."""
    try:
        connection = engine.connect()
    except OperationalError as error:
        problem = " ".join(str(error.orig).split())
        file = engine.url.get_backend_name() == SQLITE
        ask = "has its disk room, and may this user write there?" if file else "is it running?"
        raise CharterError(f"the database {without_password(engine.url)} can't be opened ({problem}); {ask}") from None
    with connection:
        yield connection


def alone(connection: Connection) -> None:
    """Makes other callers wait for the end of the transaction; on SQLite a writer is alone anyway."""
    if connection.dialect.name == POSTGRESQL:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")


def migrate(engine: Engine, scripts: Path, metadata: MetaData, new: bool = True, holds: Holding = COLLECTION) -> None:
    """Brings the schema to the newest migration in `scripts`, in one transaction; with `new` an empty database gets it
    too.

    Raises CharterError if the file is not a database, the database is of another kind, or its schema is of a newer
    Charter.
    """
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    directory = ScriptDirectory.from_config(config)
    revisions = {script.revision for script in directory.walk_revisions()}
    try:
        with writing(engine) as connection:
            alone(connection)
            context = MigrationContext.configure(connection)
            heads = set(context.get_current_heads())
            _check_ours(connection, bool(heads), new, holds)
            if heads - revisions:
                raise CharterError(
                    f"the database {without_password(engine.url)} was made by a newer Charter, or by one before 0.1.0; "
                    "update Charter, or name another"
                )
            if heads != set(directory.get_heads()):
                _upgrade(config, directory, connection, metadata)
    except SQLAlchemyError as error:
        problem = " ".join(str(getattr(error, "orig", None) or error).split())
        ask = "; has the disk room?" if "disk" in problem else ""
        raise CharterError(f"the database {without_password(engine.url)} can't be used: {problem}{ask}") from None


def _check_ours(connection: Connection, versioned: bool, new: bool, holds: Holding) -> None:
    """Raises CharterError if a database holds other tables, or is empty and may not be new."""
    tables, place = set(inspect(connection).get_table_names()), without_password(connection.engine.url)
    if tables and not (versioned and holds.table in tables):
        raise CharterError(f"{place} is a database of another kind; name the {holds.what}'s, or a new file")
    if not tables and not new:
        raise CharterError(f"{place} holds no {holds.what}; name one that {holds.begun_by} has created")


def _upgrade(config: Config, directory: ScriptDirectory, connection: Connection, metadata: MetaData) -> None:
    def steps(revision: Any, _: Any) -> Any:
        return directory._upgrade_revs("head", revision)

    with EnvironmentContext(config, directory, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=metadata)
        environment.run_migrations()


def differences(engine: Engine, metadata: MetaData) -> list[Any]:
    """Differences between the schema of a database and the tables that the code expects; empty if there are none.
    Indexes of words differ between databases: only migrations know them, by names that begin with WORDS."""
    options = {"include_name": lambda name, kind, parents: not (name or "").startswith(WORDS)}
    with reading(engine) as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
