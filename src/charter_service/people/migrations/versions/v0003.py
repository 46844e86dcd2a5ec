"""Files of chats: what people sent, once for each content, and to which message or draft it belongs."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables of files, and room for the quotations of a reply."""
    op.add_column("messages", sa.Column("citations", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("messages", sa.Column("quotes_unfound", sa.Integer(), nullable=False, server_default="0"))
    _blobs()
    _files()


def _blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("person", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("pages", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_blobs_person"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blobs")),
        sa.UniqueConstraint("person", "sha256", name=op.f("uq_blobs_person_sha256")),
    )
    op.create_index(op.f("ix_blobs_person"), "blobs", ["person"], unique=False)
    op.create_index(op.f("ix_blobs_state"), "blobs", ["state"], unique=False)


def _files() -> None:
    owners = {"person": "people", "blob": "blobs", "chat": "chats", "message": "messages"}
    op.create_table(
        "files",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("person", sa.Integer(), nullable=False),
        sa.Column("blob", sa.String(length=32), nullable=False),
        sa.Column("chat", sa.String(length=32), nullable=True),
        sa.Column("message", sa.String(length=32), nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [name], [f"{table}.id"], name=op.f(f"fk_files_{name}"), ondelete="CASCADE"
            )
            for name, table in owners.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    for name in owners:
        op.create_index(op.f(f"ix_files_{name}"), "files", [name], unique=False)
