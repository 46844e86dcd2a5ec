"""Tools in chats: which are switched on, and what models called."""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "chat_tools",
        sa.Column("chat", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["chat"], ["chats.id"], name=op.f("fk_chat_tools_chat"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chat", "name", name=op.f("pk_chat_tools")),
    )
    op.create_table(
        "tool_calls",
        sa.Column("message", sa.String(length=32), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"], ["messages.id"], name=op.f("fk_tool_calls_message"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message", "place", name=op.f("pk_tool_calls")),
    )
