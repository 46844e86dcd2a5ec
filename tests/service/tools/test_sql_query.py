"""Read-only SQL: the same on both databases; nothing is changed, nothing else is read, nothing runs for long."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter_service.tools.sql import MOST_ROWS, SqlQuery
from charter_service.tools.tool import ANYWHERE, ToolFailure
from charter_service.web.database import open_database

ROWS = 300


@pytest.fixture
def place(database: str) -> str:
    """A database with one table, as its place."""
    engine = open_database(database, None, True)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE cities(name TEXT, people INTEGER)")
        connection.exec_driver_sql("INSERT INTO cities VALUES ('Bern', 134000), ('Rome', 2800000)")
        connection.exec_driver_sql("CREATE TABLE many(n INTEGER)")
        connection.exec_driver_sql(f"INSERT INTO many VALUES {','.join(f'({n})' for n in range(ROWS))}")
    place = (
        engine.url.render_as_string(hide_password=False)
        if "postgresql" in database
        else database.removeprefix("sqlite:///")
    )
    engine.dispose()
    return place


@pytest.fixture
def query(place: str, tmp_path: Path) -> SqlQuery:
    return SqlQuery(place, tmp_path)


def run(query: SqlQuery, statement: str) -> dict[str, object]:
    return query.run({"statement": statement}, ANYWHERE)


def test_statement_and_rows_come_back(query: SqlQuery) -> None:
    assert run(query, "SELECT name, people FROM cities ORDER BY people;") == {
        "type": "sql_query_result",
        "statement": "SELECT name, people FROM cities ORDER BY people",
        "columns": ["name", "people"],
        "rows": [["Bern", 134000], ["Rome", 2800000]],
        "truncated": False,
    }
    many = run(query, "SELECT n FROM many ORDER BY n")
    assert many["rows"] == [[n] for n in range(MOST_ROWS)]
    assert many["truncated"] is True
    assert run(query, "SELECT NULL, 1.5, 'ü'")["rows"] == [[None, 1.5, "ü"]]
    assert "cities" in query.description
    assert "people" in query.description


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE cities",
        "DELETE FROM cities",
        "UPDATE cities SET people = 0",
        "INSERT INTO cities VALUES ('x', 1)",
        "CREATE TABLE x(a INTEGER)",
        "CREATE TEMP TABLE x(a INTEGER)",
        "SELECT 1; DROP TABLE cities",
        "SELECT 1; SELECT 2",
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SELECT",
        "nonsense",
        "-- only a comment",
        "WITH x AS (SELECT 1) DELETE FROM cities",
        "SELECT * FROM no_table",
    ],
)
def test_only_one_reading_statement_runs(query: SqlQuery, statement: str) -> None:
    try:
        answer = run(query, statement)
    except ToolFailure as failure:
        assert failure.code == "invalid_tool_input"
    else:
        assert statement == "SELECT"  # PostgreSQL gives rows without columns
        assert answer["columns"] == []
    assert run(query, "SELECT COUNT(*) FROM cities")["rows"] == [[2]]


def test_what_runs_for_long_is_stopped(query: SqlQuery) -> None:
    query._seconds = 1.0
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c"
    with pytest.raises(ToolFailure, match="stopped"):
        run(query, endless)
    query._seconds = 60.0
    assert run(query, "SELECT 1")["rows"] == [[1]]


def test_long_values_and_many_are_cut(query: SqlQuery) -> None:
    long = "'" + "a" * 900 + "'"
    ((value,),) = run(query, f"SELECT {long}")["rows"]  # type: ignore[misc]
    assert len(str(value)) == 501
    many = run(query, f"SELECT {long} FROM many")
    assert many["truncated"] is True
    assert len(many["rows"]) == 119  # type: ignore[arg-type]


@pytest.fixture
def file_query(tmp_path: Path) -> SqlQuery:
    connection = sqlite3.connect(tmp_path / "a.sqlite")
    connection.execute("CREATE TABLE t(a)")
    connection.close()
    (tmp_path / "other.sqlite").write_bytes((tmp_path / "a.sqlite").read_bytes())
    return SqlQuery("a.sqlite", tmp_path, "Things.")


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'other.sqlite' AS o",
        "PRAGMA user_version = 3",
        "PRAGMA query_only = OFF",
        "PRAGMA database_list",
        "SELECT hex(data) FROM sqlite_dbpage",
        "SELECT * FROM dbstat",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('x')",
        "SELECT writefile('x', 'y')",
        "SELECT readfile('/etc/passwd')",
        "SELECT fts3_tokenizer('x')",
        "VACUUM INTO 'copy.sqlite'",
        "SELECT zeroblob(900000000)",
        "SELECT replace(printf('%.*c', 900000, 'a'), 'a', printf('%.*c', 900000, 'b'))",
        "SELECT 1" + " UNION SELECT 1" * 200,
        "SELECT " + "NOT " * 500 + "1",
        "SELECT 'a' LIKE '" + "%a" * 300 + "'",
    ],
)
def test_sqlite_gives_away_nothing_else(file_query: SqlQuery, tmp_path: Path, statement: str) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ToolFailure):
        run(file_query, statement)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_memory_is_bounded(file_query: SqlQuery) -> None:
    with pytest.raises(ToolFailure):
        run(
            file_query,
            "WITH RECURSIVE c(x) AS (SELECT printf('%.*c', 900000, 'a') UNION ALL SELECT x || '' FROM c) "
            "SELECT x, row_number() OVER () FROM c ORDER BY 2 DESC",
        )


def test_one_long_step_is_killed(file_query: SqlQuery) -> None:
    file_query._seconds = 1.0
    text = "printf('%.*c', 900000, 'a'), printf('%.*c', 450000, 'a') || 'b'"
    with pytest.raises(ToolFailure, match="stopped"):
        run(file_query, f"SELECT instr({text})")


def test_wrong_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="there is no file"):
        SqlQuery("no.sqlite", tmp_path)
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(CharterError, match="can't be read"):
        SqlQuery("text.sqlite", tmp_path)
    with pytest.raises(CharterError, match="can't be read"):
        SqlQuery(f"postgresql://ann@/x?host={tmp_path}", tmp_path)


def test_hostile_names_of_files_stay_names(tmp_path: Path) -> None:
    name = "a?mode=rwc&x=#%41.sqlite"
    connection = sqlite3.connect(tmp_path / "plain.sqlite")
    connection.execute("CREATE TABLE t(a)")
    connection.close()
    (tmp_path / "plain.sqlite").rename(tmp_path / name)
    with pytest.raises(ToolFailure):
        run(SqlQuery(name, tmp_path), "DELETE FROM t")
