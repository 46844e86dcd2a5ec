"""Breaks that somebody gave a person."""

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("people", sa.Column("paused", sa.Double(), nullable=True))
