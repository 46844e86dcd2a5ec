"""Read-only SQL on one database: one statement, five seconds, 200 rows, in a process that is killed after it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from charter.ground.artifact.errors import CharterError
from charter_service.tools.tool import Domains, ToolFailure, one_text, text_of

PROGRAM = Path(__file__).with_name("sql_program.py")
SECONDS, OPENING_SECONDS = 5.0, 30.0
MOST_ROWS = 200
LONGEST_CELL = 500  # characters
LONGEST_STATEMENT = 4000
LONGEST_SCHEMA = 6000  # characters about the tables
POSTGRESQL = ("postgresql://", "postgresql+psycopg://", "postgres://")


class SqlQuery:
    """The tool."""

    name, kind = "sql_query", "sql_query_20261201"
    schema = one_text("statement", "one SELECT", LONGEST_STATEMENT)

    def __init__(self, database: str, folder: Path, about: str = "", seconds: float = SECONDS) -> None:
        """`database`: a file, whose relative path starts at `folder`, or a URL. Raises CharterError if its tables can't
        be read."""
        self._seconds = seconds
        self._dialect = "PostgreSQL" if database.startswith(POSTGRESQL) else "SQLite"
        if self._dialect == "PostgreSQL":
            self._place = f"postgresql://{database.split('://', 1)[1]}"
        else:
            path = (folder / database).expanduser().resolve()
            if not path.is_file():
                raise CharterError(f"tools.sql.database: there is no file {path}; name a database of SQLite")
            self._place = f"file:{quote(str(path))}"
        try:
            tables = self._ask(None)["tables"]
        except ToolFailure as failure:
            raise CharterError(f"tools.sql.database can't be read: {failure}") from None
        self.description = (
            f"Runs one SELECT on a database of {self._dialect} and gives at most {MOST_ROWS} rows. It can't change "
            f"anything. {about}".rstrip()
            + f"\nTables:\n{_listed(tables)}"
        )

    def run(self, arguments: Mapping[str, Any], _: Domains) -> dict[str, Any]:
        """Statement, columns and rows."""
        statement = text_of(arguments, "statement", LONGEST_STATEMENT).strip().rstrip(";").strip()
        if not statement:
            raise ToolFailure("invalid_tool_input", "the statement is empty; give one SELECT")
        answer = self._ask(statement)
        return {"type": "sql_query_result", "statement": statement, **answer}

    def _ask(self, statement: str | None) -> dict[str, Any]:
        """The answer of the program. Raises ToolFailure."""
        task = {"database": self._place, "statement": statement, "rows": MOST_ROWS, "letters": LONGEST_CELL}
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(PROGRAM), self._dialect.lower()],
                input=json.dumps(task),
                capture_output=True,
                text=True,
                timeout=self._seconds if statement is not None else OPENING_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolFailure(
                "unavailable", f"the query took over {self._seconds:g} seconds and was stopped; ask for less"
            ) from None
        except OSError as error:
            raise ToolFailure("unavailable", f"the query can't be run now ({error.strerror})") from None
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise ToolFailure("unavailable", "the query took too much memory or time and was stopped") from None
        if "refused" in answer:
            raise ToolFailure("invalid_tool_input", f"the database says: {answer['refused']}")
        return answer


def _listed(tables: list[tuple[str, str]]) -> str:
    """The tables as the model reads them."""
    lines = list[str]()
    for name, words in tables:
        statement = " ".join((words or "").split())
        lines.append(statement if statement.upper().startswith("CREATE") else f"{name}({statement})")
    text = "\n".join(lines)
    return text if len(text) <= LONGEST_SCHEMA else f"{text[:LONGEST_SCHEMA]}…"
