"""Text as every database keeps it: no NUL, and no half of a letter that UTF-16 writes in two halves.

JSON can name both (`\\u0000`, `\\ud800`); SQLite refuses the one and PostgreSQL both.
"""

from __future__ import annotations

import re
from typing import Any

_ODD = re.compile("[\x00\ud800-\udfff]")
_HALF = re.compile("[\ud800-\udbff]\\Z")
NONE = "\ufffd"


def storable_text(text: str) -> str:
    """The text with halves that belong together joined, and a mark for what can't be kept."""
    if not _ODD.search(text):
        return text
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined.replace("\x00", NONE)


def split_half(text: str) -> tuple[str, str]:
    """A text without the first half of a letter at its end, and that half, or nothing."""
    half = _HALF.search(text)
    return (text[:-1], text[-1]) if half else (text, "")


def whole_number(value: Any) -> int:
    """A count as a database keeps it; 0 for anything else."""
    return value if type(value) is int and 0 <= value < 2**31 else 0


def mapping_of(value: Any) -> dict[str, Any]:
    """A mapping from JSON; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def readable(value: Any, depth: int = 4) -> Any:
    """A value of JSON as pages show it: texts that can be kept, lists and mappings of them, not too deep."""
    if isinstance(value, dict) and depth:
        return {storable_text(str(name)): readable(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list) and depth:
        return [readable(item, depth - 1) for item in value]
    return storable_text(str(value)) if value is not None else ""
