"""Builds grammar rules in llguidance's dialect of Lark: names for expressions, and terminals of scalars.

Characters are the printable ones (letters, marks, digits, punctuation, symbols) and the space, so that no parser
changes or refuses any. Numbers have at most 18 digits before and after the point.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from llguidance import regex_to_lark

from charter.ground.artifact.errors import CharterError
from charter_service.forms.shapes import Field, Scalar, Value

PRINTED = r"\p{L}\p{M}\p{N}\p{P}\p{S}"
_DAY = r"((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_ZONE = r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_YEAR = r"(19|20)[0-9]{2}-"
FORMATS = {
    "date": _YEAR + _DAY,
    "time": _CLOCK + _ZONE,
    "date-time": _YEAR + _DAY + "T" + _CLOCK + _ZONE,
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "email": r"[a-z0-9]+([._-][a-z0-9]+){0,4}@[a-z0-9]+(-[a-z0-9]+){0,4}(\.[a-z]{2,12}){1,3}",
    "ipv4": r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
}
_INTEGER = r"/(0|-?[1-9][0-9]{0,17})/"
_NUMBER = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?/"


class Rules:
    """Rules and terminals by name; the same expression gets one name."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, str] = {}

    def terminal(self, expression: str) -> str:
        """The name of a terminal: one regular expression, with & and ~ allowed between /parts/."""
        return self._name("T", expression)

    def rule(self, expression: str) -> str:
        """A rule's name."""
        return self._name("r", expression)

    def reserve(self) -> str:
        """A name for a rule that is defined later, for recursion."""
        name = f"r{len(self._names)}"
        self._names[name] = name
        return name

    def define(self, name: str, expression: str) -> None:
        """Defines the rule of a reserved name."""
        self._lines.append(f"{name}: {expression}")

    def text(self, start: str) -> str:
        """The whole grammar."""
        return "\n".join([f"start: {start}", *self._lines])

    def _name(self, kind: str, expression: str) -> str:
        key = f"{kind}: {expression}"
        if key not in self._names:
            self._names[key] = name = f"{kind}{len(self._names)}"
            self._lines.append(f"{name}: {expression}")
        return self._names[key]


def quote(text: str) -> str:
    """A literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)


def pattern_of(value: Value) -> str | None:
    """The regular expression that a text must match as a whole, from `pattern` and `format`; None if there is none.

    Raises CharterError for a format without an expression.
    """
    patterns: list[str] = []
    if (form := value.bounds.get("format")) is not None:
        if form not in FORMATS:
            known = ", ".join(FORMATS)
            raise CharterError(f"the format {form!r} at {value.at} isn't supported here; supported: {known}")
        patterns.append(f"/{FORMATS[form]}/")
    if (pattern := value.bounds.get("pattern")) is not None:
        inner = pattern.removeprefix("^")
        anchored = inner.endswith("$") and not inner.endswith("\\$")
        inner = regex_to_lark(inner[:-1] if anchored else inner, use_ascii="dw")
        head = "" if pattern.startswith("^") else "(?s:.*)"
        patterns.append(f"/{head}({inner}){'' if anchored else '(?s:.*)'}/")
    return " & ".join(patterns) or None


def length_of(value: Value) -> tuple[int, int | None]:
    """Least and most characters of a text (None: no limit)."""
    return int(value.bounds.get("minLength", 0)), value.bounds.get("maxLength")


def repeat(expression: str, least: int, most: int | None) -> str:
    """A rule's expression, repeated `least` to `most` times; empty if it may not come at all."""
    return f"({expression}){times(least, most)}" if most != 0 else ""


def times(least: int, most: int | None) -> str:
    """A number of repetitions, as a grammar writes it."""
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def number_rule(rules: Rules, value: Value) -> str:
    """A number's rule, by the grammar's own arithmetic if it has bounds."""
    if not value.bounds:
        return rules.terminal(_INTEGER if value.kind == "integer" else _NUMBER)
    schema = {"type": value.kind, **value.bounds, "x-guidance": {"whitespace_flexible": False}}
    return rules.rule(f"%json {json.dumps(schema)}")


def literal_text(value: Scalar) -> str:
    """A scalar as JSON writes it, a text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def fields_in_order(
    rules: Rules, fields: Sequence[Field], written: Sequence[str], between: str
) -> tuple[str, bool]:
    """A rule for one or more fields in their order, each once, or left out if not required, with `between` between
    two; and whether none of them is required. `written`: the rule of each field."""
    rest = ""
    first: list[str] = []
    for field, rule in zip(reversed(fields), reversed(written), strict=True):
        here = f"{rule} {rest}".strip()
        first = [here] if field.required else [here, *first]
        after = f"{quote(between)} {rule}" if between else rule
        rest = rules.rule(f"{after} {rest}" if field.required else f"({after})? {rest}".strip())
    return rules.rule(" | ".join(first)), not any(field.required for field in fields)


def printable(text: str, but: str = "") -> bool:
    """Whether a text has only printable characters, and none of `but`."""
    return all(c.isprintable() and c not in but for c in text)
