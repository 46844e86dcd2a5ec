"""Dates of documents, as exact as they are written. A date is after a cut-off unless it certainly isn't."""

from __future__ import annotations

import calendar
import re
from datetime import date
from typing import NamedTuple

_WRITTEN = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ].*)?)?)?")


class Period(NamedTuple):
    """The first and the last day that a written date may mean: 2023-05 is the whole of May."""

    first: date
    last: date


def as_written(value: object) -> object:
    """Converts what YAML reads as a whole number or a date (2023, 2023-01-31) back to text; other values unchanged."""
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number or isinstance(value, date) else value


def period(text: str) -> Period:
    """The period of a year, month, day or time (2023, 2023-05, 2023-05-17, 2023-05-17T10:00:00Z). Raises ValueError."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a date")
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None
    if day is not None and month is not None:
        return Period(one := date(year, month, day), one)
    last_month = month or 12
    days = calendar.monthrange(year, last_month)[1]
    return Period(date(year, month or 1, 1), date(year, last_month, days))


def is_date(text: str) -> bool:
    """Whether a text is such a date, or empty."""
    try:
        return not text or bool(period(text))
    except ValueError:
        return False


def is_after(document: Period, cutoff: Period) -> bool:
    """Whether a document may be younger than the cut-off: one of 2023 may, if the cut-off is in May 2023."""
    return document.last > cutoff.last
