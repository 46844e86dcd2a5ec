"""Tables that are only ever added to: triggers refuse to change or delete a row, whoever asks. For migrations."""

from __future__ import annotations

from alembic import op
from sqlalchemy import MetaData
from sqlalchemy.schema import CreateIndex, CreateTable

from charter_service.web.database import POSTGRESQL


def make_tables(metadata: MetaData) -> None:
    """Makes all tables, and their indexes in the order of their names."""
    for table in metadata.sorted_tables:
        op.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            op.execute(CreateIndex(index))


def keep_rows(table: str, deletable: str = "") -> None:
    """Refuses changes of a table's rows. `deletable`: a condition in SQL on OLD; rows that meet it may be deleted."""
    refusal = f"{table} are only ever added to"
    if op.get_bind().dialect.name == POSTGRESQL:
        changes = "UPDATE OR TRUNCATE" if deletable else "UPDATE OR DELETE OR TRUNCATE"
        _function(f"{table}_stay", f"RAISE EXCEPTION '{refusal}';")
        op.execute(
            f"CREATE TRIGGER {table}_stay BEFORE {changes} ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_stay()"
        )
        if deletable:
            refuse_row(table, f"{table}_stay_behind", "DELETE", f"NOT ({deletable})", refusal)
        return
    refuse_row(table, f"{table}_stay_update", "UPDATE", "", refusal)
    refuse_row(table, f"{table}_stay_delete", "DELETE", f"NOT ({deletable})" if deletable else "", refusal)


def keep_numbers(table: str) -> None:
    """On SQLite, refuses to replace a row by one of its number: INSERT OR REPLACE deletes without a trigger's leave."""
    if op.get_bind().dialect.name != POSTGRESQL:
        exists = f"EXISTS (SELECT 1 FROM {table} WHERE number = NEW.number)"
        refuse_row(table, f"{table}_stay_replace", "INSERT", exists, f"{table} are only ever added to")


def refuse_row(table: str, name: str, change: str, condition: str, refusal: str) -> None:
    """A trigger that refuses an INSERT, UPDATE or DELETE of rows that meet a condition ("": of all)."""
    if op.get_bind().dialect.name == POSTGRESQL:
        row = "OLD" if change == "DELETE" else "NEW"
        _function(name, f"IF {condition} THEN RAISE EXCEPTION '{refusal}'; END IF; RETURN {row};")
        op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
        return
    when = f"WHEN {condition} " if condition else ""
    op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} {when}BEGIN SELECT RAISE(ABORT, '{refusal}'); END")


def _function(name: str, body: str) -> None:
    op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
