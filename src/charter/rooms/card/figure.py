"""A figure of the card."""

from __future__ import annotations

from dataclasses import dataclass

from charter.ground.reports.number import Source

# Follows the name of a judge that failed its gate.
UNFIT = " (unfit)"


@dataclass(frozen=True, slots=True)
class Figure:
    """An inline <svg> with its caption and its sources. `section` is its place on the page."""

    key: str
    title: str
    caption: str
    svg: str
    sources: tuple[Source, ...]
    wide: bool = False
    section: str = "plots"
