"""Code in replies: whatever it says, colouring it holds up nobody."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from charter_service.chat.markdown import LANGUAGES, LONGEST, MOST_COLOURED, Colours, render

PIECES = (
    *(" ", "\t", "\n", "\n ", "\r", "\x00", "\u2028", "é", "a", "A", "1", "0x", "1e", "b\n", "a:", "a: ", "- "),
    *("<", "<!--", "-->", "<a", "<a ", "</a", "<script", "<style", "<?", "?>", "<![CDATA[", "&", "&amp", "template<"),
    *("{", "}", "(", "[", "]", ")", "{{", "}}", "$", "${", "$(", "#{", '"', "'", "`", "```", '"""', "'''", 'f"', "f'{"),
    *("#", "//", "/*", "*/", "/**", "--", "-", "\\", "\\\n", "\\x", "\\u{", "|\n", "=", ":", "::", ";", ",", "|", "@"),
    *("%", "%%", "+", "*", "**", "_", "^", "!", "?", "/", "=>", "->", "<<", "<<EOF", "r#", "b'", "e", "E+", "a=", "> "),
    *("def ", "class ", "import ", "from ", "select ", "operator", "#if", "#include <", "@@", "diff ", "+++ ", "!!a"),
)
SEEDS = 70


@pytest.fixture(scope="module")
def colours() -> Iterator[Colours]:
    one = Colours()
    yield one
    one.close()


def hostile(seed: int) -> str:
    """Code of full length: one piece again and again, or two or four of them, in a row or mixed."""
    draw = random.Random(seed)
    pieces = draw.sample(PIECES, (1, 1, 2, 4)[seed % 4])
    many = "".join(pieces) * LONGEST if seed % 3 else "".join(draw.choices(pieces, k=LONGEST))
    return many[: LONGEST - 1] + draw.choice(PIECES)[0]


@pytest.mark.parametrize("language", sorted(set(LANGUAGES.values())))
@pytest.mark.timeout(120)
def test_no_admitted_language_takes_the_time_of_a_block(colours: Colours, language: str) -> None:
    before = colours.killed
    for seed in range(SEEDS):
        colours.colour(hostile(seed), language)
    for piece in PIECES:
        colours.colour((piece * LONGEST)[:LONGEST], language)
    assert colours.killed == before


@pytest.mark.parametrize(
    ("language", "code"),
    [("easytrieve", "\t" * 9900), ("mcschema", "<!--" * 350), ("xpp", "a\n " * 1400), ("easytrieve", "\t" * 1600)],
)
def test_what_froze_the_chat_is_plain_at_once(language: str, code: str) -> None:
    (html,) = render(f"```{language}\n{code}\n```")
    assert "<span class=" not in html.removeprefix(f'<div class="code"><span class="language">{language}')


def test_what_markdown_holds_is_coloured_by_no_other_language() -> None:
    (html,) = render("````markdown\n# A\n```easytrieve\n" + "\t" * 150 + "\n```\n````")
    assert '<span class="gh"># A' in html


def test_a_program_that_takes_too_long_is_started_again(tmp_path: object) -> None:
    ends = "import sys\nfor line in sys.stdin:\n    sys.exit(1) if 'bad' in line else print(1, flush=True)"
    colours = Colours((sys.executable, "-I", "-c", ends))
    assert [colours.colour(code, "c") for code in ("good", "bad", "bad", "better")] == ["1", None, None, "1"]
    assert colours.killed == 1  # the second time it was known
    colours.close()


def test_a_block_is_coloured_once(colours: Colours) -> None:
    counts = "import sys\nfor n, _ in enumerate(sys.stdin): print(n, flush=True)"
    counting = Colours((sys.executable, "-I", "-c", counts))
    shown = [counting.colour(code, name) for code, name in (("a", "py"), ("a", "python"), ("b", "py"), ("a", "py"))]
    assert shown == ["0", "0", "1", "0"]
    counting.close()


def test_a_text_of_blocks_alone_is_coloured_in_part() -> None:
    shown = render("```py\nreturn 1\n```\n\n" * (MOST_COLOURED + 5))
    assert ['<span class="k">' in html for html in shown] == [True] * MOST_COLOURED + [False] * 5
