"""Severity of what was decided, standings of end users, releases and exemptions.

Columns that decisions gain enter the chain only where they hold something, so that older rows keep theirs.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None

_DIGEST, _ID = 64, 64


def upgrade() -> None:
    """Adds the columns, their indexes, and the table of grants."""
    _add("decisions", severity=8, added=_DIGEST, grant_id=_ID)
    _add("standings", user=_DIGEST)
    _add("cases", severity=8, user=_DIGEST, conversation=_DIGEST)
    _index("decisions", "organisation", "user", "action", "at")
    _index("decisions", "grant_id")
    _index("standings", "organisation", "user", "number")
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=_ID), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("organisation", sa.String(length=_ID), nullable=False),
        sa.Column("category", sa.String(length=64), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("request", sa.String(length=_ID), nullable=False),
        sa.Column("conversation", sa.String(length=_DIGEST), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("used", sa.Double(), nullable=True),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.Column("revoked_by", sa.String(length=200), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name=op.f("fk_grants_organisation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    _index("grants", "organisation", "conversation")
    _index("grants", "kind", "until")


def _add(table: str, **lengths: int) -> None:
    for name, length in lengths.items():
        op.add_column(table, sa.Column(name, sa.String(length=length), nullable=False, server_default=""))


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)
