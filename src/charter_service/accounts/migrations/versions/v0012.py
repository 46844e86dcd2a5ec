"""The earlier request that was stopped for the same text, beside the decision on it."""

import sqlalchemy as sa
from alembic import op

revision = "v0012"
down_revision = "v0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("decisions", sa.Column("repeats", sa.String(length=64), nullable=False, server_default=""))
