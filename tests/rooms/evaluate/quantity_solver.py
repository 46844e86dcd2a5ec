"""Solves quantitative items from their words alone, by enumeration and by other ways than those that made the key."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from fractions import Fraction

from charter.ground.text.exam_items import Item

F = Fraction
Values = Iterable[Fraction]
LETTERS = "ABCDE"


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"-?\d+", text)]


def value_of(text: str) -> Fraction:
    return F(text)


def share(facts: str, asked: str) -> Values:
    pens, pencils = numbers(facts)
    return [F(sum(thing < pens for thing in range(pens + pencils)), pens + pencils)]


def fractions(facts: str, asked: str) -> Values:
    a, b, c, d = numbers(facts)
    return [F(a * d + c * b, b * d)]


def changes(facts: str, asked: str) -> Values:
    price, rise, fall = numbers(facts)
    risen = F(price) + F(price) * rise / 100
    return [risen - risen * fall / 100]


def remainder(facts: str, asked: str) -> Values:
    divisor, left = numbers(facts)
    times, more, _ = numbers(asked)
    ns = [n for n in range(1, 500) if n % divisor == left]
    return {F((times * n + more) % divisor) for n in ns}


def power(facts: str, asked: str) -> Values:
    _, last = numbers(facts)
    prime = numbers(asked)[0]
    product = 1
    for n in range(1, last + 1):
        product *= n
    k = 0
    while product % prime ** (k + 1) == 0:
        k += 1
    return [F(k)]


def one_not_both(facts: str, asked: str) -> Values:
    first, last = numbers(facts)
    a, b = numbers(asked)
    return [F(sum((n % a == 0) != (n % b == 0) for n in range(first, last + 1)))]


def linear(facts: str, asked: str) -> Values:
    a, b, c = numbers(facts)
    # the line through its values at 0 and 1
    at0, at1 = F(b - c), F(a + b - c)
    return [at0 / (at0 - at1)]


def function(facts: str, asked: str) -> Values:
    a, _, b, c = numbers(facts)
    (at,) = numbers(asked)
    return [F((a * at + b) * at + c)]  # Horner


def system(facts: str, asked: str) -> Values:
    a, b, e, c, d, f = numbers(facts)
    # eliminates x, then puts y in
    y = (F(e) - F(a, c) * f) / (b - F(a, c) * d)
    x = (F(e) - b * y) / a
    assert a * x + b * y == e and c * x + d * y == f
    return [x + y]


def pumps(facts: str, asked: str) -> Values:
    first, second = numbers(facts)
    return [1 / (F(1, first) + F(1, second))]


def roots(facts: str, asked: str) -> Values:
    _, minus_sum, product = re.findall(r"-? ?\d+", facts.split("roots of")[1])[:3]
    total, product_value = -int(minus_sum.replace(" ", "")), int(product)
    found = [n for n in range(1, 200) if n * n - total * n + product_value == 0]
    u, v = found
    return [F(1, u) + F(1, v) if "1/u" in asked else F(u * u + v * v)]


def sequence(facts: str, asked: str) -> Values:
    term, times, more = numbers(facts)
    for _ in range(numbers(asked)[0] - 1):
        term = term * times + more
    return [F(term)]


def rectangle(facts: str, asked: str) -> Values:
    side, perimeter = numbers(facts)
    return {F(side * n) for n in range(1, 100) if 2 * side + 2 * n == perimeter}


def angles(facts: str, asked: str) -> Values:
    first, second = numbers(facts)
    return {F(n) for n in range(1, 180) if first + second + n == 180}


def hypotenuse(facts: str, asked: str) -> Values:
    a, b = numbers(facts)
    return {F(n) for n in range(1, 400) if n * n == a * a + b * b}


def slope(facts: str, asked: str) -> Values:
    x, y, u, v = numbers(facts)
    return [F(y - v, x - u)]


def triangle(facts: str, asked: str) -> Values:
    a, b, c, d, e, f = numbers(facts)
    # the rectangle around it, less the trapezoids below its edges: signed area below each edge
    below = [F((v + y) * (u - x), 2) for (x, y), (u, v) in (((a, b), (c, d)), ((c, d), (e, f)), ((e, f), (a, b)))]
    return [abs(sum(below, F(0)))]


def cube(facts: str, asked: str) -> Values:
    (longer,) = numbers(facts)
    before, after = 100**3, (100 + longer) ** 3
    return [F(100 * (after - before), before)]


def mean(facts: str, asked: str) -> Values:
    values = numbers(facts)
    total = F(0)
    for count, each in enumerate(values, 1):
        total += (each - total) / count  # a running mean
    return [total]


def median(facts: str, asked: str) -> Values:
    left = numbers(facts)
    while len(left) > 2:
        left.remove(min(left))
        left.remove(max(left))
    return [F(sum(left), len(left))]


def one_more(facts: str, asked: str) -> Values:
    count, before, after = numbers(facts)
    return {F(n) for n in range(-500, 800) if F(count * before + n, count + 1) == after}


def balls(facts: str, asked: str) -> Values:
    red, blue = numbers(facts)
    draws = list(itertools.permutations(["red"] * red + ["blue"] * blue, 2))
    return [F(draws.count(("red", "red")), len(draws))]


def committee(facts: str, asked: str) -> Values:
    size, men, women = numbers(facts)
    people = [("man", n) for n in range(men)] + [("woman", n) for n in range(women)]
    chosen = itertools.combinations(people, size)
    return [F(sum(any(sex == "woman" for sex, _ in group) for group in chosen))]


def dice(facts: str, asked: str) -> Values:
    _, sides = numbers(facts)
    (least,) = numbers(asked)
    rolls = list(itertools.product(range(1, sides + 1), repeat=2))
    return [F(sum(sum(roll) >= least for roll in rolls), len(rolls))]


def some_integer(facts: str, asked: str) -> Values:
    low, high = numbers(facts)
    (divisor,) = numbers(asked)
    return {F(n % divisor) for n in range(low + 1, high)}


def two_solutions(facts: str, asked: str) -> Values:
    middle, _, square = map(abs, numbers(facts.replace("- ", "")))
    return {F(n) for n in range(-200, 200) if (n - middle) ** 2 == square}


def third_side(facts: str, asked: str) -> Values:
    a, b = numbers(facts)
    # a grid that is finer than any number that items compare it with
    sides = (F(n, 100) for n in range(1, 100 * (a + b) + 1))
    return {c for c in sides if a + b > c and a + c > b and b + c > a}


def some_median(facts: str, asked: str) -> Values:
    (total,) = numbers(facts)
    triples = ((a, b, total - a - b) for a in range(1, total) for b in range(1, total - a))
    return {F(sorted(triple)[1]) for triple in triples}


SOLVERS: dict[str, Callable[[str, str], Values]] = {
    "A box holds": share,
    "n = ": fractions,
    "A coat costs": changes,
    "When the positive integer": remainder,
    "n is the product": power,
    "Consider the integers": one_not_both,
    "For all numbers x": function,
    "One pump alone": pumps,
    "u and v are": roots,
    "A sequence begins": sequence,
    "A rectangle has": rectangle,
    "Two angles": angles,
    "A right triangle": hypotenuse,
    "A line passes": slope,
    "A triangle has its corners": triangle,
    "Each edge of a cube": cube,
    "The mean of": one_more,
    "An urn holds": balls,
    "A committee of": committee,
    "Two fair dice": dice,
    "n is an integer": some_integer,
    "(x - ": two_solutions,
    "Two sides of a triangle": third_side,
    "The sum of three": some_median,
}
ASKED = (
    re.compile(r"(?P<facts>.+)\nQuantity A: (?P<asked>.+)\nQuantity B: (?P<other>.+)"),
    re.compile(r"(?P<facts>.+?\.) What is (?P<asked>.+)\?(?: Give the exact number\.)?"),
    re.compile(
        r"(?P<facts>.+?\.) Which of these numbers are (?P<words>greater than|at most) (?P<asked>.+)\? Choose all that apply\."
    ),
)


def solver_of(facts: str, asked: str) -> Callable[[str, str], Values]:
    if facts.startswith("A list holds"):
        return mean if "mean" in asked else median
    if " and " in facts and asked == "x + y":
        return system
    if asked == "x" and not facts.startswith("("):
        return linear
    return next(solve for start, solve in SOLVERS.items() if facts.startswith(start))


def solve(item: Item) -> object:
    """The key of an item: letters, or for a numeric item a number."""
    match = next(found for form in ASKED if (found := form.fullmatch(item.question)))
    facts, asked = match["facts"], match["asked"]
    values = set(solver_of(facts, asked)(facts, asked))
    assert values
    if item.kind == "comparison":
        other = value_of(match["other"])
        signs = {(value > other) - (value < other) for value in values}
        return {(1,): "A", (-1,): "B", (0,): "C"}.get(tuple(signs), "D")
    (value,) = values
    if item.kind == "numeric":
        return value
    options = [value_of(option) for option in item.options]
    if item.kind == "single":
        right = [n for n, option in enumerate(options) if option == value]
    else:
        above = match["words"] == "greater than"
        right = [n for n, option in enumerate(options) if (option > value) == above]
    return "".join(LETTERS[n] for n in right)
