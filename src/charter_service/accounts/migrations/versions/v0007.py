"""The audit log of admin acts, limits and a monthly cap of organisations, and a key's former secret."""

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"
branch_labels = None
depends_on = None

WORDS = "acts are only ever added to"


def upgrade() -> None:
    """Adds the columns and the table."""
    limits = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "concurrency")
    for name in limits:
        op.add_column("organisations", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "organisations", sa.Column("monthly_tokens", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("keys", sa.Column("former", sa.String(length=64), nullable=True))
    op.add_column("keys", sa.Column("former_until", sa.Double(), nullable=True))
    op.create_index(op.f("ix_keys_former"), "keys", ["former"], unique=True)
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
