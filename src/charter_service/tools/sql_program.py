"""The program that runs one statement of SQL, in a process of its own, and prints its rows as JSON.

    python -I sql_program.py sqlite|postgresql < task.json

It imports nothing of Charter. Whatever a statement does, it ends with this process: the server kills it after its
seconds, and the system bounds its memory, its processor time and the files that it may write.

SQLite: the file is opened read-only, and an authorizer admits only reading. PostgreSQL: a cursor in a read-only
transaction, which can hold nothing but one query.
"""

import json
import resource
import sqlite3
import sys
from decimal import Decimal
from typing import Any

if sys.argv[1:] == ["postgresql"]:
    import psycopg

MEMORY, SECONDS, WRITTEN = 1 << 30, 6, 1 << 20
STATEMENT_MS = 4500  # after which PostgreSQL stops by itself
LONGEST_VALUE = 1_000_000  # bytes of a value inside SQLite
ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
NO_FUNCTIONS = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit", "zeroblob", "randomblob"}
# pages of the file as they are, deleted rows among them
RAW_PAGES = frozenset({"sqlite_dbpage", "dbstat"})
LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 20_000),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 100),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50),
    (sqlite3.SQLITE_LIMIT_COLUMN, 200),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200),
)
SQLITE_TABLES = "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
POSTGRESQL_TABLES = (
    "SELECT table_schema || '.' || table_name, "
    "string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) FROM information_schema.columns "
    "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') GROUP BY 1 ORDER BY 1"
)
MOST_TABLES = 200
MOST_LETTERS = 60_000  # of all rows


class Refused(Exception):
    """The statement, in words for the model."""


def sqlite(task: dict[str, Any]) -> dict[str, Any]:
    """Runs a task on a file of SQLite."""
    connection = sqlite3.connect(f"{task['database']}?mode=ro", uri=True, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA trusted_schema = OFF")
    if task["statement"] is None:
        return {"tables": connection.execute(SQLITE_TABLES).fetchmany(MOST_TABLES)}
    for limit, most in LIMITS:
        connection.setlimit(limit, most)
    connection.set_authorizer(_authorize)
    try:
        cursor = connection.execute(task["statement"])
        return _rows(cursor, task)
    except sqlite3.DatabaseError as error:
        problem = str(error)
        if problem in ("not authorized", "authorizer malfunction") or problem.startswith("not authorized to use"):
            raise Refused("only reading is allowed: one SELECT, without PRAGMA, ATTACH or changes") from None
        raise Refused(problem) from None
    except sqlite3.ProgrammingError as error:
        raise Refused(str(error)) from None


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in ACTIONS or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in NO_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and (first or "").lower() in RAW_PAGES:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def postgresql(task: dict[str, Any]) -> dict[str, Any]:
    """Runs a task on a database of PostgreSQL."""
    options = f"-c default_transaction_read_only=on -c statement_timeout={STATEMENT_MS} -c lock_timeout=1000"
    try:
        with psycopg.connect(task["database"], options=options, connect_timeout=3) as connection:
            connection.read_only = True
            if task["statement"] is None:
                return {"tables": connection.execute(POSTGRESQL_TABLES).fetchmany(MOST_TABLES)}
            # a prepared statement is always one, and a cursor takes nothing but a query
            connection.execute(f"DECLARE wanted NO SCROLL CURSOR FOR {task['statement']}", prepare=True)
            answer = _rows(connection.execute(f"FETCH {task['rows'] + 1} FROM wanted"), task)
            connection.rollback()
            return answer
    except psycopg.Error as error:
        raise Refused(str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def _rows(cursor: Any, task: dict[str, Any]) -> dict[str, Any]:
    if cursor.description is None:
        raise Refused("the statement gives no rows; give one SELECT")
    columns = [column[0] for column in cursor.description]
    rows = cursor.fetchmany(task["rows"] + 1)
    returned, letters_left = [], MOST_LETTERS
    for row in rows[: task["rows"]]:
        values = [_value(value, task["letters"]) for value in row]
        letters_left -= sum(len(str(value)) for value in values)
        if letters_left < 0:
            break
        returned.append(values)
    return {"columns": columns, "rows": returned, "truncated": len(returned) < len(rows)}


def _value(value: Any, letters: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value if value is None or -(2**53) < value < 2**53 else str(value)
    if isinstance(value, Decimal) and value.is_finite() and Decimal(str(float(value))) == value:
        value = float(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    text = f"{len(value)} bytes" if isinstance(value, bytes | memoryview) else str(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= letters else f"{text[:letters]}…"


def main() -> None:
    """Reads the task, and prints the answer or the problem."""
    task = json.load(sys.stdin)
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, WRITTEN),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    run = postgresql if sys.argv[1:] == ["postgresql"] else sqlite
    try:
        answer = run(task)
    except Refused as refused:
        answer = {"refused": " ".join(str(refused).split())[:500]}
    except (sqlite3.Error, sqlite3.Warning, OSError) as error:
        answer = {"refused": " ".join(str(error).split())[:500]}
    except MemoryError:
        answer = {"refused": "it takes more memory than a query may have; ask for less"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
