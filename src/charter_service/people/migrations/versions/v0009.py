"""The schema of people: the tables of `tables.py`, an index of the words of chats, acts that are only ever added to.

The first migration behind this one freezes here what `tables.py` had until then.
"""

import sqlite3

from alembic import op

from charter_service.people.tables import METADATA
from charter_service.web.append_only import keep_numbers, keep_rows, make_tables
from charter_service.web.database import POSTGRESQL

revision = "v0009"
down_revision = None
branch_labels = None
depends_on = None

# ascii: letters outside of ASCII are never separators, so the keys stay whole; where a word stands doesn't matter.
# Beginnings of one to five letters behind the person's 8 digits have indexes of their own.
_SQLITE = (
    "CREATE VIRTUAL TABLE words_of_messages USING fts5(words, tokenize='ascii', detail=none, prefix='9 10 11 12 13')",
    """CREATE TRIGGER words_of_gone AFTER DELETE ON messages BEGIN
         DELETE FROM words_of_messages WHERE rowid = old.serial; END""",
)
# what is deleted leaves no words behind; since SQLite 3.42
_SECURE = "INSERT INTO words_of_messages(words_of_messages, rank) VALUES('secure-delete', 1)"
# without fastupdate a search reads no list of unsorted words first
_POSTGRESQL = (
    """CREATE TABLE words_of_messages (serial integer PRIMARY KEY REFERENCES messages (serial) ON DELETE CASCADE,
         person integer NOT NULL, words tsvector NOT NULL)""",
    "CREATE INDEX words_of_messages_words ON words_of_messages USING gin (words) WITH (fastupdate = off)",
    "CREATE INDEX words_of_messages_newest ON words_of_messages (person, serial)",
)


def upgrade() -> None:
    """Makes all tables, indexes and triggers."""
    make_tables(METADATA)
    if op.get_bind().dialect.name == POSTGRESQL:
        statements: tuple[str, ...] = _POSTGRESQL
    else:
        statements = (*_SQLITE, _SECURE) if sqlite3.sqlite_version_info >= (3, 42) else _SQLITE
    for statement in statements:
        op.execute(statement)
    keep_rows("acts")
    keep_numbers("acts")
