"""Compares a drawing of a card with the same one drawn again, perhaps by another version of matplotlib.

Versions lay figures out a little differently, so numbers that say where something lies may differ by `WITHIN` units.
All else must be equal: elements and their order, texts, styles, colours, what hides or leads away. Nothing is taken
from the record under test, and nothing is parsed more freely than our own drawings are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Units of a drawing's viewBox, which is 288 wide or more.
WITHIN = 1.5
DRAWING = re.compile(r"<svg.*?</svg>", re.DOTALL)
_PIECE = re.compile(r'<(?:/[A-Za-z]+|[A-Za-z]+(?:\s+[A-Za-z:-]+="[^"<>]*")*\s*/?)>|[^<>]+')
_ATTRIBUTE = re.compile(r'([A-Za-z:-]+)="([^"]*)"')
_ID = re.compile(r' id="[^"]*"')
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?")
_PLACES = ("d", "x", "y", "points")
_BOX = ("width", "height")
_NAMED = re.compile(r"(url\(#|^#)([\w-]+)", re.ASCII)
# A name ends in a digest of what it names.
_NAME = re.compile(r"([\w-]+-)[a-z0-9]{1,20}", re.ASCII)
_MOVED = re.compile(r"(?:translate|rotate)\([^()]*\)")


def drawing_problem(stored: str, redrawn: str) -> str:
    """How a drawing differs from the one drawn again, in words for a line; "" if it shows the same."""
    if stored == redrawn:
        return ""
    start = redrawn[: redrawn.index("<svg")]
    pieces, others = (_PIECE.findall(text.removeprefix(start)) for text in (stored, redrawn))
    if start + "".join(pieces) != stored:
        return "holds what no drawing of a card does"
    names: dict[str, str] = {}
    shapes = False
    for piece, other in zip(pieces, others, strict=False):
        # shapes that are used at many places are small, and of no version
        shapes = piece == "<defs>" or (shapes and piece != "</defs>")
        drawn_so = (_ID.sub("", line) for line in (piece, other) if shapes and line.startswith("<path"))
        if len(set(drawn_so)) > 1 or not _alike(piece, other, names):
            return f"has {_short(piece)}, drawn again it is {_short(other)}"
    if len(pieces) != len(others):
        return f"has {len(pieces)} parts, drawn again {len(others)}"
    if len(set(names.values())) != len(names):
        return "uses one name for two things"
    return ""


def page_problem(stored: str, remade: str, drawings: frozenset[str]) -> str:
    """How a page differs from the one made again, "" if only in `drawings` that show the same. Those of the page that
    are not among `drawings` are no work of matplotlib and must be equal, as all that stands between must."""
    at = end = 0
    for match in DRAWING.finditer(remade):
        if match[0] not in drawings:
            continue
        between = remade[end : match.start()]
        close = stored.find("</svg>", at + len(between)) + len("</svg>")
        if not stored.startswith(between + "<svg", at) or close <= at:
            return first_difference(stored, remade)
        if problem := drawing_problem(stored[at + len(between) : close], match[0]):
            return f"a drawing {problem}"
        at, end = close, match.end()
    return "" if stored[at:] == remade[end:] else first_difference(stored, remade)


def first_difference(stored: str, remade: str) -> str:
    """The first line in which two texts differ, with some characters around; "" if they are equal."""
    if stored == remade:
        return ""
    old_lines, new_lines = (text.removesuffix("\n").split("\n") for text in (stored, remade))
    for number, (a, b) in enumerate(zip(old_lines, new_lines, strict=False), 1):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            part = slice(max(0, at - 20), at + 30)
            return f"line {number} has {a[part]!r}, they give {b[part]!r}"
    return f"it has {len(old_lines)} lines, they give {len(new_lines)}"


def _alike(piece: str, other: str, names: dict[str, str]) -> bool:
    """Whether two tags or texts show the same. `names`: of ids of the stored drawing, those of the one drawn again."""
    if not piece.startswith("<"):
        return piece == other
    if _ATTRIBUTE.sub("", piece) != _ATTRIBUTE.sub("", other):
        return False
    ours, theirs = (_ATTRIBUTE.findall(element) for element in (other, piece))
    if [name for name, _ in ours] != [name for name, _ in theirs]:
        # a name given twice is refused here too, since ours has none
        return False
    tag = re.match(r"<[A-Za-z]+", piece)
    box = tag is not None and tag[0] == "<rect"
    return all(
        _value_alike(name, value, expected, names, box)
        for (name, value), (_, expected) in zip(theirs, ours, strict=True)
    )


def _value_alike(name: str, value: str, expected: str, names: dict[str, str], box: bool) -> bool:
    if name == "id":
        return _named(value, expected, names)
    if name == "transform":
        return _moved(value, expected)
    if name in _PLACES or (box and name in _BOX):
        return _near(value, expected)
    if name == "style":
        rules, others = (sorted(text.split("; ")) for text in (value, expected))
        return rules == others or _leads_alike(value, expected, names)
    return _leads_alike(value, expected, names)


def _leads_alike(value: str, expected: str, names: dict[str, str]) -> bool:
    """Whether two values are equal but for names, which must be each other's."""
    if _NAMED.sub(r"\1", value) != _NAMED.sub(r"\1", expected):
        return False
    pairs = zip(_NAMED.findall(value), _NAMED.findall(expected), strict=True)
    return all(_named(name, other_name, names) for (_, name), (_, other_name) in pairs)


def _named(value: str, expected: str, names: dict[str, str]) -> bool:
    ours, theirs = _NAME.fullmatch(value), _NAME.fullmatch(expected)
    alike = value == expected or (ours is not None and theirs is not None and ours[1] == theirs[1])
    return alike and names.setdefault(value, expected) == expected


def _near(value: str, expected: str) -> bool:
    """Whether two lists of places are near each other, number by number."""
    if _NUMBER.sub("0", value).split() != _NUMBER.sub("0", expected).split():
        return False
    pairs = zip(_NUMBER.findall(value), _NUMBER.findall(expected), strict=True)
    return all(abs(float(a) - float(b)) <= WITHIN for a, b in pairs)


def _moved(value: str, expected: str) -> bool:
    """Whether two transforms move alike: equal turns and scales, near places."""
    if _MOVED.sub("", value) != _MOVED.sub("", expected):
        return False
    pairs = zip(_MOVED.findall(value), _MOVED.findall(expected), strict=False)
    return len(_MOVED.findall(value)) == len(_MOVED.findall(expected)) and all(
        list(_fixed(a)) == list(_fixed(b)) and _near(a, b) for a, b in pairs
    )


def _fixed(step: str) -> Iterator[str]:
    """What of a step of a transform may not differ: its kind, and the angle of a turn."""
    kind, _, numbers = step.partition("(")
    yield kind
    if kind == "rotate":
        yield from _NUMBER.findall(numbers)[:1]


def _short(piece: str) -> str:
    text = " ".join(piece.split())
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
