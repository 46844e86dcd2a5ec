"""The language of a text that the classifiers don't read, beside the decision on it."""

import sqlalchemy as sa
from alembic import op

revision = "v0011"
down_revision = "v0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column(
        "decisions", sa.Column("unscreened", sa.String(length=8), nullable=False, server_default="")
    )
