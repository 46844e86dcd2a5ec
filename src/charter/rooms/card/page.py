"""How templates print: through the ledger, so that no figure without a source stands on a page.

What a template prints is escaped for Markdown. Written for the page, numbers carry marks that `markup` turns into
elements.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from charter.ground.artifact.kinds import CARD_PAGE, CARD_RECORD
from charter.ground.reports.number import Number
from charter.rooms.card.figure import Figure
from charter.rooms.card.layout import IDS
from charter.rooms.card.ledger import Kept, Ledger
from charter.rooms.card.markup import ASIDE, AT, BESIDE, END, MARKS, NUMBER, html_of

# Goes up when the page says other things of the same run; a card of another format is made anew, not verified.
FORMAT = 2
JSON, HTML, MARKDOWN = CARD_RECORD, CARD_PAGE, "card.md"
HERE = Path(__file__).parent
LINE = 100  # characters of a reply in Markdown, whose blocks don't wrap
SPECIAL = re.compile(r"[\\`*\[\]<|~&]|(?<!\w)_|_(?!\w)|^>|^[#+-](?=\s)|^[=-]+$|^\d+(?=[.)]\s)")


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
KINDS: dict[str, Any] = {
    "undefined": StrictUndefined,
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": True,
    "bytecode_cache": COMPILED,
    "autoescape": True,  # of Markdown too: so that what a macro returns isn't escaped again
}


def frame(ledger: Ledger) -> Environment:
    """The template of the page around its Markdown, whose expressions are escaped for HTML."""
    templates = Environment(loader=FileSystemLoader(HERE), finalize=ledger.printed, **KINDS)
    templates.filters |= {"span": ledger.span, "count": ledger.count}
    return templates


class Printer:
    """Prints the expressions of a template as Markdown; with `page`, numbers carry marks and `sources` holds what the
    marks point at."""

    def __init__(self, ledger: Ledger, page: bool) -> None:
        self.ledger, self.page = ledger, page
        self.sources: list[str] = []

    def printed(self, value: object) -> Markup:
        """What an expression becomes. Raises CharterError for a figure without a source."""
        if isinstance(value, Markup):
            return value
        if not isinstance(value, Number):
            return Markup(escaped(str(self.ledger.printed(value))))
        words = self.ledger.value(value)
        if not self.page:
            return Markup(words)
        self.sources.append(self.ledger.source(value))
        return Markup(f"{NUMBER}{len(self.sources) - 1}{AT}{words}{END}")

    def interval(self, number: Number) -> Markup:
        """The interval behind a value; nothing if there is none."""
        return self._beside(self.ledger.span(number), " ({})")

    def rows(self, number: Number) -> Markup:
        """How many rows are behind a value; nothing if that isn't known."""
        return self._beside(self.ledger.count(number), ", {}")

    def aside(self, words: str) -> Markup:
        """What the page says in small letters, and the Markdown doesn't."""
        return Markup(f"{ASIDE}{escaped(words)}{END}") if self.page and words else Markup("")

    def small(self, words: str) -> Markup:
        """What follows in small letters, after a semicolon in Markdown; nothing if there are no words."""
        return self.aside(words) if self.page or not words else Markup(f"; {escaped(words)}")

    def fenced(self, text: str, kind: str = "") -> Markup:
        """A block of text that Markdown leaves alone, whatever is in it; its long lines are broken unless it's for the
        page. `kind`: what it is, `prompt` or `reply`."""
        longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
        fence = "`" * max(3, longest + 1)
        lines = text.split("\n")
        if not self.page:
            wrapped = (textwrap.wrap(line, LINE, replace_whitespace=False) or [""] for line in lines)
            lines = [part for line in wrapped for part in line]
        return Markup(
            "\n".join([f"{fence}text {kind}".rstrip(), *(MARKS.sub("\ufffd", x) for x in lines), fence])
        )

    def _beside(self, words: str, form: str) -> Markup:
        if not words:
            return Markup("")
        return Markup(f" {BESIDE}{words}{END}" if self.page else form.format(words))


def environment(printer: Printer) -> Environment:
    """Templates of the card room."""
    templates = Environment(loader=FileSystemLoader(HERE), finalize=printer.printed, **KINDS)
    ledger = printer.ledger
    templates.filters |= {
        "span": ledger.span,
        "count": ledger.count,
        "interval": printer.interval,
        "rows": printer.rows,
        "aside": printer.aside,
        "small": printer.small,
        "code": code,
        "address": Markup,
        "fenced": printer.fenced,
        "quoted": quoted,
        "kept": lambda words: Kept(words or ""),
    }
    return templates


def escaped(text: str) -> str:
    """Text in a paragraph or a cell of Markdown, on one line, as it reads."""
    line = MARKS.sub("\ufffd", re.sub(r"\s*\n\s*", " ", text))
    return SPECIAL.sub(lambda match: f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}", line)


def code(text: object) -> Markup:
    """A name in code style, also in a cell."""
    words = MARKS.sub("\ufffd", str(text).replace("\n", " ")).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", words)), default=0))
    pad = " " if "`" in words else ""
    return Markup(f"{ticks}{pad}{words}{pad}{ticks}")


def quoted(words: str) -> Markup:
    """A block of Markdown as a quote."""
    lines = str(words).strip("\n").split("\n")
    return Markup("\n".join(f"> {line}".rstrip() for line in lines) + "\n")


def written(template: str, ledger: Ledger, context: Mapping[str, Any]) -> str:
    """A template as the Markdown of a card."""
    return str(environment(Printer(ledger, page=False)).get_template(template).render(**context, page=False))


def paged(
    template: str, ledger: Ledger, context: Mapping[str, Any], drawn: Sequence[Figure]
) -> tuple[str, list[tuple[str, str]]]:
    """A template as HTML, and (id, title) of its sections of the second level."""
    printer = Printer(ledger, page=True)
    words = environment(printer).get_template(template).render(**context, page=True)
    drawings = {f"plots/{figure.key}.svg": figure for figure in drawn}
    contents = [(key, title) for key, title in sections_of(words) if f"\n## {title}\n" in words]
    return html_of(words, printer.sources, drawings), contents


def sections_of(words: str) -> list[tuple[str, str]]:
    """(id, title) of each section of a card's Markdown, in order."""
    titles = re.findall(r"^###? (.+)$", words, re.MULTILINE)
    return [(IDS[title], title) for title in titles if title in IDS]


def lengths_of(words: str) -> list[tuple[str, str, int]]:
    """(id, title, words below it) of each section of a card's Markdown, in order; a part's words are those of its
    sections."""
    heads = [m for m in re.finditer(r"^(###?) (.+)$", words, re.MULTILINE) if m[2] in IDS]
    lengths = []
    for at, head in enumerate(heads):
        ends = (h.start() for h in heads[at + 1 :] if len(h[1]) <= len(head[1]))
        below = words[head.end() : next(ends, len(words))]
        lengths.append(
            (
                IDS[head[2]],
                head[2],
                len(re.findall(r"\w+", re.sub(r"^###? .*$", "", below, flags=re.MULTILINE))),
            )
        )
    return lengths
