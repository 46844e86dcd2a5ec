"""What is left of the limits by minute, so that a restart does not fill them."""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "allowances",
        sa.Column("account", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("full_at", sa.Double(), nullable=False),
        sa.Column("requests", sa.Double(), nullable=True),
        sa.Column("input_tokens", sa.Double(), nullable=True),
        sa.Column("output_tokens", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_allowances")),
    )
    op.create_index(op.f("ix_allowances_full_at"), "allowances", ["full_at"], unique=False)
