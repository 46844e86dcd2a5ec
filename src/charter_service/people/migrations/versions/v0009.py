"""What a person sets for a chat, the temperature of a reply, the category under which one was stopped, and appeals."""

import sqlalchemy as sa
from alembic import op

revision = "v0009"
down_revision = "v0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("chats", sa.Column("instructions", sa.Text(), nullable=False, server_default=""))
    op.add_column("chats", sa.Column("temperature", sa.Double(), nullable=True))
    op.add_column("chats", sa.Column("max_tokens", sa.Integer(), nullable=True))
    op.add_column("messages", sa.Column("temperature", sa.Double(), nullable=True))
    op.add_column("messages", sa.Column("category", sa.String(64), nullable=False, server_default=""))
    op.add_column("messages", sa.Column("appealed", sa.Boolean(), nullable=False, server_default=sa.false()))
