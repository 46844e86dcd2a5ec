"""YAML that is written is read as the same value."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import load
from charter.ground.settings.notation import read_yaml, write_yaml
from charter.ground.settings.recipe import load_recipe
from charter.rooms.behaviours.definition import read_behaviour


@pytest.mark.parametrize(
    "text", ["12e45", "712e99999999", "1e5", "-1.e+4", "0x1f", "yes", "2026-01-01", "null", "1_0", ""]
)
def test_a_text_that_looks_like_a_number_stays_a_text(text: str) -> None:
    assert read_yaml(write_yaml({"classifier": text})) == {"classifier": text}


@given(st.from_regex(r"[0-9e]{12}", fullmatch=True))
def test_a_digest_stays_a_text(digest: str) -> None:
    assert read_yaml(write_yaml([digest])) == [digest]


@pytest.mark.parametrize("value", [2e-5, 1e-30, 1e22, 0.1, 7, True, None])
def test_a_number_stays_a_number(value: object) -> None:
    assert read_yaml(write_yaml({"a": value})) == {"a": value}


BOMB = "\n".join(
    [
        "a: &a [x, x, x, x, x, x, x, x, x]",
        *(f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]" for a, b in pairwise("abcdefghijkl")),
    ]
)
HOSTILE = {
    "aliases of aliases": (BOMB, "more than 100,000 keys and values"),
    "merges of merges": (
        BOMB.replace("[x, x, x, x, x, x, x, x, x]", "{x: 1}").replace("[*", "{<<: [*").replace("]", "]}"),
        "more than",
    ),
    "an alias of itself": ("name: a\nsteps: &s [*s]", "stands within &s itself"),
    "a mapping that holds itself": ("steps: &s {a: [{b: *s}]}", "stands within &s itself"),
    "brackets": ("name: " + "[" * 5000, "nested deeper than 50 levels"),
    "braces": ("name: " + "{a: " * 5000, "nested deeper than 50 levels"),
    "dashes": ("name:\n  " + "- " * 5000 + "a", "nested deeper than 50 levels"),
    "values": ("name: [" + "1," * 200_000 + "]", "more than 100,000 keys and values"),
    "characters": ("name: " + "a" * 5_000_000, "more than 4,194,304 characters"),
    "question marks": ("? " * 5000, "nested deeper than 50 levels"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(60)
def test_a_strangers_recipe_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    text, words = HOSTILE[kind]
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(CharterError, match=words) as raised:
        load_recipe(tmp_path / "recipe.yaml")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


def test_aliases_stand_for_what_they_name() -> None:
    assert read_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\nd: &d 3\ne: *d") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
        "d": 3,
        "e": 3,
    }


def test_a_strangers_constitution_and_behaviour_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BOMB)
    for read in (load, read_behaviour):
        with pytest.raises(CharterError, match="more than 100,000 keys and values"):
            read(tmp_path / "a.yaml")
