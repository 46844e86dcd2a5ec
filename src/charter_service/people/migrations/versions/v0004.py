"""Drafts of new chats, the size of each chat and shared copy, and an index of words by person.

The old index held everybody's words, so that a search cost more the more others had written.
"""

import sqlite3
from collections import Counter

import sqlalchemy as sa
from alembic import op

from charter_service.people.words import keys_of

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None

BATCH = 500
_OLD = (
    "DROP TRIGGER words_of_new",
    "DROP TRIGGER words_of_ended",
    "DROP TRIGGER words_of_gone",
    "DROP TABLE words_of_messages",
)
# ascii: letters outside of ASCII are never separators, so the keys stay whole; where a word stands doesn't matter.
# Beginnings of one to five letters behind the person's 8 digits have indexes of their own.
_SQLITE = (
    "CREATE VIRTUAL TABLE words_of_messages USING fts5(words, tokenize='ascii', detail=none, prefix='9 10 11 12 13')",
    """CREATE TRIGGER words_of_gone AFTER DELETE ON messages BEGIN
         DELETE FROM words_of_messages WHERE rowid = old.serial; END""",
)
# what is deleted leaves no words behind; since SQLite 3.42
_SECURE = "INSERT INTO words_of_messages(words_of_messages, rank) VALUES('secure-delete', 1)"
_POSTGRESQL = (
    """CREATE TABLE words_of_messages (serial integer PRIMARY KEY REFERENCES messages (serial) ON DELETE CASCADE,
         person integer NOT NULL, words tsvector NOT NULL)""",
)
# made once the words are there, which is quicker; without fastupdate a search reads no list of unsorted words first
_POSTGRESQL_INDEXES = (
    "CREATE INDEX words_of_messages_words ON words_of_messages USING gin (words) WITH (fastupdate = off)",
    "CREATE INDEX words_of_messages_newest ON words_of_messages (person, serial)",
)


def upgrade() -> None:
    """Makes the tables and columns, and reads all messages once."""
    op.create_table(
        "drafts",
        sa.Column("person", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("touched", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_drafts_person"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_drafts")),
    )
    for table, name in (("chats", "characters"), ("chats", "bytes"), ("shares", "bytes")):
        op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    connection = op.get_bind()
    lite = connection.dialect.name == "sqlite"
    size = "length(CAST(frozen AS BLOB))" if lite else "octet_length(frozen)"
    op.execute(f"UPDATE shares SET bytes = {size}")
    statements: tuple[str, ...] = (
        (*_OLD, *_SQLITE) if lite else ("DROP INDEX words_of_messages", *_POSTGRESQL)
    )
    for statement in statements:
        op.execute(statement)
    if lite and sqlite3.sqlite_version_info >= (3, 42):
        op.execute(_SECURE)
    _read_all(connection, lite)
    for statement in () if lite else _POSTGRESQL_INDEXES:
        op.execute(statement)


def _read_all(connection: sa.Connection, lite: bool) -> None:
    """Puts the words of all messages into the index, and their sizes into their chats."""
    wanted = sa.text(
        "SELECT m.serial, m.chat, m.state, m.text, c.person FROM messages m JOIN chats c ON c.id = m.chat "
        "WHERE m.serial > :last ORDER BY m.serial LIMIT :most"
    )
    insert = sa.text(
        "INSERT INTO words_of_messages(rowid, words) VALUES (:serial, :words)"
        if lite
        else "INSERT INTO words_of_messages(serial, person, words) "
        "VALUES (:serial, :person, array_to_tsvector(CAST(:words AS text[])))"
    )
    characters, sizes, last = Counter[str](), Counter[str](), -1
    while rows := connection.execute(wanted, {"last": last, "most": BATCH}).all():
        last, words = rows[-1].serial, []
        for row in rows:
            if row.state != "running":
                keys = keys_of(row.person, row.text)
                value = " ".join(keys) if lite else keys
                words.append({"serial": row.serial, "person": row.person, "words": value})
                characters[row.chat] += len(row.text)
                sizes[row.chat] += len(row.text.encode())
        if words:
            connection.execute(insert, words)
    update = sa.text("UPDATE chats SET characters = :characters, bytes = :bytes WHERE id = :id")
    counts = [{"id": id, "characters": characters[id], "bytes": sizes[id]} for id in characters]
    if counts:
        connection.execute(update, counts)
