"""Settings and roles of the feedback_export room."""

from __future__ import annotations

from pydantic import Field

from charter.ground.settings.frozen import Database, Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes

ROLES: dict[str, Role] = {}


class Settings(Frozen):
    """What users and reviewers said of a served model's replies, frozen: thumbs, reports, and verdicts on them."""

    database: Database = Field(
        "", description="URL or file of the accounts' database, without a password; empty: serve.sqlite beside the run"
    )
    content: bool = Field(
        False, description="keep the text that was sent in with reports; without it a row has no text"
    )


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Almost nothing: it only reads and writes rows."""
    return Estimate(disk_gib=0.001)


ROOM = Room(product="judgments", settings=Settings, roles=ROLES, estimate=estimate, extra="serve")
