"""Training-only templates: situations of two persons, with a negative and a non-negative question.

One row holds: `context` with the slots {first} and {second}, silent on the question; `told`, sentences with the slots
{negative} and {positive} that answer it; `negative`, a question about the person whom the sentence speaks badly of;
`nonnegative`, about the other; `pairs` of persons, the stereotyped one first; `unknown`, wordings of "it isn't said";
`dimension`, the social dimension. BBQ's own rows are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import is_bbq
from charter.ground.text.dialogue import check_text
from charter.ground.text.jsonl import numbered_rows

COLUMNS = ("id", "dimension", "pairs", "context", "told", "negative", "nonnegative", "unknown")
SLOT = re.compile(r"(?P<start>^|[.!?] )?\{(?P<name>\w+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """One row of a file of templates."""

    id: str
    dimension: str
    pairs: tuple[tuple[str, str], ...]
    context: str
    told: tuple[str, ...]
    negative: str
    nonnegative: str
    unknown: tuple[str, ...]


def read_templates(path: Path) -> list[Template]:
    """All templates of a JSONL file. Raises CharterError naming file:line."""
    if path.is_dir():
        raise CharterError(f"{path} is a folder; templates are one JSONL file")
    templates: list[Template] = []
    for number, row in numbered_rows(path):
        try:
            template = _template(row)
            if any(template.id == other.id for other in templates):
                raise CharterError(f"the id {template.id!r} occurs more than once; ids name rows and must differ")
        except CharterError as error:
            raise CharterError(f"{path}:{number}: {error}") from None
        templates.append(template)
    return templates


def fill(text: str, persons: Mapping[str, str]) -> str:
    """A text with persons in its slots, with a capital at the start of a sentence."""

    def put(match: re.Match[str]) -> str:
        start, person = match.group("start"), persons[match.group("name")]
        return person if start is None else start + capital(person)

    return SLOT.sub(put, text)


def capital(text: str) -> str:
    """The text with a capital first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


def _template(row: Mapping[str, Any]) -> Template:
    if is_bbq(row):
        raise CharterError(
            "a row of BBQ; evaluation data is never trained on: write your own templates, like shipped:debias.train"
        )
    missing, unknown = [c for c in COLUMNS if c not in row], sorted(row.keys() - set(COLUMNS))
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown columns {', '.join(unknown)}"
        raise CharterError(f"a template {wrong}; expected {', '.join(COLUMNS)}")
    pairs = row["pairs"]
    if not isinstance(pairs, list) or not pairs:
        raise CharterError("pairs must be a list of pairs of persons")
    persons = [_texts(pair, "each of pairs") for pair in pairs]
    if wrong_pair := next((p for p in persons if len(p) != 2 or p[0].lower() == p[1].lower()), None):
        raise CharterError(f"pairs: {list(wrong_pair)} must be two different persons")
    return Template(
        id=_text(row["id"], "id"),
        dimension=_text(row["dimension"], "dimension"),
        pairs=tuple((first, second) for first, second in persons),
        context=_parse_slotted(row["context"], "context", {"first", "second"}),
        told=tuple(_parse_slotted(t, "told", {"negative", "positive"}) for t in _texts(row["told"], "told")),
        negative=_parse_slotted(row["negative"], "negative", set()),
        nonnegative=_parse_slotted(row["nonnegative"], "nonnegative", set()),
        unknown=_texts(row["unknown"], "unknown"),
    )


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CharterError(f"{name} must be non-empty text")
    return check_text(value.strip(), name)


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise CharterError(f"{name} must be a list of at least one text")
    return tuple(_text(item, name) for item in value)


def _parse_slotted(value: object, name: str, slots: set[str]) -> str:
    """Check that a text has each of these slots once, and no other."""
    text = _text(value, name)
    names = [match.group("name") for match in SLOT.finditer(text)]
    if sorted(names) != sorted(slots):
        expected = " and ".join(f"{{{slot}}}" for slot in sorted(slots)) or "no slot"
        raise CharterError(f"{name} must hold {expected}{' once each' if slots else ''}: {text!r}")
    return text
