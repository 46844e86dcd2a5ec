"""YAML that is written is read as the same value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.settings.notation import read_yaml, write_yaml


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
