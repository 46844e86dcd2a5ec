"""Tells an account that it isn't in good standing with each answer: by a header, and by an object in the body.

Programs that know neither still work: both companies' clients ignore unknown headers and fields.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from charter_service.accounts.remembered import Standing

HEADER = "charter-standing"
GOOD = "good"


class StandingNote(BaseModel):
    """The caller's standing, if it isn't good: that of the organisation (account), or of the end user that the request
    names, whichever is worse."""

    level: Literal["warned", "enhanced", "throttled", "suspended"]
    of: Literal["account", "user"]
    message: str
    appeal: str


def standing_headers(standing: Standing) -> dict[str, str]:
    """The header, for a caller that isn't in good standing."""
    return {} if standing.level == GOOD else {HEADER: standing.level}


def standing_field(standing: Standing) -> dict[str, Any]:
    """`standing` of an answer's body, for a caller that isn't in good standing."""
    if standing.level == GOOD:
        return {}
    note = {"level": standing.level, "of": standing.of}
    return {"standing": note | {"message": standing.message, "appeal": standing.appeal}}
