"""Tries of a batch's requests, when its results were removed, keys that make a batch once, and anchors: where the log
of decisions begins once its oldest rows were removed.

Rows of the log may be deleted up to the newest anchor, which must be a row of the log when it is added.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None

WORDS = "decisions are only ever added to"
ANCHORS = "anchors are only ever added to"
STRANGE = "an anchor is a row of decisions"


def upgrade() -> None:
    """Adds columns and tables, and lets what is before an anchor be deleted."""
    op.add_column("batch_items", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("batches", sa.Column("removed", sa.Double(), nullable=True))
    op.create_table(
        "made_once",
        sa.Column("organisation", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation"], ["organisations.id"], name=op.f("fk_made_once_organisation")
        ),
        sa.PrimaryKeyConstraint("organisation", "name", name=op.f("pk_made_once")),
    )
    op.create_index(op.f("ix_made_once_batch"), "made_once", ["batch"], unique=False)
    op.create_table(
        "anchors",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_anchors")),
    )
    if op.get_bind().dialect.name == "postgresql":
        _postgresql()
    else:
        _sqlite()


def _sqlite() -> None:
    op.execute("DROP TRIGGER decisions_stay_delete")
    op.execute(
        "CREATE TRIGGER decisions_stay_delete BEFORE DELETE ON decisions "
        "WHEN OLD.number > (SELECT COALESCE(MAX(number), 0) FROM anchors) "
        f"BEGIN SELECT RAISE(ABORT, '{WORDS}'); END"
    )
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER anchors_stay_{change.lower()} BEFORE {change} ON anchors "
            f"BEGIN SELECT RAISE(ABORT, '{ANCHORS}'); END"
        )
    op.execute(
        "CREATE TRIGGER anchors_are_rows BEFORE INSERT ON anchors "
        "WHEN NOT EXISTS (SELECT 1 FROM decisions WHERE number = NEW.number AND chain = NEW.chain) "
        f"BEGIN SELECT RAISE(ABORT, '{STRANGE}'); END"
    )


def _postgresql() -> None:
    op.execute("DROP TRIGGER decisions_stay ON decisions")
    op.execute(
        "CREATE TRIGGER decisions_stay BEFORE UPDATE OR TRUNCATE ON decisions "
        "FOR EACH STATEMENT EXECUTE FUNCTION decisions_stay()"
    )
    op.execute(
        "CREATE FUNCTION decisions_stay_behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF OLD.number > (SELECT COALESCE(MAX(number), 0) FROM anchors) THEN "
        f"RAISE EXCEPTION '{WORDS}'; END IF; RETURN OLD; END $$"
    )
    op.execute(
        "CREATE TRIGGER decisions_stay_behind BEFORE DELETE ON decisions "
        "FOR EACH ROW EXECUTE FUNCTION decisions_stay_behind()"
    )
    op.execute(
        "CREATE FUNCTION anchors_stay() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{ANCHORS}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER anchors_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON anchors "
        "FOR EACH STATEMENT EXECUTE FUNCTION anchors_stay()"
    )
    op.execute(
        "CREATE FUNCTION anchors_are_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NOT EXISTS (SELECT 1 FROM decisions WHERE number = NEW.number AND chain = NEW.chain) THEN "
        f"RAISE EXCEPTION '{STRANGE}'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER anchors_are_rows BEFORE INSERT ON anchors "
        "FOR EACH ROW EXECUTE FUNCTION anchors_are_rows()"
    )
