"""Schemas from strangers: patterns and references that would take years are refused, others judged as before."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.forms.patterns import MATCH_SECONDS, matches
from charter.ground.forms.schema import Judge

YEARS = "^(a|aa)+$"
TEXT = "a" * 60 + "b"  # every way of reading the first 60 is tried


def test_a_pattern_that_would_take_years_is_refused() -> None:
    with pytest.raises(CharterError, match="takes more than"):
        matches(YEARS, TEXT)
    judge = Judge({"if": {"pattern": YEARS}, "then": {"maxLength": 3}})
    with pytest.raises(CharterError, match="repetitions"):
        judge.accepts(json.dumps(TEXT))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {YEARS: {}}},
        {"type": "object", "patternProperties": {YEARS: {}}, "additionalProperties": False},
    ],
)
def test_names_are_matched_in_bounded_time(schema: dict[str, Any]) -> None:
    with pytest.raises(CharterError, match="takes more than"):
        Judge(schema).accepts(json.dumps({TEXT: 1}))


def test_patterns_share_the_time_of_a_document() -> None:
    """Twelve that take under the bound each took seconds of everybody's together."""
    slow = [{"if": {"pattern": f"^(a|aa){{9,}}{n}$"}, "then": {"maxLength": 3}} for n in range(12)]
    judge, text = Judge({"allOf": slow}), json.dumps("a" * 24)
    began = time.monotonic()
    with suppress(CharterError):
        judge.accepts(text)
    assert time.monotonic() - began < 2 * MATCH_SECONDS + 0.2
    with pytest.raises(CharterError, match="alone or with others"):
        Judge({"allOf": [{"if": {"pattern": YEARS}, "then": {}}] * 2}).accepts(json.dumps(TEXT))


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(CharterError, match="can't be read"):
        matches("(", "a")


def test_references_that_double_are_refused() -> None:
    defs: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(25)
    }
    judge = Judge({"$defs": {**defs, "d25": {"type": "integer"}}, "$ref": "#/$defs/d0"})
    with pytest.raises(CharterError, match="steps for one document"):
        judge.accepts("1")


def test_unevaluated_properties_beside_patterns_are_refused() -> None:
    with pytest.raises(CharterError, match="leave one of them out"):
        Judge({"patternProperties": {"^a": {}}, "unevaluatedProperties": False})


def test_documents_are_judged_by_names_and_patterns() -> None:
    judge = Judge(
        {
            "properties": {"name": {"pattern": "^[a-z]+$"}},
            "patternProperties": {"^x-": {"type": "integer"}},
            "additionalProperties": False,
        }
    )
    assert judge.accepts('{"name": "ab", "x-a": 1}')
    assert judge.accepts('{"x-a": 1}')
    assert judge.accepts("{}")
    assert not judge.accepts('{"name": "Ab"}')
    assert not judge.accepts('{"x-a": "1"}')
    assert not judge.accepts('{"other": 1}')
    typed = Judge({"additionalProperties": {"type": "integer"}})
    assert typed.accepts('{"a": 1}')
    assert not typed.accepts('{"a": "b"}')
