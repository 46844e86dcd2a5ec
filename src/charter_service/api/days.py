"""Days that an admin page shows, and bars of its chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from charter_service.api.admin_entrance import Visit
from charter_service.api.errors import invalid

DAYS, MOST_DAYS = 30, 366
HEIGHT, STEP = 120, 16  # of a chart, in its own units


def days_of(visit: Visit) -> tuple[date, date]:
    """The requested days, by default the last thirty. Raises ApiError."""
    today = datetime.now(UTC).date()
    try:
        until = date.fromisoformat(visit.query("until") or today.isoformat())
        since = date.fromisoformat(visit.query("since") or (until - timedelta(DAYS - 1)).isoformat())
    except (ValueError, OverflowError):
        raise invalid("since, until: expected days such as 2026-11-26", "since") from None
    if not 0 <= (until - since).days < MOST_DAYS:
        raise invalid(
            f"since must not be after until, and the range may have at most {MOST_DAYS} days", "since"
        )
    return since, until


def bars(days: Sequence[date], lower: Mapping[str, int], upper: Mapping[str, int]) -> dict[str, Any]:
    """Bars of two counts a day, one on the other, in the chart's own units: `wrote` below, `read` above."""
    totals = [(lower.get(day.isoformat(), 0), upper.get(day.isoformat(), 0)) for day in days]
    most = max((below + above for below, above in totals), default=0)
    drawn = []
    for place, (day, (below, above)) in enumerate(zip(days, totals, strict=True)):
        wrote = HEIGHT * below / most if most else 0.0
        read = HEIGHT * above / most if most else 0.0
        drawn.append(
            {
                "x": place * STEP,
                "day": day.isoformat(),
                "wrote": round(wrote, 2),
                "read": round(read, 2),
                "wrote_y": round(HEIGHT - wrote, 2),
                "read_y": round(HEIGHT - wrote - read, 2),
                "lower": below,
                "upper": above,
            }
        )
    return {"bars": drawn, "width": STEP * len(days), "height": HEIGHT, "most": most}


def each_day(since: date, until: date) -> list[date]:
    """All days of a range."""
    return [since + timedelta(n) for n in range((until - since).days + 1)]
