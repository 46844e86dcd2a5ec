"""The ink and paper of every page: colours in light and in dark, those of plots among them, and fonts."""

from pathlib import Path

PAPER = Path(__file__).with_name("paper.css").read_text("utf-8")


def style_sheet(own: Path) -> str:
    """A page's style sheet behind what all pages share."""
    return PAPER + own.read_text("utf-8")
