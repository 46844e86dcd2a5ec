r"""Replies as safe HTML, block by block, so that a reply can be shown while it is written.

A block is a paragraph, list, table, quotation or piece of code at the top level. All blocks but the last one are
complete once its first line is: what follows doesn't change them, so only the end is rendered again. HTML in a reply is
shown as text, and what the renderer makes is cleaned by a list of allowed tags. Formulas, `\(...\)`, `\[...\]` and
`$$...$$`, become MathML; a single dollar is money.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, table
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

PROGRAM = Path(__file__).with_name("colouring_program.py")
LONGEST = 2000  # characters
KEPT = 512  # blocks, the longest of which has some 50 KB of HTML
# on a busy machine; the program itself is ended by its processor time
ANSWER_SECONDS, TURN_SECONDS = 5.0, 2.0
_NAMES = """
    bash sh shell zsh; c h; cpp c++ cxx hpp; css; diff patch udiff; docker dockerfile; go golang; html; ini cfg;
    java; javascript js node; json; kotlin; lua; markdown md; php; python py python3; r; ruby rb; rust rs;
    scss; sql; swift; toml; typescript ts; xml; yaml yml
"""
LANGUAGES = {name: names.split()[0] for names in _NAMES.split(";") for name in names.split()}
# what no program has, and what lexers that look for the end of blank lines take long for
_BLANK = re.compile(r"\s{200}")


class Colours:
    """Colours blocks of code, one at a time, from any thread, by a process of its own; results are kept by digest.

    Only blocks of up to 2,000 characters in a measured list of languages: each takes less than half of the program's
    time on hostile code of full length; a test measures it. Code that isn't coloured, for whatever reason, is shown
    plain. `killed`: blocks on which the program ended.
    """

    def __init__(self, command: Sequence[str] = (sys.executable, "-I", str(PROGRAM))) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._kept: OrderedDict[bytes, str] = OrderedDict()
        self.killed = 0

    def colour(self, code: str, language: str) -> str | None:
        """A block as HTML whose words have classes; None for one that stays plain."""
        lexer = LANGUAGES.get(language.lower())
        if lexer is None or len(code) > LONGEST or _BLANK.search(code):
            return None
        digest = sha256(f"{lexer}\n{code}".encode("utf-8", "surrogatepass")).digest()
        if (html := self._kept.get(digest)) is not None:
            return html or None
        if not self._turn.acquire(timeout=TURN_SECONDS):
            return None
        try:
            html = self._ask(json.dumps([lexer, code]).encode() + b"\n")
        except TimeoutError:
            return None
        finally:
            self._turn.release()
        self._keep(digest, html)
        return html or None

    def start(self) -> None:
        """Starts the program, so that the first page doesn't wait for it."""
        with self._turn:
            self._running()

    def close(self) -> None:
        """Ends the program; the next block starts it again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                # what was not sent is sent to nobody
                with suppress(OSError):
                    pipe and pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        return self._process

    def _ask(self, line: bytes) -> str:
        """What the program makes of a block; empty if it ended on it. Raises TimeoutError."""
        try:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(line)
            answer = _line_from(process.stdout.fileno())
            if answer:
                return str(json.loads(answer))
        except TimeoutError:
            self.close()
            raise
        except (OSError, ValueError):
            pass
        self.killed += 1
        self.close()
        return ""

    def _keep(self, digest: bytes, html: str) -> None:
        self._kept[digest] = html
        while len(self._kept) > KEPT:
            with suppress(KeyError):
                self._kept.popitem(last=False)


def _line_from(pipe: int) -> bytes:
    """A line that a program writes; empty if it ended before. Raises TimeoutError."""
    pieces, until = list[bytes](), time.monotonic() + ANSWER_SECONDS
    while not (pieces and pieces[-1].endswith(b"\n")):
        if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError
        if not (piece := os.read(pipe, 1 << 16)):
            return b""
        pieces.append(piece)
    return b"".join(pieces)


COLOURS = Colours()
atexit.register(COLOURS.close)


LONGEST_FORMULA = 2000
MOST_COLOURED = 100  # blocks of code in a text
LONGEST_RENDERED = 100_000  # characters of a text; a longer one is shown as it was written
MOST_MARKS = 20_000  # of a text, a line end counts twice; with more of them it is shown as it was written, too
MOST_RENDERED = 2  # texts of the most work, of one page
LONG_BLOCK, GROWS = 2_000, 8  # characters of a block that is rendered again once it has grown by an eighth
MOST_CELLS = 20_000  # of a table, those that its rows lack included
MOST_ADDRESSES = 200_000  # characters of all links of a text: many may use one definition
MOST_LINES = 50  # of a formula
MOST_FORMULAS = 20_000  # characters of all formulas of a text


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MATHML = _words(
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover "
    "mtable mtr mtd mpadded mphantom menclose mstyle semantics"
)
TAGS = _words(
    "p br hr h1 h2 h3 h4 h5 h6 strong em s code pre span div blockquote ul ol li table thead tbody tr "
    "th td a figure button figcaption"
)
ATTRIBUTES: Mapping[str, set[str]] = {
    "a": {"href"},
    "ol": {"start"},
    "span": {"class"},
    "div": {"class"},
    "code": {"class"},
    "pre": {"class", "tabindex"},
    "th": {"class", "scope"},
    "td": {"class"},
    "math": {"display", "xmlns"},
    "mo": {"stretchy", "fence", "form", "largeop", "lspace", "rspace"},
    "mi": {"mathvariant"},
    "mtd": {"columnalign"},
    "mspace": {"width"},
    "mover": {"accent"},
    "munder": {"accentunder"},
}
SCHEMES = {"http", "https", "mailto"}


_LINE_END = re.compile(r"\r\n?|\n")  # what the renderer takes for one
# what the renderer, in plain Python, takes time for: up to 25 us each
_MARKS = "\n\n\r\r\\`*_~[]!<&$|"


@dataclass
class Writing:
    """A reply that is being written, as blocks of HTML."""

    text: str = ""
    blocks: list[str] = field(default_factory=list)
    _rendered: int = 0  # characters that the blocks show
    _sealed: int = 0  # blocks that won't change
    _begun: int = 0  # characters of the text before the first block that may change
    _whole: int = 0  # blocks that were rendered; one more may show what came since as it was written

    @property
    def waiting(self) -> int:
        """Characters that must be rendered to show the whole text; 0 if it is shown."""
        return len(self.text) - self._begun if self._rendered < len(self.text) else 0

    @property
    def slow(self) -> bool:
        """Whether what must be rendered may hold code, which another process colours."""
        return self.waiting > 0 and any(fence in self.text[self._begun :] for fence in ("```", "~~~"))

    @property
    def sealed(self) -> int:
        """Blocks that won't change."""
        return self._sealed

    def add(self, more: str) -> None:
        """Adds text, which the blocks don't show yet."""
        self.text += more

    def write(self, more: str) -> int:
        """Adds text and shows it. Returns the number of the first block that differs from before."""
        self.add(more)
        return self.show()

    def show(self, ended: bool = True) -> int:
        """Brings the blocks up to the text, of which another thread may add more meanwhile. Returns the number of the
        first block that differs from before. Unless the text has `ended`, a long block is rendered again once it has
        grown by a share; until then a last block shows what came as it was written."""
        text = self.text
        open_length, more = self._rendered - self._begun, len(text) - self._rendered
        if not ended and open_length > LONG_BLOCK and more * GROWS < open_length:
            self.blocks[self._whole :] = [_as_written(text[self._rendered :])]
            return self._whole
        starts, rendered = _split(text[self._begun :])
        self._rendered = len(text)
        before, first = self.blocks[self._sealed :], self._sealed
        self.blocks[first:] = rendered
        self._whole = len(self.blocks)
        for old, new in zip(before, rendered, strict=False):
            if old != new:
                break
            first += 1
        # the line that is being written may yet go on with the block before: `1` becomes `1. one`
        open_blocks = 1 if rendered and _LINE_END.search(text, self._begun + starts[-1]) else 2
        if len(rendered) > open_blocks:
            self._sealed += len(rendered) - open_blocks
            self._begun += starts[-open_blocks]
        return first


def render(text: str) -> list[str]:
    """A complete text as blocks of HTML; links that are named at its end are settled."""
    return _split(text)[1]


def render_many(texts: Sequence[str]) -> list[list[str]]:
    """Complete texts as blocks of HTML; those that exceed the work of MOST_RENDERED of the longest, as written."""
    work_left, rendered = float(MOST_RENDERED), list[list[str]]()
    for text in texts:
        work = _work(text)
        fits = work <= min(work_left, 1)
        rendered.append(render(text) if fits else [_as_written(text)])
        work_left -= work * fits
    return rendered


def _work(text: str) -> float:
    """How much a text is to render; over 1 it is shown as it was written."""
    return max(len(text) / LONGEST_RENDERED, sum(map(text.count, _MARKS)) / MOST_MARKS)


def _as_written(text: str) -> str:
    return f'<div class="text">{escape(text)}</div>'


def _split(text: str) -> tuple[list[int], list[str]]:
    """Where the blocks of a text begin, in characters, and their HTML."""
    if _work(text) > 1:
        return [0], [_as_written(text)]
    renderer, environment = _markdown(), dict[str, Any]()
    tokens = renderer.parse(text, environment)
    lines = [0]
    lines += (end.end() for end in _LINE_END.finditer(text))
    starts, blocks, begun = [], [], 0
    for place, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:  # the end of a block at the top
            block = tokens[begun : place + 1]
            first = block[0].map[0] if block[0].map else 0
            starts.append(lines[first])
            blocks.append(_clean(renderer.renderer.render(block, renderer.options, environment)))
            begun = place + 1
    return starts, blocks


def _clean(html: str) -> str:
    return nh3.clean(
        html,
        tags=set(TAGS | MATHML),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow ugc",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


@cache
def _markdown() -> MarkdownIt:
    renderer = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": False})
    renderer.enable(["table", "strikethrough"]).disable(["html_block", "html_inline", "image"])
    renderer.inline.ruler.before("escape", "formula", _inline_formula)
    renderer.block.ruler.before("fence", "formula", _block_formula, {"alt": ["paragraph"]})
    renderer.add_render_rule("formula", _formula)
    renderer.add_render_rule("fence", _code)
    renderer.add_render_rule("code_block", _code)
    renderer.add_render_rule("link_open", _link)
    renderer.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    for cell in ("th_open", "td_open"):
        renderer.add_render_rule(cell, _cell)
    return renderer


_OPEN = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}


def _inline_formula(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    closing = _OPEN.get(opening)
    if closing is None:
        return False
    # a look that is bounded: text may open a formula at every second letter
    end = state.src.find(closing, state.pos + 2, min(state.posMax, state.pos + LONGEST_FORMULA + 4))
    if end < 0 or not state.src[state.pos + 2 : end].strip():
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.markup = state.src[state.pos + 2 : end], opening
    state.pos = end + 2
    return True


def _block_formula(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula that has its lines to itself."""
    begun = state.bMarks[start] + state.tShift[start]
    closing = {"\\[": "\\]", "$$": "$$"}.get(state.src[begun : begun + 2])
    if closing is None:
        return False
    for line in range(start, min(end, start + MOST_LINES)):
        text = state.src[begun + 2 if line == start else state.bMarks[line] : state.eMarks[line]]
        if text.rstrip().endswith(closing):
            break
        if not text.strip() and line > start:
            return False
    else:
        return False
    formula = state.src[begun + 2 : state.eMarks[line]].rstrip().removesuffix(closing)
    if not formula.strip():
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.markup, token.block, token.map = formula, "\\[", True, [start, line + 1]
        state.line = line + 1
    return True


def _formula(_: Any, tokens: list[Token], place: int, __: Any, environment: dict[str, Any]) -> str:
    """A formula as MathML; one that can't be read, or is over a limit, stays as it was written."""
    token = tokens[place]
    block = token.markup != "\\("
    environment["formulas"] = environment.get("formulas", 0) + len(token.content) + len(token.markup)
    try:
        if len(token.content) > LONGEST_FORMULA or environment["formulas"] > MOST_FORMULAS:
            raise ValueError
        math = convert(token.content.strip(), display="block" if block else "inline")
    except Exception:  # the converter fails in many ways on what isn't a formula
        math = f"<code>{escape(token.markup + token.content + _OPEN[token.markup])}</code>"
    return f'<div class="formula">{math}</div>\n' if token.block else math


_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")


def _code(_: Any, tokens: list[Token], place: int, __: Any, environment: dict[str, Any]) -> str:
    """Code with its language named and its words coloured by classes."""
    token = tokens[place]
    named = _LANGUAGE.match(token.info.strip())
    language = named[0] if named else ""
    coloured = None
    if language.lower() not in LANGUAGES:
        language = language.lower()
    elif environment.setdefault("coloured", 0) < MOST_COLOURED:
        environment["coloured"] += 1
        coloured = COLOURS.colour(token.content, language)
    body = escape(token.content) if coloured is None else coloured
    head = f'<span class="language">{escape(language)}</span>' if language else ""
    return f'<div class="code">{head}<pre tabindex="0"><code>{body}</code></pre></div>\n'


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table, unless it has too many cells: a head of many columns makes every row as wide."""
    if not table(state, start, end, True):
        return False
    columns = 1 + state.src.count("|", state.bMarks[start], state.eMarks[start])
    last = min(end, start + MOST_CELLS // columns)
    if last < end and not any(map(state.isEmpty, range(start, last + 1))):
        return False
    return silent or table(state, start, end, False)


def _link(renderer: Any, tokens: list[Token], place: int, options: Any, environment: dict[str, Any]) -> str:
    """The beginning of a link, without an address once all of them together are too long."""
    address = str(tokens[place].attrs.get("href", ""))
    environment["addresses"] = environment.get("addresses", 0) + len(address)
    tokens[place].attrs = {"href": address} if environment["addresses"] <= MOST_ADDRESSES else {}
    return str(renderer.renderToken(tokens, place, options, {}))


def _cell(renderer: Any, tokens: list[Token], place: int, options: Any, _: Any) -> str:
    """A cell of a table; its alignment is a class, since pages allow no inline style."""
    token = tokens[place]
    aligned = str(token.attrs.pop("style", "")).removeprefix("text-align:")
    if aligned:
        token.attrSet("class", aligned)
    if token.tag == "th":
        token.attrSet("scope", "col")
    return str(renderer.renderToken(tokens, place, options, {}))
