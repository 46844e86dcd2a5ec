"""The schema of accounts: the tables of `tables.py`, and triggers that no library writes.

Decisions up to the newest anchor may be deleted, and an anchor must be a row of decisions when it is added. The first
migration behind this one freezes here what `tables.py` had until then.
"""

from charter_service.accounts.tables import METADATA
from charter_service.web.append_only import keep_numbers, keep_rows, make_tables, refuse_row

revision = "v0012"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes all tables and triggers."""
    make_tables(METADATA)
    keep_rows("decisions", deletable="OLD.number <= (SELECT COALESCE(MAX(number), 0) FROM anchors)")
    for table in ("standings", "acts", "anchors"):
        keep_rows(table)
    for table in ("decisions", "standings", "acts"):
        keep_numbers(table)
    unknown = "NOT EXISTS (SELECT 1 FROM decisions WHERE number = NEW.number AND chain = NEW.chain)"
    refuse_row("anchors", "anchors_are_rows", "INSERT", unknown, "an anchor is a row of decisions")
