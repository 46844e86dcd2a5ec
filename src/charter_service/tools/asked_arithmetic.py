"""Takes the one arithmetic expression out of a question, such as 17.5 * 23 from "How much is 17.5 times 23?".

It never guesses: a question with none, with two, or with a number that it can't read whole gives none. It reads a few
hundred characters at most, with patterns that look at each a bounded number of times.
"""

from __future__ import annotations

import re

from charter_service.tools.arithmetic import calculate

LONGEST = 400  # characters of a question that it reads
_SPOKEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
_UNITS, _TENS = _SPOKEN.split()[:20], _SPOKEN.split()[20:]
_WORDS = {word: value for value, word in enumerate(_UNITS)}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_NUMBER_WORD = re.compile(rf"\b(?:({'|'.join(_TENS)})[ -]({'|'.join(_UNITS[1:10])})|({'|'.join(_WORDS)}))\b", re.A)
_LARGE = re.compile(r"\b(hundred|thousand|million|billion|trillion|dozen|half|third|quarter)s?\b", re.A)
_N = r"(-?\d+(?:\.\d+)?)"
# words, and the sign that they stand for, in this order
_SAID = [
    (re.compile(pattern, re.A), sign)
    for pattern, sign in (
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"[$€£](?=\d)", ""),
        (rf"\b(?:add {_N} (?:to|and)|(?:sum|total) of {_N} and) {_N}(?![\w.]*\d)", r"(\1\2 + \3)"),
        (rf"\bsubtract {_N} from {_N}(?![\w.]*\d)", r"(\2 - \1)"),
        (rf"\bdifference (?:of|between) {_N} and {_N}(?![\w.]*\d)", r"(\1 - \2)"),
        (rf"\b(?:multiply {_N} (?:by|and|with)|product of {_N} and) {_N}(?![\w.]*\d)", r"(\1\2 * \3)"),
        (rf"\b(?:divide {_N} by|quotient of {_N} and) {_N}(?![\w.]*\d)", r"(\1\2 / \3)"),
        (rf"\bsquare of {_N}", r"\1 ^ 2"),
        (r"\b(?:the )?square root of\b|\bsqrt\b|√", " sqrt "),
        (r"(?:\bper ?cent\b|%) of\b", " / 100 * "),
        (r"\b(?:multiplied by|times)\b", " * "),
        (r"\b(?:divided by|over)\b", " / "),
        (r"\b(?:plus|added to)\b", " + "),
        (r"\bminus\b", " - "),
        (r"\b(?:raised )?to the power of\b", " ^ "),
        (r"\bsquared\b", " ^ 2 "),
        (r"\bcubed\b", " ^ 3 "),
        (r"(?<=[\d)]) ?x ?(?=[\d(])", " * "),
    )
]
_SAME = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
SIGNS = {"+", "-", "*", "/", "%", "^", "**"}
ENDLESS = {*SIGNS, "(", "sqrt"}  # what no expression ends with
HEADLESS = SIGNS - {"-"} | {")"}  # what none begins with
# a number, a sign, a root, or the end of a run
_PIECE = re.compile(r"(\d+(?:\.\d+)?|\*\*|[-+*/%^()]|sqrt\b)|[^\s]", re.A)
_DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.]*\d)", re.A)
# a time, a version, 1,50, 5kg, 007: no number that this reads
_ODD = re.compile(r"\d[.,:]\d|\d[a-z_]|[a-z_]\d|\b0\d", re.A)
_LEAD = re.compile(
    r"(?:^|\b(?:what is|what's|how much is|calculate|compute|evaluate|solve|work out)(?: the value of)?:?) ?$", re.A
)


def expression_in(question: str) -> str:
    """The only expression of a question, "" if there is none that the calculator can compute."""
    text = question[-LONGEST:]
    if len(question) >= LONGEST:
        # its first sentence may be cut inside a number
        text = "".join(re.split(r"[.?!:;]\s", text, maxsplit=1)[1:])
    text = " ".join(text.lower().translate(_SAME).split())
    text = _NUMBER_WORD.sub(lambda match: str(sum(_WORDS[word] for word in match.groups() if word)), text)
    for pattern, sign in _SAID:
        text = pattern.sub(sign, text)
    text = " ".join(text.split())
    if _LARGE.search(text) or _ODD.search(_DECIMAL.sub("1", text)):
        return ""
    expressions = {expression for run in _runs(text) if (expression := _expression(text, *run))}
    return expressions.pop() if len(expressions) == 1 else ""


def _runs(text: str) -> list[tuple[int, int]]:
    """Where pieces of arithmetic stand with nothing but spaces between."""
    runs, start = list[tuple[int, int]](), -1
    for match in _PIECE.finditer(text):
        if match[1] and start < 0:
            start = match.start()
        elif not match[1] and start >= 0:
            runs.append((start, match.start()))
            start = -1
    return [*runs, (start, len(text))] if start >= 0 else runs


def _expression(text: str, start: int, end: int) -> str:
    """A run as an expression, "" if it is none."""
    run = text[start:end]
    # 9-5, 24/7 and 1/2 are sums only where nothing else is asked
    if re.fullmatch(r"\d+(?:[-/]\d+)+", run.strip()) and not (
        _LEAD.search(text[:start]) and not re.search(r"\w", text[end:], re.A)
    ):
        return ""
    pieces = _PIECE.findall(run)
    while pieces and pieces[-1] in ENDLESS:
        pieces.pop()
    while pieces and pieces[0] in HEADLESS:
        pieces.pop(0)
    while pieces and pieces[-1] == ")" and pieces.count(")") > pieces.count("("):
        pieces.pop()
    while pieces and pieces[0] == "(" and pieces.count("(") > pieces.count(")"):
        pieces.pop(0)
    if not pieces or not (set(pieces[1:]) & SIGNS or "sqrt" in pieces):
        return ""
    expression = _spaced(pieces)
    try:
        calculate(expression)
    except ValueError:
        return ""
    return expression


def _spaced(pieces: list[str]) -> str:
    """Pieces with spaces as people write them, and a root's number in parentheses."""
    text = " ".join(pieces)
    text = re.sub(r"sqrt (\d+(?:\.\d+)?)", r"sqrt(\1)", text).replace("sqrt (", "sqrt(")
    text = text.replace("( ", "(").replace(" )", ")")
    text = re.sub(r"(^|[-+*/^%(] ?)- (?=[\d(])", r"\1-", text)
    return text[1:-1] if re.fullmatch(r"\([^()]*\)", text) else text
