"""What tables and numbers look like in a terminal."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Standard output; tables in a pipe aren't cut to 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def plain_table(words: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """A table without lines: columns of words, then columns of numbers, which stand on the right."""
    table = Table(box=None, pad_edge=False)
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def amount(value: float | None, unit: str = "") -> str:
    """One decimal; - when unknown."""
    if value is None:
        return "-"
    return f"<0.1{unit}" if 0 < value < 0.05 else f"{value:.1f}{unit}"


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits, from 1,000 on whole numbers, or - when unknown."""
    if value is None:
        return "-"
    words = f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
    return words.replace("-", "−") + unit


def visible(text: str) -> str:
    """A stranger's text as one line: characters that could steer a terminal are written as escapes."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def counted(number: int, things: str) -> str:
    """A number of things, whose plural ends in s: 1 prompt, 2 prompts."""
    return f"{number} {things if number != 1 else things.removesuffix('s')}"
