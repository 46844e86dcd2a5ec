"""Replies that are meant to be slow, deep or dangerous, each as long as a text that is rendered may be."""

from __future__ import annotations

import re

import pytest

from charter_service.chat import markdown
from charter_service.chat.markdown import (
    LONGEST_RENDERED,
    MATHML,
    MOST_MARKS,
    MOST_RENDERED,
    TAGS,
    Writing,
    render,
    render_many,
)


def long(piece: str, most: int = LONGEST_RENDERED) -> str:
    return (piece * (most // len(piece) + 1))[:most]


HOSTILE = {
    "bidirectional marks": long("\u202ea\u2066b\u2069"),
    "marks on one letter": "a" + "\u0301\u0489\u20dd" * 33_000,
    "quotations in quotations": long("> ", 20_000) + "a",
    "a quotation a level deeper in each line": "\n".join(">" * depth + " a" for depth in range(1, 400)),
    "lists in lists": "\n".join("  " * depth + "- a" for depth in range(300)),
    "lists and quotations in turn": long("- > 1. ", 20_000) + "a",
    "definitions of links": "".join(f"[a{n}]: /b\n" for n in range(2400)) + "".join(f"[a{n}] " for n in range(2400)),
    "one definition that many links use": "[a]: " + "b" * 40_000 + "\n\n" + "[a]" * 5000,
    "footnotes": "".join(f"[^{n}] " for n in range(3000)) + "".join(f"\n[^{n}]: a" for n in range(2000)),
    "numbers of characters": long("&#1114111;&#0;&#x110000;&#xD800;", 90_000),
    "an entity without an end": "&#" + "1" * 99_000,
    "a table of 5,000 columns": "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n|" + "b|" * 5000,
    "a table whose rows lack columns": "|" + "a|" * 1500 + "\n|" + "-|" * 1500 + "\n" + "|b\n" * 5000,
    "fractions in fractions": "\\[" + "\\frac{a}{" * 180 + "b" + "}" * 180 + "\\]",
    "braces in braces": "\\[" + "{" * 990 + "}" * 990 + "\\]",
    "macros that double": "\\[\\def\\a{\\b\\b}\\def\\b{\\a\\a}\\newcommand{\\c}{\\c\\c}\\a\\b\\c\\]",
    "formulas that are opened alone": long("\\( ", MOST_MARKS),
    "pictures": long("![a](https://example.org/a.png) ", 100_000)[: MOST_MARKS * 4],
    "one address of 99,000 letters": "<http://" + "a" * 99_000 + ">",
    "one link of 99,000 letters": "[a](https://example.org/" + "%41" * 33_000 + ")",
    "runs of backticks, each longer": "".join("`" * n + " " for n in range(190)),
    "fences, each longer": "\n".join("`" * n for n in range(3, 180)),
    "underlines that may be headings": long("a\n===\n---\n", MOST_MARKS),
    "families of emoji": long("\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f"),
    "addresses of data": long("[a](data:text/html;base64,PHNjcmlwdD4=) "),
    "addresses of scripts": long("[a](java&#115;cript:alert(1)) [b](\tjavascript:alert(1)) [c](vbscript:a) "),
    "100 blocks of unknown code": "".join(f"```easytrieve{n}\n" + "\t" * 800 + "\n```\n" for n in range(100)),
    "stars of odd numbers": "".join("*" * (n % 7) + "a" + "_" * (n % 5) for n in range(4000)),
    "strokes": long("~~a~~~ ~b~ ", MOST_MARKS),
    "tags": long("<a href=x><b onclick=y>", 99_000),
    "a comment without an end": "<!--" + "-" * 99_000,
    "line ends of every kind": long("a\r\n\u2028\u2029\x0b\x0c\x85b\r", MOST_MARKS),
    "a number of 99,000 digits begins a list": "1" * 99_000 + ". a",
    "escapes": long("\\*\\_\\[\\]\\<\\&", MOST_MARKS),
    "half letters": long("\ud800a"),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_reply_is_shown_and_nothing_in_it_runs(kind: str) -> None:
    text = HOSTILE[kind].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert len(text) <= LONGEST_RENDERED
    blocks = render(text)
    html = "".join(blocks)
    assert html.strip() or kind.startswith("definitions")
    tags = re.findall(r"<\s*/?([a-zA-Z0-9]+)([^>]*)>", html)
    assert {name.lower() for name, _ in tags} <= TAGS | MATHML
    for _, attributes in tags:
        assert not re.search(r"\bon\w+\s*=|\bstyle\s*=|src\s*=|script:|data:", attributes, re.I)
    # each character of a table may be a cell of some 30, each of a formula as many of MathML
    assert len(html) < 40 * len(text) + 2000, len(html)
    # while it is written, the last pieces
    writing = Writing(text[:-200])
    writing.show()
    writing.write(text[-200:])
    assert writing.text == text


def test_a_long_list_that_is_written_in_small_steps_is_rendered_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, real = list[int](), markdown._split

    def counted(text: str) -> tuple[list[int], list[str]]:
        sizes.append(len(text))
        return real(text)

    monkeypatch.setattr(markdown, "_split", counted)
    text = "".join(f"- item {n} \\(\\frac{{a}}{{b}}\\) `code`\n" for n in range(500))
    writing = Writing()
    for place in range(0, len(text), 20):
        writing.add(text[place : place + 20])
        writing.show(ended=False)
        newest = re.findall(r"item \d+ ", writing.text)[-1]
        words = re.sub(r"<[^>]*>|\s", "", "".join(writing.blocks))
        assert newest.replace(" ", "") in words, "all that is written is shown"
    assert sum(sizes) < 20 * len(text), "22 thousand characters were rendered some 500 times"
    writing.show()
    assert writing.blocks == render(text)


def test_a_page_of_many_long_texts_shows_the_later_ones_as_they_were_written() -> None:
    hard, easy = long("*a* ", 2 * MOST_MARKS), "*a*"
    blocks = render_many([hard] * (2 * MOST_RENDERED) + [easy, "b" * LONGEST_RENDERED * 2])
    rich = ["<em>" in "".join(one) for one in blocks]
    assert rich == [True] * MOST_RENDERED + [False] * MOST_RENDERED + [False, False]
    assert render_many([easy] * 50) == [render(easy)] * 50
