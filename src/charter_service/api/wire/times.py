"""Times in the API's format."""

from __future__ import annotations

import datetime


def rfc3339(seconds: float | None) -> str | None:
    """Seconds since 1970 in RFC 3339, UTC, to the second; None for no time."""
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=0)
    return moment.isoformat().replace("+00:00", "Z")
