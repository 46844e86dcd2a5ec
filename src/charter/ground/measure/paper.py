"""The style that all pages share: light and dark colours, also of plots, and fonts."""

from pathlib import Path

PAPER = Path(__file__).with_name("paper.css").read_text("utf-8")


def style_sheet(own: Path) -> str:
    """The shared style sheet followed by a page's own."""
    return PAPER + own.read_text("utf-8")
