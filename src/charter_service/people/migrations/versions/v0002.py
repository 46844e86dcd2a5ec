"""Chats: conversations as trees, shared copies, and an index of their words."""

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables of chats."""
    _chats()
    _messages()
    _shares()
    _words()


def _chats() -> None:
    op.create_table(
        "chats",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("person", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("titled", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("leaf", sa.String(length=32), nullable=False),
        sa.Column("draft", sa.Text(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Double(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("touched", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_chats_person"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chats")),
    )
    op.create_index(op.f("ix_chats_person"), "chats", ["person"], unique=False)
    order = ["person", "deleted", "archived", "touched"]
    op.create_index(op.f("ix_chats_person_deleted_archived_touched"), "chats", order, unique=False)


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("chat", sa.String(length=32), nullable=False),
        sa.Column("parent", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("author", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("stop", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=True),
        sa.Column("thumb", sa.String(length=8), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name=op.f("fk_messages_chat"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_messages")),
        sa.UniqueConstraint("id", name=op.f("uq_messages_id")),
        sa.UniqueConstraint("chat", "client", name=op.f("uq_messages_chat_client")),
        sa.UniqueConstraint("chat", "number", name=op.f("uq_messages_chat_number")),
    )
    op.create_index(op.f("ix_messages_chat_parent"), "messages", ["chat", "parent"], unique=False)
    op.create_index(op.f("ix_messages_state"), "messages", ["state"], unique=False)


def _shares() -> None:
    op.create_table(
        "shares",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("chat", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("frozen", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name=op.f("fk_shares_chat"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_shares")),
    )
    op.create_index(op.f("ix_shares_chat"), "shares", ["chat"], unique=False)


# SQLite: an index over the table's own texts. A running reply has no words yet: it would be written anew five times a
# second.
_SQLITE = (
    "CREATE VIRTUAL TABLE words_of_messages USING fts5(text, content='messages', content_rowid='serial')",
    """CREATE TRIGGER words_of_new AFTER INSERT ON messages WHEN new.state <> 'running' BEGIN
         INSERT INTO words_of_messages(rowid, text) VALUES (new.serial, new.text); END""",
    """CREATE TRIGGER words_of_ended AFTER UPDATE ON messages
         WHEN old.state = 'running' AND new.state <> 'running' BEGIN
         INSERT INTO words_of_messages(rowid, text) VALUES (new.serial, new.text); END""",
    """CREATE TRIGGER words_of_gone AFTER DELETE ON messages WHEN old.state <> 'running' BEGIN
         INSERT INTO words_of_messages(words_of_messages, rowid, text)
         VALUES ('delete', old.serial, old.text); END""",
)
# what is deleted leaves no words behind; since SQLite 3.42
_SECURE = "INSERT INTO words_of_messages(words_of_messages, rank) VALUES('secure-delete', 1)"
_POSTGRESQL = (
    "CREATE INDEX words_of_messages ON messages USING gin (to_tsvector('simple', text)) WHERE state <> 'running'",
)


def _words() -> None:
    """Statements that no library writes for both databases."""
    if op.get_bind().dialect.name != "sqlite":
        statements: tuple[str, ...] = _POSTGRESQL
    else:
        statements = (*_SQLITE, _SECURE) if sqlite3.sqlite_version_info >= (3, 42) else _SQLITE
    for statement in statements:
        op.execute(statement)
