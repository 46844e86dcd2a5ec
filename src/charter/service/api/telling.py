"""How an account that isn't in good standing is told so with each answer: a header, and an object in the body.

Programs that know neither go on: both companies' clients let further headers and fields pass.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from charter.service.accounts.remembered import Standing

HEADER = "charter-standing"
GOOD = "good"


class StandingNote(BaseModel):
    """Where whoever asked stands, where that isn't good: the organisation (account), or the end user whom the request
    names, whichever stands worse."""

    level: Literal["warned", "enhanced", "throttled", "suspended"]
    of: Literal["account", "user"]
    message: str
    appeal: str


def standing_headers(standing: Standing) -> dict[str, str]:
    """The header, for whoever isn't in good standing."""
    return {} if standing.level == GOOD else {HEADER: standing.level}


def standing_field(standing: Standing) -> dict[str, Any]:
    """`standing` of an answer's body, for whoever isn't in good standing."""
    if standing.level == GOOD:
        return {}
    note = {"level": standing.level, "of": standing.of}
    return {"standing": note | {"message": standing.message, "appeal": standing.appeal}}
