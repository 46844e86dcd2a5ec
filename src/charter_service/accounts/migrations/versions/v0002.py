"""How many bytes the requests of a batch have, for quotas."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, and counts what is there."""
    op.add_column("batches", sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE batches SET bytes = (SELECT COALESCE(SUM(LENGTH(params)), 0) FROM batch_items "
        "WHERE batch_items.batch = batches.id)"
    )
