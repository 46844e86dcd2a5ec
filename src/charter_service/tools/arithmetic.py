"""The calculator: arithmetic read by a small parser and computed in decimals of bounded size.

    sum     = product (("+" | "-") product)*
    product = sign (("*" | "/" | "//" | "%") sign)*
    sign    = ("+" | "-")* power
    power   = atom (("^" | "**") sign)?
    atom    = number | constant | function "(" sum ("," sum)* ")" | "(" sum ")"

Numbers have 40 digits, so that 0.1 + 0.2 is 0.3; no input takes long, since digits, length and depth are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow
from typing import Any

from charter_service.tools.tool import Domains, ToolFailure, one_text, text_of

LONGEST = 500  # characters of an expression
DEEPEST = 50  # parentheses in parentheses
DIGITS, SHOWN = 40, 15
LARGEST_EXPONENT = 9999
LARGEST_FACTORIAL = 1000
_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(\*\*|//|[-+*/%^(),])|([a-z]\w*))", re.A
)
_SAME = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


def _context() -> Context:
    return Context(
        prec=DIGITS, Emax=LARGEST_EXPONENT, Emin=-LARGEST_EXPONENT, traps=[InvalidOperation, DivisionByZero, Overflow]
    )


def _real(function: Callable[[float], float]) -> Callable[[Context, Decimal], Decimal]:
    """A function of floats, to the 15 places that they hold."""

    def computed(context: Context, x: Decimal) -> Decimal:
        if not math.isfinite(number := float(x)):
            raise OverflowError
        return context.create_decimal(repr(round(function(number), SHOWN)))

    return computed


def _rounded(mode: str) -> Callable[[Context, Decimal], Decimal]:
    return lambda context, x: x.to_integral_value(mode)


def _round(context: Context, x: Decimal, places: Decimal = Decimal(0)) -> Decimal:
    if places != places.to_integral_value() or abs(places) > DIGITS:
        raise ValueError(f"round takes a whole number of places up to {DIGITS}")
    return context.quantize(x, Decimal(1).scaleb(-int(places)))


def _factorial(context: Context, x: Decimal) -> Decimal:
    if x != x.to_integral_value() or not 0 <= x <= LARGEST_FACTORIAL:
        raise ValueError(f"factorial takes a whole number from 0 to {LARGEST_FACTORIAL}")
    return context.create_decimal(math.factorial(int(x)))


FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Decimal]]] = {  # fewest and most arguments
    "sqrt": (1, 1, lambda context, x: context.sqrt(x)),
    "abs": (1, 1, lambda context, x: context.abs(x)),
    "exp": (1, 1, lambda context, x: context.exp(x)),
    "ln": (1, 1, lambda context, x: context.ln(x)),
    "log": (1, 1, lambda context, x: context.log10(x)),
    "sin": (1, 1, _real(math.sin)),
    "cos": (1, 1, _real(math.cos)),
    "tan": (1, 1, _real(math.tan)),
    "floor": (1, 1, _rounded("ROUND_FLOOR")),
    "ceil": (1, 1, _rounded("ROUND_CEILING")),
    "round": (1, 2, _round),
    "factorial": (1, 1, _factorial),
    "min": (1, 20, lambda context, *xs: min(xs)),
    "max": (1, 20, lambda context, *xs: max(xs)),
}
CONSTANTS = {
    "pi": Decimal("3.141592653589793238462643383279502884197"),
    "e": Decimal("2.718281828459045235360287471352662497757"),
}


def calculate(expression: str) -> str:
    """The value of an expression, with 15 digits unless it is whole. Raises ValueError with the problem."""
    parser = _Parser(expression.translate(_SAME))
    try:
        value = parser.whole()
    except DivisionByZero:
        raise ValueError("a division by zero") from None
    except Overflow:
        raise ValueError(f"a number over 10^{LARGEST_EXPONENT}") from None
    except (DecimalException, OverflowError):
        raise ValueError("a function gets a number for which it has no value") from None
    return _text_of(value)


def _text_of(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("a function gets a number for which it has no value")
    if value == value.to_integral_value() and value.adjusted() < DIGITS:
        return f"{value.quantize(Decimal(1), context=_context()) or Decimal(0):f}"
    short = Context(prec=SHOWN).create_decimal(value).normalize()
    plain = -SHOWN <= short.adjusted() < SHOWN
    return f"{short:f}" if plain else str(short)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens, self._at, self._depth, self._context = _tokens(text), 0, 0, _context()

    def whole(self) -> Decimal:
        value = self._sum()
        if self._at < len(self._tokens):
            raise ValueError(f"{self._tokens[self._at]!r} stands where the expression could end")
        return value

    def _next(self, *expected: str) -> str:
        """The next token if it is one of these, else ""."""
        token = self._tokens[self._at] if self._at < len(self._tokens) else ""
        if token not in expected:
            return ""
        self._at += 1
        return token

    def _sum(self) -> Decimal:
        value = self._product()
        while sign := self._next("+", "-"):
            other = self._product()
            value = self._context.add(value, other) if sign == "+" else self._context.subtract(value, other)
        return value

    def _product(self) -> Decimal:
        context, value = self._context, self._sign()
        while sign := self._next("*", "/", "//", "%"):
            other = self._sign()
            if sign == "*":
                value = context.multiply(value, other)
            elif not other:
                raise DivisionByZero
            elif sign == "/":
                value = context.divide(value, other)
            else:
                quotient = context.divide(value, other).to_integral_value("ROUND_FLOOR")
                remainder = context.subtract(value, context.multiply(quotient, other))
                value = quotient if sign == "//" else remainder
        return value

    def _sign(self) -> Decimal:
        negative = False
        while sign := self._next("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return self._context.minus(value) if negative else value

    def _power(self) -> Decimal:
        value = self._atom()
        if not self._next("^", "**"):
            return value
        with _Deeper(self):
            return self._context.power(value, self._sign())

    def _atom(self) -> Decimal:
        if self._at >= len(self._tokens):
            raise ValueError("the expression ends where a number is expected")
        with _Deeper(self):
            token = self._tokens[self._at]
            self._at += 1
            if token == "(":
                value = self._sum()
                self._close()
                return value
            if token in CONSTANTS:
                return CONSTANTS[token]
            if token in FUNCTIONS:
                return self._call(token)
            if token[0].isdigit() or token[0] == ".":
                return self._context.create_decimal(token)
            names = ", ".join((*FUNCTIONS, *CONSTANTS))
            raise ValueError(f"{token[:40]!r} stands where a number is expected; known names are {names}")

    def _call(self, name: str) -> Decimal:
        fewest, most, function = FUNCTIONS[name]
        if not self._next("("):
            raise ValueError(f"{name} needs parentheses")
        values = [self._sum()]
        while self._next(","):
            values.append(self._sum())
        self._close()
        if not fewest <= len(values) <= most:
            raise ValueError(f"{name} takes {fewest if fewest == most else f'{fewest} to {most}'} numbers")
        return function(self._context, *values)

    def _close(self) -> None:
        if not self._next(")"):
            raise ValueError("a closing parenthesis is missing")


class _Deeper:
    """Counts parentheses in parentheses, so that none can exhaust the stack."""

    def __init__(self, parser: _Parser) -> None:
        self._parser = parser

    def __enter__(self) -> None:
        self._parser._depth += 1
        if self._parser._depth > DEEPEST:
            raise ValueError(f"parentheses and powers go deeper than {DEEPEST}")

    def __exit__(self, *_: object) -> None:
        self._parser._depth -= 1


def _tokens(text: str) -> list[str]:
    tokens, at, text = list[str](), 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text[at : at + 20].strip()!r} is not arithmetic")
        tokens.append(match[match.lastindex or 0])
        at = match.end()
    return tokens


class Calculator:
    """The tool."""

    name, kind = "calculator", "calculator_20261201"
    description = (
        "Computes an arithmetic expression exactly: + - * / // % ^, parentheses, sqrt, abs, round, min, max, ln, log, "
        "exp, sin, cos, tan, floor, ceil, factorial, pi, e."
    )
    schema = one_text("expression", "such as (3 + 4) * 1.5", LONGEST)

    def run(self, arguments: Mapping[str, Any], _: Domains) -> dict[str, Any]:
        """Expression and value."""
        expression = text_of(arguments, "expression", LONGEST)
        try:
            return {"type": "calculator_result", "expression": expression, "value": calculate(expression)}
        except ValueError as error:
            raise ToolFailure("invalid_tool_input", f"the expression can't be computed: {error}") from None
