"""Which replies may be chosen, by text alone: whole, long enough, no loop, a refusal or an answer as required."""

from __future__ import annotations

import re

from charter.ground.judge.detect import is_loop, is_refusal
from charter.rooms.select.settings import Filters

# The end of a sentence: its mark, closing quotes or brackets, then white space or the text's end.
_END = re.compile(r"(?:[.!?…][\"'”’)\]*_`]*(?=\s|$)|[。！？])")
_SHORT_FORM = re.compile(r"(?:^|\s)\(?(?:e\.g|i\.e|vs|mr|mrs|ms|dr|st|[a-z])\.$", re.I)
_LIST_MARK = re.compile(r"(?:^|\n)[ \t]*\(?\d{1,3}\.$")
_NUMBER = re.compile(r"\d\.$")


def fault(filters: Filters, role: str, text: str, cut: bool) -> str | None:
    """Why a reply to a prompt of a role is dropped, or None; `cut`: it ends at the token limit."""
    if cut and filters.cut != "keep":
        return "cut"
    if len(text.split()) < filters.words:
        return "short"
    if is_loop(text):
        return "loop"
    if role == "harmless" and filters.no_refusal and is_refusal(text):
        return "refusal"
    if role == "prompts" and filters.refusal == "require" and not is_refusal(text):
        return "answer"
    return None


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; empty if there is none.

    The full stop of an abbreviation or of a list number ends no sentence, nor does one after a digit at the very
    end: the cut may have removed decimals.

    >>> whole_sentences("Mix it well. Then bake it for 3.")
    'Mix it well.'
    """
    for mark in reversed(list(_END.finditer(text))):
        upto = text[: mark.end()]
        cut_number = mark.end() == len(text.rstrip()) and _NUMBER.search(upto)
        if not (_SHORT_FORM.search(upto) or _LIST_MARK.search(upto) or cut_number):
            return upto
    return ""
