"""Quantitative items by seed: four topics, three difficulties, four kinds, each with an exact key.

A template gives facts, what is asked of them, and its exact value; the kind makes an item of these. Every item can be
made anew, so that no training data can hold it. Tests derive each key a second time, from the item's words alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import comb
from typing import Any

from charter.ground.text.exam_items import Item, parse_item

EXAM = "GRE-shaped"
DIFFICULTIES = ("easy", "medium", "hard")
KINDS = ("comparison", "single", "select_all", "numeric")
OPTIONS = 5
TRIPLES = ((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25))


@dataclass(frozen=True, slots=True)
class Problem:
    """Facts, what is asked, and the value; `low` and `high` if it may be anything from one to the other. `open_ends`:
    the ends themselves are excluded."""

    facts: str
    asked: str
    low: Fraction
    high: Fraction
    open_ends: bool = False


Template = Callable[[random.Random], Problem]


def _exact(facts: str, question: str, value: Fraction | int) -> Problem:
    return Problem(facts, question, Fraction(value), Fraction(value))


def _share(rng: random.Random) -> Problem:
    pens, pencils = rng.randint(2, 20), rng.randint(2, 20)
    facts = f"A box holds {pens} pens and {pencils} pencils, and nothing else."
    return _exact(facts, "the ratio of pens to all things in the box", Fraction(pens, pens + pencils))


def _sum_of_fractions(rng: random.Random) -> Problem:
    a, b, c, d = (rng.randint(1, 9) for _ in range(4))
    b, d = b + 1, d + 1
    return _exact(f"n = {a}/{b} + {c}/{d}.", "n", Fraction(a, b) + Fraction(c, d))


def _two_changes(rng: random.Random) -> Problem:
    price, rise, fall = 20 * rng.randint(2, 30), 5 * rng.randint(1, 10), 5 * rng.randint(1, 10)
    facts = f"A coat costs ${price}. Its price rises by {rise} percent, and then falls by {fall} percent."
    value = price * (1 + Fraction(rise, 100)) * (1 - Fraction(fall, 100))
    return _exact(facts, "the final price of the coat, in dollars", value)


def _remainder(rng: random.Random) -> Problem:
    divisor = rng.randint(4, 12)
    remainder, times, more = rng.randint(1, divisor - 1), rng.randint(2, 9), rng.randint(1, 20)
    facts = f"When the positive integer n is divided by {divisor}, the remainder is {remainder}."
    question = f"the remainder when {times}n + {more} is divided by {divisor}"
    return _exact(facts, question, (times * remainder + more) % divisor)


def _power_in_factorial(rng: random.Random) -> Problem:
    last, prime = rng.randint(12, 60), rng.choice((2, 3, 5, 7))
    power, quotient = 0, last
    while quotient := quotient // prime:
        power += quotient
    facts = f"n is the product of all integers from 1 to {last}."
    return _exact(facts, f"the greatest integer k for which {prime}^k is a divisor of n", power)


def _one_not_both(rng: random.Random) -> Problem:
    last, (a, b) = rng.randint(60, 200), rng.choice(((2, 3), (3, 5), (4, 7), (5, 6), (3, 8), (5, 7)))
    facts = f"Consider the integers from 1 to {last}."
    question = f"the number of these integers that are divisible by {a} or by {b}, but not by both"
    return _exact(facts, question, last // a + last // b - 2 * (last // (a * b)))


def _linear(rng: random.Random) -> Problem:
    a, b, c = rng.randint(2, 12), rng.randint(1, 30), rng.randint(1, 60)
    return _exact(f"{a}x + {b} = {c}.", "x", Fraction(c - b, a))


def _function(rng: random.Random) -> Problem:
    a, b, c, at = rng.randint(2, 7), rng.randint(2, 9), rng.randint(1, 20), rng.randint(-5, 6)
    facts = f"For all numbers x, f(x) = {a}x^2 + {b}x + {c}."
    return _exact(facts, f"f({at})", a * at * at + b * at + c)


def _system(rng: random.Random) -> Problem:
    a, b, c = rng.randint(2, 7), rng.randint(2, 7), rng.randint(2, 7)
    d = rng.choice([d for d in range(2, 9) if a * d != b * c])
    e, f = rng.randint(5, 50), rng.randint(5, 50)
    det = a * d - b * c
    value = Fraction(e * d - b * f, det) + Fraction(a * f - e * c, det)
    return _exact(f"{a}x + {b}y = {e} and {c}x + {d}y = {f}.", "x + y", value)


def _pumps(rng: random.Random) -> Problem:
    first, second = rng.randint(2, 15), rng.randint(2, 15)
    facts = f"One pump alone fills a tank in {first} hours; a second pump alone fills it in {second} hours."
    question = "the number of hours that both pumps together need to fill it"
    return _exact(facts, question, Fraction(first * second, first + second))


def _roots(rng: random.Random) -> Problem:
    u, v = rng.sample(range(1, 13), 2)
    facts = f"u and v are the roots of x^2 - {u + v}x + {u * v} = 0."
    if rng.random() < 0.5:
        return _exact(facts, "1/u + 1/v", Fraction(u + v, u * v))
    return _exact(facts, "u^2 + v^2", (u + v) ** 2 - 2 * u * v)


def _sequence(rng: random.Random) -> Problem:
    first, times, more, place = rng.randint(1, 6), rng.randint(2, 4), rng.randint(1, 9), rng.randint(4, 6)
    facts = f"A sequence begins with {first}. Each later term is {times} times the term before it, plus {more}."
    grown = times ** (place - 1)
    return _exact(facts, f"term number {place}", first * grown + more * (grown - 1) // (times - 1))


def _rectangle(rng: random.Random) -> Problem:
    width, height = rng.randint(2, 30), rng.randint(2, 30)
    facts = f"A rectangle has a side of length {width} and the perimeter {2 * (width + height)}."
    return _exact(facts, "the area of the rectangle", width * height)


def _angles(rng: random.Random) -> Problem:
    first = rng.randint(20, 90)
    second = rng.randint(20, 160 - first)
    facts = f"Two angles of a triangle have {first} and {second} degrees."
    return _exact(facts, "the number of degrees of the third angle", 180 - first - second)


def _hypotenuse(rng: random.Random) -> Problem:
    triple, scale = rng.choice(TRIPLES), rng.randint(1, 8)
    facts = f"A right triangle has legs of lengths {triple[0] * scale} and {triple[1] * scale}."
    return _exact(facts, "the length of the longest side", triple[2] * scale)


def _slope(rng: random.Random) -> Problem:
    x, y, over, up = rng.randint(-9, 9), rng.randint(-9, 9), rng.randint(1, 9), rng.randint(-9, 9)
    facts = f"A line passes through the points ({x}, {y}) and ({x + over}, {y + up})."
    return _exact(facts, "the slope of the line", Fraction(up, over))


def _triangle(rng: random.Random) -> Problem:
    (a, b), (c, d), (e, f) = ((rng.randint(-8, 8), rng.randint(-8, 8)) for _ in range(3))
    twice = abs((c - a) * (f - b) - (e - a) * (d - b))
    if not twice:
        return _triangle(rng)
    facts = f"A triangle has its corners at ({a}, {b}), ({c}, {d}) and ({e}, {f})."
    return _exact(facts, "the area of the triangle", Fraction(twice, 2))


def _cube(rng: random.Random) -> Problem:
    longer = 10 * rng.randint(1, 10)
    value = ((100 + Fraction(longer)) / 100) ** 3 * 100 - 100
    facts = f"Each edge of a cube is made {longer} percent longer."
    return _exact(facts, "the percent by which its volume grows", value)


def _mean(rng: random.Random) -> Problem:
    numbers = [rng.randint(1, 40) for _ in range(5)]
    return _exact(f"A list holds the numbers {_listed(numbers)}.", "the mean of the list", Fraction(sum(numbers), 5))


def _median(rng: random.Random) -> Problem:
    numbers = [rng.randint(1, 40) for _ in range(rng.choice((5, 6)))]
    ordered, half = sorted(numbers), len(numbers) // 2
    value = Fraction(ordered[half]) if len(numbers) % 2 else Fraction(ordered[half - 1] + ordered[half], 2)
    return _exact(f"A list holds the numbers {_listed(numbers)}.", "the median of the list", value)


def _one_more(rng: random.Random) -> Problem:
    count, before = rng.randint(3, 12), rng.randint(5, 40)
    after = before + rng.choice((-3, -2, -1, 1, 2, 3))
    facts = f"The mean of {count} numbers is {before}. With one more number the mean is {after}."
    return _exact(facts, "the number that was added", after * (count + 1) - before * count)


def _two_balls(rng: random.Random) -> Problem:
    red, blue = rng.randint(2, 9), rng.randint(2, 9)
    facts = f"An urn holds {red} red and {blue} blue balls. Two are drawn at random, the first is not put back."
    value = Fraction(red * (red - 1), (red + blue) * (red + blue - 1))
    return _exact(facts, "the probability that both balls are red", value)


def _committee(rng: random.Random) -> Problem:
    men, women, size = rng.randint(3, 7), rng.randint(2, 6), rng.randint(2, 3)
    facts = f"A committee of {size} is chosen from {men} men and {women} women."
    question = "the number of such committees with at least one woman"
    return _exact(facts, question, comb(men + women, size) - comb(men, size))


def _dice(rng: random.Random) -> Problem:
    sides = rng.choice((4, 6, 8))
    least = rng.randint(4, 2 * sides - 1)
    pairs = sum(a + b >= least for a in range(1, sides + 1) for b in range(1, sides + 1))
    facts = f"Two fair dice, each with sides numbered 1 to {sides}, are rolled."
    return _exact(facts, f"the probability that the sum is at least {least}", Fraction(pairs, sides * sides))


def _some_integer(rng: random.Random) -> Problem:
    low = rng.randint(2, 20)
    high, divisor = low + rng.randint(2, 9), rng.randint(3, 7)
    remainders = [n % divisor for n in range(low + 1, high)]
    facts = f"n is an integer, and {low} < n < {high}."
    question = f"the remainder when n is divided by {divisor}"
    return Problem(facts, question, Fraction(min(remainders)), Fraction(max(remainders)))


def _two_solutions(rng: random.Random) -> Problem:
    middle, away = rng.randint(1, 12), rng.randint(1, 9)
    return Problem(f"(x - {middle})^2 = {away * away}.", "x", Fraction(middle - away), Fraction(middle + away))


def _third_side(rng: random.Random) -> Problem:
    a, b = rng.randint(2, 15), rng.randint(2, 15)
    facts = f"Two sides of a triangle have the lengths {a} and {b}."
    return Problem(facts, "the length of the third side", Fraction(abs(a - b)), Fraction(a + b), True)


def _some_median(rng: random.Random) -> Problem:
    total = rng.randint(6, 24)
    facts = f"The sum of three positive integers is {total}."
    return Problem(facts, "the median of the three integers", Fraction(1), Fraction((total - 1) // 2))


def _listed(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


# Two templates for each topic and difficulty, and one for comparisons whose quantity isn't fixed.
TEMPLATES: Mapping[str, Mapping[str, tuple[Template, Template]]] = {
    "arithmetic": {
        "easy": (_share, _sum_of_fractions),
        "medium": (_two_changes, _remainder),
        "hard": (_power_in_factorial, _one_not_both),
    },
    "algebra": {"easy": (_linear, _function), "medium": (_system, _pumps), "hard": (_roots, _sequence)},
    "geometry": {"easy": (_rectangle, _angles), "medium": (_hypotenuse, _slope), "hard": (_triangle, _cube)},
    "data": {"easy": (_mean, _median), "medium": (_one_more, _two_balls), "hard": (_committee, _dice)},
}
OPEN: Mapping[str, Template] = {
    "arithmetic": _some_integer,
    "algebra": _two_solutions,
    "geometry": _third_side,
    "data": _some_median,
}


def generate(seed: int, count: int) -> list[Item]:
    """`count` items; item n is of cell n modulo 48 (topic, difficulty, kind). The same for a seed on any machine."""
    cells = [(topic, level, kind) for level in DIFFICULTIES for kind in KINDS for topic in TEMPLATES]
    return [_item(f"{seed}/{n}", *cells[n % len(cells)]) for n in range(count)]


def _item(name: str, topic: str, level: str, kind: str) -> Item:
    rng = random.Random(name)
    row: dict[str, Any] = {"exam": EXAM, "section": f"{topic}, {level}", "kind": kind, "source": "generated"}
    row["id"] = f"quantity-{name.replace('/', '-')}"
    if kind == "comparison":
        # half have a quantity that the facts don't fix; some of these can be compared all the same
        template = OPEN[topic] if rng.random() < 0.5 else rng.choice(TEMPLATES[topic][level])
        return parse_item(row | _compare(template(rng), rng), name)
    problem = rng.choice(TEMPLATES[topic][level])(rng)
    if kind == "numeric":
        question = f"{problem.facts} What is {problem.asked}? Give the exact number."
        return parse_item(row | {"question": question, "key": spell(problem.low)}, name)
    values = _around(problem.low, rng)
    options = [spell(value) for value in values]
    if kind == "single":
        question, right = f"{problem.facts} What is {problem.asked}?", [problem.low]
    else:
        above = values[-1] > problem.low and rng.random() < 0.5
        words = "greater than" if above else "at most"
        question = f"{problem.facts} Which of these numbers are {words} {problem.asked}? Choose all that apply."
        right = [value for value in values if (value > problem.low) is above]
    key = ["ABCDE"[values.index(value)] for value in right]
    return parse_item(row | {"question": question, "options": options, "key": key}, name)


def _compare(problem: Problem, rng: random.Random) -> dict[str, Any]:
    step = _step(problem.low, rng)
    low, high = problem.low, problem.high
    others = [low - step, low, high + step]
    if low < high:
        others += [low + (high - low) * Fraction(rng.randint(1, 3), 4), high]
    other = rng.choice(others)
    greater = low > other or (problem.open_ends and low == other)
    smaller = high < other or (problem.open_ends and high == other)
    key = "A" if greater else "B" if smaller else "C" if low == high else "D"
    question = f"{problem.facts}\nQuantity A: {problem.asked}\nQuantity B: {spell(other)}"
    return {"question": question, "key": key}


def _around(value: Fraction, rng: random.Random) -> list[Fraction]:
    """Five values in order with `value` among them, none below 0 beside a value above it."""
    below, step = rng.randrange(OPTIONS), _step(value, rng)
    if value >= 0:
        below = min(below, value.numerator)
        step = min(step, Fraction(value.numerator // max(below, 1) or 1, value.denominator))
    return [value + (place - below) * step for place in range(OPTIONS)]


def _step(value: Fraction, rng: random.Random) -> Fraction:
    return Fraction(rng.choice((1, 2, 5)), value.denominator)


def spell(value: Fraction) -> str:
    """A number as items write it: whole, as a decimal that ends after two places at most, or as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    hundredths = value * 100
    if hundredths.denominator == 1:
        units, part = divmod(abs(hundredths.numerator), 100)
        return f"{'-' if value < 0 else ''}{units}.{part:02d}".rstrip("0")
    return f"{value.numerator}/{value.denominator}"
