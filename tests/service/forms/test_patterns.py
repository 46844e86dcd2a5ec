"""Schemas from strangers: patterns and references that would take years are refused, others judged as before."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from charter.ground.artifact.errors import CharterError
from charter_service.forms import schema as patterns
from charter_service.forms.schema import MATCH_SECONDS, Judge, matches

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


def test_patterns_share_the_time_of_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve that take under the bound each took seconds of everybody's together."""
    ticks, left = itertools.count(), []

    def match(pattern: str, text: str, seconds: float) -> bool:
        left.append(seconds)
        return matches(pattern, text)

    steps = patterns.Steps()
    with monkeypatch.context() as slowly:
        slowly.setattr(patterns.time, "monotonic", lambda: 0.04 * next(ticks))
        slowly.setattr(patterns, "matches", match)
        for _ in range(4):
            steps.match("a", "a")
    assert left == pytest.approx([MATCH_SECONDS, MATCH_SECONDS - 0.04, MATCH_SECONDS - 0.08, 0])
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
