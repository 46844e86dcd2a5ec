"""How templates print: through the ledger, so that no figure without a source stands on a page; and the card's Markdown
as HTML.

One template writes the card. What it prints is escaped for Markdown. For the page it is written once more with marks
around its numbers, and the tokens of its Markdown become sections, folded parts, tables with captions, and drawings in
the page. Text of models and people is escaped twice over: in Markdown by the templates, in HTML by the parser, which
knows no raw HTML.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token
from markupsafe import Markup

from charter.ground.artifact.kinds import CARD_PAGE, CARD_RECORD
from charter.ground.reports.number import Number
from charter.rooms.card.drawing import Figure
from charter.rooms.card.layout import FOLDED, IDS
from charter.rooms.card.ledger import Kept, Ledger

JSON, HTML, MARKDOWN = CARD_RECORD, CARD_PAGE, "card.md"
HERE = Path(__file__).parent
# Marks in the text of the page: a number with the place of its source, what stands small beside it, the end of both.
NUMBER, AT, BESIDE, ASIDE, END, BREAK = "\ue000", "\ue001", "\ue002", "\ue003", "\ue004", "\ue005"
MARKS = re.compile(f"[{NUMBER}-{BREAK}]")
FOLD = re.compile(r"<details><summary>(.+)</summary>|</details>")
VERDICTS = {"TIP": "fit", "WARNING": "doubt", "CAUTION": "not", "NOTE": "note"}
ARROWS = {"↓": "lower is better", "↑": "higher is better", "→ 0": "nearer to 0 is better"}
UNFIT = "†"
FEW = 4  # columns of a table whose first one has room for a sentence
PROMPT, REPLY = "text prompt", "text reply"  # how fences of both begin
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
        return Markup("\n".join([f"{fence}text {kind}".rstrip(), *(MARKS.sub("\ufffd", x) for x in lines), fence]))

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
            (IDS[head[2]], head[2], len(re.findall(r"\w+", re.sub(r"^###? .*$", "", below, flags=re.MULTILINE))))
        )
    return lengths


def html_of(words: str, sources: Sequence[str], drawings: Mapping[str, Figure]) -> str:
    """HTML of Markdown that was written for the page.

    `sources`: what a number's mark points at. `drawings`: address -> picture; another picture stays text, so that the
    page loads nothing.
    """
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Page).enable("table")
    parser.block.ruler.before("fence", "fold", _fold, {"alt": ["paragraph"]})
    parser.disable("html_block")
    tokens = _join_figures(parser.parse(words), drawings)
    _caption_tables(tokens)
    _name_verdicts(tokens)
    _shape_cells(tokens)
    return _unmarked(parser.renderer.render(_with_sections(tokens), parser.options, {}), sources)


def _fold(state: StateBlock, start: int, _end: int, silent: bool) -> bool:
    """A block rule for the two lines of a fold; templates alone write them, since they escape `<` in all they print."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    match = FOLD.fullmatch(line)
    if match is None:
        return False
    if not silent:
        state.line = start + 1
        token = state.push("fold_open" if match[1] else "fold_close", "details", 1 if match[1] else -1)
        token.content = match[1] or ""
        token.block = True
    return True


def _caption_tables(tokens: list[Token]) -> None:
    """The paragraph in bold before a table becomes its caption; other tables are called after the last heading."""
    heading = ""
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.type == "heading_open":
            heading = _plain(tokens[at + 1])
        if token.type == "table_open":
            before = tokens[at - 3 : at] if at >= 3 else []
            bold = bool(before) and before[0].type == "paragraph_open" and before[1].content.startswith("**")
            token.meta["caption"] = before[1].children if bold else None
            token.meta["name"] = _plain(before[1]).partition(".")[0] if bold else heading
            end = next(i for i in range(at, len(tokens)) if tokens[i].type == "thead_close")
            token.meta["columns"] = sum(head.type == "th_open" for head in tokens[at:end])
            if bold:
                del tokens[at - 3 : at]
                at -= 3
        at += 1


def _name_verdicts(tokens: list[Token]) -> None:
    """Quotes that begin with [!TIP] and the like are verdicts; others hold a prompt with its replies, each below a line
    that says whose it is."""
    verdict = ""
    for at, token in enumerate(tokens):
        if token.type == "blockquote_open":
            first = tokens[at + 2]
            mark = re.match(r"\[!(\w+)\]", first.content) if first.type == "inline" else None
            verdict = VERDICTS.get(mark[1], "note") if mark else ""
            if mark and (words := first.children):
                breaks = (i for i, child in enumerate(words) if child.type == "softbreak")
                del words[: next(breaks, len(words) - 1) + 1]
        if token.type in ("blockquote_open", "blockquote_close"):
            token.meta["verdict"] = verdict
        if token.type == "fence" and token.info == REPLY and tokens[at - 1].type == "paragraph_close":
            tokens[at - 3].attrSet("class", "who")


def _shape_cells(tokens: list[Token]) -> None:
    """Cells: the head of a row is a <th>, each carries its column's name, what follows a semicolon has its own line."""
    names: list[str] = []
    column, in_head = 0, False
    for at, token in enumerate(tokens):
        if token.type == "thead_open":
            names, in_head = [], True
        elif token.type == "thead_close":
            in_head = False
        elif token.type == "tr_open":
            column = 0
        elif token.type in ("th_open", "td_open"):
            inline = tokens[at + 1]
            left = token.attrs.pop("style", None) is None and column > 0
            if left:
                token.attrSet("class", "left")
            if in_head:
                names.append(_plain(inline))
                token.attrSet("scope", "col")
            elif column == 0:
                token.tag = tokens[at + 2].tag = "th"
                token.attrSet("scope", "row")
            else:
                token.attrSet("data-label", names[column])
                if UNFIT in inline.content:
                    token.attrJoin("class", "unfit")
            for child in (inline.children or ()) if not in_head else ():
                if child.type == "text":
                    child.content = child.content.replace("; ", BREAK)
            column += 1


def _plain(inline: Token) -> str:
    """The text of a heading or a head's cell, without marks and asides."""
    text = "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))
    text = re.sub(f"[{BESIDE}{ASIDE}][^{END}]*{END}", "", text)
    return re.sub(f"{NUMBER}\\d+{AT}|{MARKS.pattern}", "", text).strip()


def _join_figures(tokens: list[Token], drawings: Mapping[str, Figure]) -> list[Token]:
    """A paragraph that is one picture, and the caption below it, become a figure; neighbours share a frame."""
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        inline = tokens[at + 1] if tokens[at].type == "paragraph_open" else None
        image = inline.children[0] if inline and inline.children and len(inline.children) == 1 else None
        address = str(image.attrGet("src")) if image and image.type == "image" else ""
        if address not in drawings:
            out.append(tokens[at])
            at += 1
            continue
        if out and out[-1].type == "figures_close":
            out.pop()
        else:
            out.append(Token("figures_open", "div", 1))
        caption = tokens[at + 4].children
        out.append(Token("drawing", "figure", 0, meta={"drawing": drawings[address], "caption": caption}))
        out.append(Token("figures_close", "div", -1))
        at += 6
    return out


def _with_sections(tokens: list[Token]) -> list[Token]:
    """The tokens with a <section> around what stands below each heading of the second or third level that has an id,
    and a fold around each part."""
    out: list[Token] = []
    levels: list[tuple[int, bool]] = []  # of the sections that are open: level, folded

    def close(level: int) -> None:
        while levels and levels[-1][0] >= level:
            out.append(Token("section_close", "section", -1, meta={"folded": levels.pop()[1]}))

    for at, token in enumerate(tokens):
        key = IDS.get(_plain(tokens[at + 1]), "") if token.type == "heading_open" else ""
        if token.tag in ("h2", "h3") and key:
            level, folded = int(token.tag[1]), key in FOLDED
            close(level)
            out.append(Token("section_open", "section", 1, meta={"key": key, "folded": folded}))
            levels.append((level, folded))
            token.attrSet("id", f"{key}-h")
            token.meta["folded"] = tokens[at + 2].meta["folded"] = folded
        out.append(token)
    close(2)
    return out


def _unmarked(page: str, sources: Sequence[str]) -> str:
    """Marks become elements: a number with its source as a title, an interval or a count beside it."""

    def number(match: re.Match[str]) -> str:
        return f'<span class="v" title="{escape(sources[int(match[1])])}">{match[2]}</span>'

    page = re.sub(f"{NUMBER}(\\d+){AT}([^{END}]*){END}", number, page)
    page = re.sub(f"{BESIDE}([^{END}]*){END}", r'<span class="i">\1</span>', page)
    page = re.sub(f"{ASIDE}([^{END}]*){END}", r"<small>\1</small>", page)
    page = re.sub(r"(<th scope=[^>]*>[^<]*) (→ 0|[↓↑])", _spoken_arrow, page)
    return page.replace(BREAK, "<br>")


def _spoken_arrow(match: re.Match[str]) -> str:
    """A head's arrow with what it says to who can't see it."""
    words = ARROWS[match[2]]
    return f'{match[1]}&nbsp;<span role="img" aria-label="{words}" title="{words}">{match[2]}</span>'


class _Page(RendererHTML):
    """How the page's tokens are written: markdown-it calls the method that is named like a token's type."""

    def section_open(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        key = tokens[at].meta["key"]
        fold = "<details>" if tokens[at].meta["folded"] else ""
        return f'\n<section id="{key}" aria-labelledby="{key}-h">{fold}\n'

    def section_close(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        return f"{'</details>' if tokens[at].meta['folded'] else ''}</section>\n"

    def heading_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        fold = "<summary>" if tokens[at].meta.get("folded") else ""
        return fold + self.renderToken(tokens, at, options, env)

    def heading_close(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        return f"</{tokens[at].tag}>{'</summary>' if tokens[at].meta.get('folded') else ''}\n"

    def fold_open(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        return f"<details><summary>{escape(tokens[at].content)}</summary>\n"

    def fold_close(self, _tokens: Sequence[Token], _at: int, _options: Any, _env: Any) -> str:
        return "</details>\n"

    def blockquote_open(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        verdict = tokens[at].meta["verdict"]
        return f'<div class="verdict {verdict}">\n' if verdict else "<article>\n"

    def blockquote_close(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        return "</div>\n" if tokens[at].meta["verdict"] else "</article>\n"

    def fence(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        text = escape(tokens[at].content.removesuffix("\n"), quote=False)
        if tokens[at].info == PROMPT:
            return f'<p class="prompt">{text}</p>\n'
        if tokens[at].info == REPLY:
            return f"<blockquote>{text}</blockquote>\n"
        return f"<pre><code>{text}\n</code></pre>\n"

    def image(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        return escape(tokens[at].content)

    def figures_open(self, _tokens: Sequence[Token], _at: int, _options: Any, _env: Any) -> str:
        return '<div class="figs">\n'

    def figures_close(self, _tokens: Sequence[Token], _at: int, _options: Any, _env: Any) -> str:
        return "</div>\n"

    def drawing(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        drawing = tokens[at].meta["drawing"]
        wide = ' class="wide"' if drawing.wide else ""
        caption = self.renderInline(tokens[at].meta["caption"], options, env)
        frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(drawing.title)}">'
        return f"<figure{wide}>{frame}{drawing.svg}</div><figcaption>{caption}</figcaption></figure>\n"

    def table_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        table = tokens[at].meta
        caption, name = table["caption"] or (), escape(table["name"])
        words = self.renderInline(caption, options, env) if caption else f'<span class="hidden">{name}</span>'
        frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        return f'{frame}<table class="{"few" if table["columns"] <= FEW else "many"}"><caption>{words}</caption>\n'

    def table_close(self, _tokens: Sequence[Token], _at: int, _options: Any, _env: Any) -> str:
        return "</table></div>\n"

    def td_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return self.renderToken(tokens, at, options, env) + ("<div>" if tokens[at].tag == "td" else "")

    def td_close(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        return "</div></td>" if tokens[at].tag == "td" else "</th>"

    def strong_open(self, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
        text = tokens[at + 1].content if at + 1 < len(tokens) else ""
        verdict = next((v for v in ("better", "worse") if text.endswith(f", {v}")), "")
        return f'<strong class="{verdict}">' if verdict else "<strong>"
