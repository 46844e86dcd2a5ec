"""Reviews of whole attempts: the turn that was worst, and how harmful what the person intended was.

Older reviews have neither: they judged the last reply, and stay as they are.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("reviews", sa.Column("worst", sa.Integer(), nullable=True))
    op.add_column("reviews", sa.Column("intent", sa.Integer(), nullable=True))
