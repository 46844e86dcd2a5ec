"""How templates print: through the ledger, so that no figure without a source stands on a page."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket

from charter.rooms.card.number import Ledger

FORMAT = 1
JSON, HTML, MARKDOWN = "card.json", "card.html", "card.md"
HERE = Path(__file__).parent
LINE = 100  # characters of a reply in Markdown, whose blocks don't wrap


class Compiled(BytecodeCache):
    """Templates that this process has compiled: each card has an environment of its own, with its own ledger."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Takes the code of a template that hasn't changed."""
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keeps the code of a template."""
        self._code[bucket.key] = bucket.bytecode_to_string()


COMPILED = Compiled()


def environment(ledger: Ledger, escape: bool) -> Environment:
    """Templates of the card room; `escape` for HTML."""
    found = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=escape,
        finalize=ledger.printed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=COMPILED,
    )
    found.filters |= {
        "span": ledger.span,
        "count": ledger.count,
        "source": ledger.source,
        "cell": _cell,
        "fenced": _fenced,
    }
    return found


def _cell(value: object) -> str:
    """Text inside a cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _fenced(text: str) -> str:
    """A block of text that Markdown leaves alone, whatever is in it, its long lines broken."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, LINE, replace_whitespace=False) or [""]
    ]
    return "\n".join([f"{fence}text", *lines, fence])
