"""English words, from the package's training texts: whether a decoded text reads like English, and where letters
without spaces divide into words.

A cipher's key, a reversed word or a dropped vowel is only accepted if the result consists of these words, so that
names, code and other languages give no further texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache

from charter.ground.settings.sources import shipped, shipped_folder

POLICY = "acceptable_use.yaml"
LEAST = 2  # times that a word occurs in the texts
LONGEST = 16  # letters of a word
MOST = 400  # letters that are divided
READS = 0.7  # least share of a text's letters in known words
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_VOWELS = re.compile("[aeiou]")
KEYS = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
_SIGNS = "*#_?%$@&^~+=\u2022\u00b7-"
_SIGN = re.compile(f"[{_SIGNS}]")
_MASKED = re.compile(
    rf"(?<!\S)(?=\S*[{_SIGNS}][\w*#])[A-Za-z{_SIGNS}]{{1,{LONGEST - 1}}}[A-Za-z*#_](?![^\s.,;:!?)\"'])"
)


@lru_cache(maxsize=1)
def frequencies() -> Mapping[str, int]:
    """How often each word occurs in the training texts."""
    counts: Counter[str] = Counter()
    for path in sorted(shipped_folder().glob("*.train.jsonl")):
        text = path.read_text("utf-8").lower()
        counts.update(re.findall(r"[a-z]+", text.replace("\\n", " ")))
    # what the policy is about is hidden most, and rare elsewhere
    for word in re.findall(r"[a-z]+", shipped(POLICY).read_text("utf-8").lower()):
        counts[word] = max(counts[word], LEAST)
    single = {"a", "i"}
    return {w: n for w, n in counts.items() if n >= LEAST and (len(w) > 1 or w in single)}


def is_known(word: str) -> bool:
    """Whether a word, in any case and with or without a possessive, is one of them."""
    return word.lower().split("'")[0] in frequencies()


def known_share(text: str) -> float:
    """The share of a text's letters that stand in known words; 0 without letters."""
    words = WORD.findall(text)
    total = sum(map(len, words))
    return sum(len(word) for word in words if is_known(word)) / total if total else 0.0


def reads(text: str) -> bool:
    """Whether a text reads like English: three words or more, mostly known, not all of them short, and few signs."""
    words = WORD.findall(text)
    if len(words) < 3 or sum(c.isalpha() or c.isspace() for c in text) < 0.8 * len(text):
        return False
    long = sum(len(word) >= 4 and is_known(word) for word in words)
    return long >= 2 and known_share(text) >= READS


def divide(letters: str) -> str:
    """Letters without spaces as words, the likeliest way (unigram frequencies); "" if they don't consist of words."""
    text = letters.lower()[:MOST]
    counts = frequencies()
    total = sum(counts.values())
    # best score and length of the last word up to each letter; an unknown letter is a word of its own
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(text) + 1):
        choices = [(best[end - 1][0] - 20.0, 1)]
        for length in range(1, min(LONGEST, end) + 1):
            count = counts.get(text[end - length : end])
            if count:
                choices.append((best[end - length][0] + math.log(count / total), length))
        best.append(max(choices))
    words, end = list[str](), len(text)
    while end:
        words.append(text[end - best[end][1] : end])
        end -= best[end][1]
    spaced = " ".join(reversed(words))
    long = sum(len(word) for word in words if len(word) >= 4)
    return spaced if long >= 0.5 * len(text) and known_share(spaced) > 0.95 else ""


@lru_cache(maxsize=1)
def _by_consonants() -> Mapping[str, str]:
    """The most frequent word with given consonants, in their order."""
    return _most_frequent(lambda word: _VOWELS.sub("", word))


@lru_cache(maxsize=1)
def _by_letters() -> Mapping[str, str]:
    """The most frequent word with given letters, of which the first one is in its place."""
    return _most_frequent(_mixed)


def _mixed(word: str) -> str:
    return word[:1] + "".join(sorted(word[1:]))


def _most_frequent(key: Callable[[str], str]) -> Mapping[str, str]:
    words: dict[str, str] = defaultdict(str)
    counts = frequencies()
    for word in sorted(counts, key=lambda word: (counts[word], word)):
        words[key(word)] = word
    return words


@lru_cache(maxsize=1)
def _by_keys() -> Mapping[str, str]:
    """The most frequent word by the keys of a telephone that have its letters."""
    return _most_frequent(lambda word: word.translate(KEYS))


def from_keys(text: str) -> str:
    """A text with digits 2 to 9 as words of a telephone's keypad, a key for each letter: "2662" is "bomb"."""
    return re.sub("[2-9]+", lambda digits: _by_keys().get(digits[0], digits[0]), text)


def restore_vowels(text: str) -> str:
    """A text whose words lost their vowels, with the likeliest vowels."""
    table = _by_consonants()
    return WORD.sub(lambda word: table.get(_VOWELS.sub("", word[0].lower()), word[0]), text)


def restore_order(text: str) -> str:
    """A text with the letters of unknown words in the order of a known word, if one has the same letters."""

    def restore(word: re.Match[str]) -> str:
        if is_known(word[0]):
            return word[0]
        return table.get(_mixed(word[0].lower()), word[0])

    table = _by_letters()
    return re.sub("[A-Za-z]+", restore, text)


@lru_cache(maxsize=1)
def _by_length() -> Mapping[int, str]:
    """The words of each length, the most frequent first, a line each."""
    lines: dict[int, str] = defaultdict(str)
    for word in sorted(frequencies(), key=lambda word: (-frequencies()[word], word)):
        lines[len(word)] += f"{word}\n"
    return lines


def restore_masked(text: str) -> str:
    """A text with each word that has signs instead of some letters as the likeliest known word: "b*mb" is "bomb"."""
    return _MASKED.sub(lambda word: _unmask(word[0].lower()) or word[0], text)


@lru_cache(maxsize=4096)
def _unmask(masked: str) -> str:
    if is_known(_SIGN.sub("", masked)):  # emphasis, or marks between letters
        return ""
    pattern, signs = _SIGN.subn("[a-z]", masked)
    match = re.search(f"^{pattern}$", _by_length()[len(masked)], re.MULTILINE)
    return match[0] if match and 3 * signs <= 2 * len(masked) else ""


def from_pig_latin(text: str) -> str:
    """A text in pig latin in plain order: "ombbay" is "bomb"."""
    return WORD.sub(lambda word: _from_pig_latin(word[0].lower()), text)


def _from_pig_latin(word: str) -> str:
    if not word.endswith("ay") or len(word) < 3:
        return word
    stem = word[:-2]
    turned = [stem[-moved:] + stem[:-moved] for moved in (1, 2, 3) if moved < len(stem)]
    candidates = [*([stem[:-1]] if stem.endswith(("w", "y")) else []), *turned, stem]
    return max(candidates, key=lambda w: frequencies().get(w, 0))
