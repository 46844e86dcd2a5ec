"""The calculator: right, exact, and bounded, whatever it is given."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charter_service.tools.arithmetic import Calculator, calculate
from charter_service.tools.tool import ANYWHERE, ToolFailure


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("0.1 + 0.2", "0.3"),
        ("(1 + 2) * (3 - 4) / 5", "-0.6"),
        ("2 ^ 3 ^ 2", "512"),
        ("-2 ^ 2", "-4"),
        ("2 ** -1", "0.5"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("3 × 4 ÷ 2 − 1", "5"),
        ("1e3 + .5", "1000.5"),
        ("1 / 7", "0.142857142857143"),
        ("sqrt(2)", "1.4142135623731"),
        ("sin(pi)", "0"),
        ("ln(e)", "1"),
        ("log(1000)", "3"),
        ("round(2.675, 2)", "2.68"),
        ("max(1, 2, 3) + min(4, 5)", "7"),
        ("factorial(20)", "2432902008176640000"),
        ("123456789 * 987654321", "121932631112635269"),
        ("floor(-1.5) + ceil(1.2) + abs(-3)", "3"),
    ],
)
def test_it_is_right(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("1 / 0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("9 ^ 9 ^ 9 ^ 9", "over 10"),
        ("factorial(100000)", "0 to 1000"),
        ("(" * 100, "deeper than 50"),
        ("2^" * 200 + "2", "deeper than 50"),
        ("1 +", "ends where"),
        ("1 2", "could end"),
        ("(1", "closing parenthesis"),
        ("__import__('os')", "not arithmetic"),
        ("os.system", "not arithmetic"),
        ("os", "number is expected"),
        ("sqrt 4", "parentheses"),
        ("sqrt(-1)", "no value"),
        ("ln(0)", "no value"),
        ("sin(1e9000)", "no value"),
        ("round(1, 2, 3)", "1 to 2"),
        ("٣ + 1", "not arithmetic"),
    ],
)
def test_what_can_not_be_computed_is_told(expression: str, problem: str) -> None:
    with pytest.raises(ToolFailure, match=problem) as failure:
        Calculator().run({"expression": expression}, ANYWHERE)
    assert failure.value.code == "invalid_tool_input"


@pytest.mark.parametrize("arguments", [{}, {"expression": 3}, {"expression": ""}, {"expression": "1\0"}])
def test_a_missing_expression_is_told(arguments: dict[str, object]) -> None:
    with pytest.raises(ToolFailure, match="expression"):
        Calculator().run(arguments, ANYWHERE)
    with pytest.raises(ToolFailure, match="at most 500"):
        Calculator().run({"expression": "1+" * 300 + "1"}, ANYWHERE)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("0123456789.+-*/%^() ,eπsqrtlnpiab"), max_size=60))
@example("9999^9999")
@example("1e9999*1e9999")
@example("1e-9999/1e9999")
def test_whatever_it_is_given_it_answers_or_refuses(text: str) -> None:
    with suppress(ValueError):
        Decimal(calculate(text))


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_whole_numbers_are_exact(a: int, b: int) -> None:
    assert calculate(f"({a}) + ({b})") == str(a + b)
    assert calculate(f"({a}) * ({b})") == str(a * b)
    if b:
        assert calculate(f"({a}) // ({b})") == str(a // b)
        assert calculate(f"({a}) % ({b})") == str(a % b)
