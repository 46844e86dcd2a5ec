"""A row a request without its text, sums of usage by day, published policies, and evaluations started from the admin
pages."""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"
branch_labels = None
depends_on = None

_ID, _DIGEST = sa.String(length=64), sa.String(length=64)
_COUNTS = ("requests", "refused", "input_tokens", "cached_tokens", "output_tokens")


def upgrade() -> None:
    """Adds the tables and indexes, and sums the usage so far."""
    _requests()
    _sums()
    op.create_table(
        "policies",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("thresholds", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("copy_of", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_policies")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "evaluations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("tasks", sa.String(length=500), nullable=False),
        sa.Column("questions", sa.Integer(), nullable=False),
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
    )
    _index("evaluations", "created")
    _index("usage", "day", "key", "model")
    _index("feedback", "created", "model", "thumb")


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("organisation", _ID, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("surface", sa.String(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("first_milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_requests")),
        sa.UniqueConstraint("id", name=op.f("uq_requests_id")),
        sqlite_autoincrement=True,
    )
    for column in ("organisation", "key", "model", "status"):
        _index("requests", column, "at")
    _index("requests", "at")


def _sums() -> None:
    op.create_table(
        "usage_sums",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("organisation", _ID, nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("day", "organisation", "model", name=op.f("pk_usage_sums")),
    )
    _index("usage_sums", "organisation", "day")
    names = ", ".join(_COUNTS)
    sums = ", ".join(f"SUM(u.{name})" for name in _COUNTS)
    for whose, group in (("k.organisation", "u.day, k.organisation, u.model"), ("''", "u.day, u.model")):
        op.execute(
            f"INSERT INTO usage_sums (day, organisation, model, {names}) "
            f"SELECT u.day, {whose}, u.model, {sums} FROM usage u JOIN keys k ON k.id = u.key GROUP BY {group}"
        )


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)
