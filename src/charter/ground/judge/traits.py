"""Traits of a reply that a program can measure, by kind of principle: what makes pairs whose better reply is known.

A trait is a number of a prompt and a reply. The reply with more of it is the better one under a principle for the
trait, the other one under a principle against it. Two replies make a pair only if their numbers differ by `apart`.
Most traits are whether an expression of data/principle_patterns.yaml occurs in the reply.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from charter.ground.judge.detect import is_refusal
from charter.ground.settings.notation import read_yaml_file
from charter.ground.settings.sources import shipped_folder

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_SENTENCE = re.compile(r"[^.!?\n]+")
_NUMBERED = re.compile(r"(?:^|\n)\s*\d+[.)]")
_HEDGE = re.compile(
    r"\b(?:may|might|perhaps|maybe|possibly|probably|likely|seems?|appears?|could|usually|often|sometimes|generally|"
    r"depends|i think|not sure|i believe|in many cases|can vary)\b",
    re.I,
)
_FIRST = frozenset({"i", "i'm", "i'd", "i'll", "i've", "me", "my", "mine", "myself"})
_SECOND = frozenset({"you", "your", "yours", "yourself", "you're", "you'll", "you've", "you'd"})
# words that a question and any answer share
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an the of to in on at for and or but is are was were be been it its this that these those i you your my me "
        "we he she they them his her their our what how which who when where why do does did can could would should "
        "will with from as by if not no so about into than then there here have has had some any all more most please "
        "tell give write make",
    )
)
_OPENING = 40  # words of a reply in which the question's words are looked for


@dataclass(frozen=True, slots=True)
class Trait:
    """`measure`: prompt and reply to a number; `apart`: the difference from which two replies make a pair."""

    measure: Callable[[str, str], float]
    apart: float = 1.0


def words(text: str) -> list[str]:
    """The words of a text in small letters."""
    return [word.lower() for word in _WORD.findall(text.replace("\u2019", "'"))]


def _sentences(text: str) -> int:
    return max(1, sum(bool(part.strip()) for part in _SENTENCE.findall(text)))


def _occurs(pattern: str) -> Callable[[str, str], float]:
    expression = re.compile(pattern, re.I | re.S)
    return lambda prompt, reply: float(bool(expression.search(reply.replace("\u2019", "'"))))


def _percent(of: frozenset[str]) -> Callable[[str, str], float]:
    def measure(prompt: str, reply: str) -> float:
        reply_words = words(reply)
        return 100 * sum(word in of for word in reply_words) / max(1, len(reply_words))

    return measure


def _echo(prompt: str, reply: str) -> float:
    question_words = set(words(prompt)) - _COMMON
    return len(question_words & set(words(reply)[:_OPENING])) / max(1, len(question_words))


def _plainness(prompt: str, reply: str) -> float:
    """Shorter words are plainer."""
    reply_words = words(reply)
    return -sum(map(len, reply_words)) / max(1, len(reply_words))


_MEASURES = {
    # brevity doubles if a reply has half the words
    "length": Trait(lambda prompt, reply: -math.log2(max(1, len(words(reply)))), 0.6),
    "asks_back": Trait(lambda prompt, reply: float(reply.rstrip().rstrip("\"')*").endswith("?"))),
    "first_person": Trait(_percent(_FIRST), 3.0),
    "second_person": Trait(_percent(_SECOND), 5.0),
    "hedging": Trait(lambda prompt, reply: float(len(_HEDGE.findall(reply))), 2.0),
    "refuses": Trait(lambda prompt, reply: float(is_refusal(reply))),
    "numbers": Trait(lambda prompt, reply: float(any(c.isdigit() for c in _NUMBERED.sub(" ", reply)))),
    "sentence_length": Trait(lambda prompt, reply: -len(words(reply)) / _sentences(reply), 7.0),
    "plain_words": Trait(_plainness, 0.7),
    "paragraphs": Trait(lambda prompt, reply: float(bool(re.search(r"\S\s*\n\s*\n\s*\S", reply)))),
    "echo": Trait(_echo, 0.35),
}
_PATTERNS = read_yaml_file(shipped_folder() / "principle_patterns.yaml", "patterns of principles", "kinds")
TRAITS = {**_MEASURES, **{kind: Trait(_occurs(pattern)) for kind, pattern in _PATTERNS.items()}}
