"""Roles on the admin pages, and the audit log of admin acts."""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"
branch_labels = None
depends_on = None

WORDS = "acts are only ever added to"


def upgrade() -> None:
    """Adds the columns and the table; those who are admins own the admin pages."""
    for table in ("people", "invitations"):
        op.add_column(table, sa.Column("console", sa.String(length=16), nullable=False, server_default=""))
        op.execute(f"UPDATE {table} SET console = 'owner' WHERE role = 'admin'")
    op.create_table(
        "acts",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("whose", sa.String(length=200), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_acts")),
        sqlite_autoincrement=True,
    )
    for column in ("actor", "what", "whose"):
        op.create_index(op.f(f"ix_acts_{column}"), "acts", [column], unique=False)
    _only_added_to()


def _only_added_to() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION acts_stay() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{WORDS}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER acts_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON acts "
            "FOR EACH STATEMENT EXECUTE FUNCTION acts_stay()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER acts_stay_{change.lower()} BEFORE {change} ON acts "
            f"BEGIN SELECT RAISE(ABORT, '{WORDS}'); END"
        )
    op.execute(
        "CREATE TRIGGER acts_stay_replace BEFORE INSERT ON acts "
        "WHEN EXISTS (SELECT 1 FROM acts WHERE number = NEW.number) "
        f"BEGIN SELECT RAISE(ABORT, '{WORDS}'); END"
    )
