"""A fenced block of code in Markdown: its fences, and the grammar of free code, which never closes the block."""

from __future__ import annotations

import re

from charter.ground.artifact.errors import CharterError

_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{0,40}")
CODE = "start: LINE*\nLINE: /(`{0,2}[^`\\n\\x00-\\x08\\x0b-\\x1f\\x7f])*`{0,2}\\n/"


def opening(language: str) -> str:
    """The first line of a fence. Raises CharterError if the language is not one word."""
    if not _LANGUAGE.fullmatch(language):
        raise CharterError(f"the language of a code fence is one word such as python; got {language!r}")
    return f"```{language}\n"


def inside(text: str) -> str:
    """The content of a reply that is one fence. Raises CharterError if it isn't one."""
    if (match := re.fullmatch(r"```[^\n`]*\n(.*)```", text, re.DOTALL)) is None:
        raise CharterError("not a code fence; expected ``` and a language, lines, and ``` on its own line")
    return match[1]
