"""Replies as HTML: the same block by block as at once, nothing that runs, formulas as MathML, money as money."""

from __future__ import annotations

import random
import re
from html import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter_service.chat.markdown import LONGEST_RENDERED, MOST_FORMULAS, Writing, render

LINES = st.sampled_from(
    [
        "A paragraph with *stress* and `code`.",
        "# A head",
        "- one",
        "  - inner",
        "1. first",
        "> said",
        "```python",
        "x = 1 < 2",
        "```",
        "| a | b |",
        "|---|--:|",
        "| 1 | 2 |",
        "\\[ x^2 \\]",
        "Costs $5, not $6.",
        "---",
        "",
        "",
        "    indented",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=14), st.integers(0, 2**16))
def test_block_by_block_is_the_same_as_at_once(lines: list[str], seed: int) -> None:
    text, chance, writing = "\n".join(lines), random.Random(seed), Writing()
    place = 0
    while place < len(text):
        size = chance.randint(1, 9)
        writing.write(text[place : place + size])
        place += size
    assert writing.text == text
    assert "".join(writing.blocks) == "".join(render(text))


def test_only_what_changed_is_told() -> None:
    writing = Writing()
    assert writing.write("One.\n\nTwo.\n\nThr") == 0
    assert writing.write("ee.") == 2 and len(writing.blocks) == 3


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](https://elsewhere.example/pixel.png)",
        '<https://e.example/"onmouseover=alert(1)>',
        "```html\n<script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "\\[ \\text{<script>alert(1)</script>} \\]",
        "\\( \\href{javascript:alert(1)}{x} \\)",
        "| <b onclick=x> | <style>*{}</style> |\n|---|---|\n| <iframe> | <svg onload=x> |",
        "<a href='x' style='position:fixed'>y</a>",
        '# <math><mi//xlink:href="data:x,<script>alert(4)</script>">',
    ],
)
def test_nothing_in_a_reply_runs_or_loads(text: str) -> None:
    html = "".join(render(text))
    tags = re.findall(r"<\s*([a-zA-Z]+)([^>]*)>", html)
    assert not {name.lower() for name, _ in tags} & {"script", "img", "iframe", "svg", "style", "form", "input"}
    for _, attributes in tags:
        assert not re.search(r"\bon\w+\s*=|\bstyle\s*=|javascript:|data:", attributes, re.I)


def test_formulas_are_mathml_and_money_is_money() -> None:
    assert "<math" in render("So \\(x^2\\) it is.")[0]
    assert 'display="block"' in render("$$\na + b\n$$")[0]
    assert render("It costs $5 and $6.") == ["<p>It costs $5 and $6.</p>\n"]
    assert "\\(" in render("\\( unclosed")[0] or "( unclosed" in render("\\( unclosed")[0]


def test_code_names_its_language_and_is_coloured_by_classes() -> None:
    html = render("```python\nreturn 1\n```")[0]
    assert '<span class="language">python</span>' in html and '<span class="k">return</span>' in html
    assert "style=" not in html


# what took two seconds and more at LONGEST_RENDERED
@pytest.mark.parametrize(
    "piece", ["[", "![[", "=\n", "a\n=\n", "a\n\n", "> a\n\n", "_a_ ", "a\n-\n", "|a|\n|-|\n\n", "[]("]
)
def test_a_text_of_marks_alone_is_shown_as_it_was_written(piece: str) -> None:
    whole = (piece * LONGEST_RENDERED)[:LONGEST_RENDERED]
    assert render(whole) == [f'<div class="text">{escape(whole)}</div>']
    writing = Writing()
    writing.write(whole)
    assert "".join(writing.blocks) == render(whole)[0]


def test_a_long_reply_of_the_usual_kind_is_rendered() -> None:
    part = "# A head\n\nSome *words* and `code`, [a link](https://example.org) as well.\n\n- one\n- two\n\n"
    code = "```text\ndef a_function(self, values: list[int]) -> int:\n    return self._of[values[0]]\n```\n\n"
    prose = "This sentence stands for those of which most replies consist. " * 10 + "\n\n"
    text = (part + code + prose) * 110
    assert 85_000 < len(text) < LONGEST_RENDERED and "<h1>" in render(text)[0]


def test_formulas_are_read_up_to_a_limit() -> None:
    formula = "x + " * 400 + "x"
    shown = render(f"\\[ {formula} \\]\n\n" * (MOST_FORMULAS // len(formula) + 1))
    assert all("<math" in html for html in shown[:-1])
    assert shown[-1] == f'<div class="formula"><code>\\[ {formula} \\]</code></div>\n'
