"""Settings and roles of the serve room."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from charter.ground.artifact.kinds import Kind
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role

PRODUCT: Kind = "judgments"
VARIANT = None
ROLES: dict[str, Role] = {}


class Settings(Frozen):
    """What users and reviewers said of a served model's replies, frozen: thumbs, reports, and verdicts on them."""

    database: str = Field(
        "",
        description="URL or file of the accounts' database, without a password; empty: serve.sqlite beside the run",
    )
    content: bool = Field(
        False, description="keep the text that was sent in with reports; without it a row has no text"
    )

    @field_validator("database")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if "://" in value and urlsplit(value).password:
            raise ValueError("the URL must not hold a password; give it by PGPASSWORD or a .pgpass file")
        return value


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Next to nothing: rows are read and written."""
    return Estimate(disk_gib=0.001)
