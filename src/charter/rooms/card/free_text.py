"""Free text of a card: sentences that no measurement gives. They hold no figure, or name the number that they mean.

A figure typed into a sentence has no rows behind it. So it is refused, as digits, as words ("ninety", "half of", "nine
in ten") or as a percentage, in any script. Names keep their digits: years and dates, versions, sections, standards and
words that begin with a letter. `{STEP/NAME}` stands for that number of the run, `{NAME}` for that of the final stage;
the ledger prints it with its source.

What no rule of words can catch: a count that reads as a year ("in 1984, and"), a figure that is glued to a name
("Score97") or spelt in another language or in Roman numerals, and quantifiers ("most", "always").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

KEY = re.compile(r"\{([\w.@-]+(?:/[\w.@-]+)?)\}")
WAY_OUT = "name the number instead, {STEP/METRIC} or {METRIC} of the final stage, or leave it out"

# None above 29: what looks like a share is none.
_NUMBER = r"[12]?\d(?:\.\d{1,2}){0,2}"
_SEVERAL = rf"{_NUMBER}(?:(?:, | and | or | to |–){_NUMBER})*"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)"
)
_YEAR = r"(?:19|20)\d\d"
_PAUSE = (
    "and|or|to|but|by|when|with|on|as|the|until|we|it|its|they|this|that|no|nobody|a|an|is|are|was|were|has|have|alone|"
    "already|only"
)
_ENDS = rf"(?=[.,;:)\]]|\s*$|\s(?:{_PAUSE})\b)(?!,\d|\.\d|\s+(?:to|or|and)\s+\d)"
_FAMILIES = (
    "Claude(?: Instant)?|GPT|Llama|Qwen|Mistral|Gemma|Phi|OLMo|SmolLM|Pythia|Charter|Python|PyTorch|torch|Apache|"
    "Unicode|CC[ -]BY(?:-SA)?"
)
# What may hold digits, each with the reason why it is no result.
_NAMES = re.compile(
    "|".join(
        (
            # an address
            r"https?://\S+",
            # a date: 2023-07-11, 11 July 2023, July 2023
            rf"(?<![\w.-]){_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![\w.])",
            rf"\b(?:(?:[1-9]|[12]\d|3[01]) )?{_MONTH} {_YEAR}\b(?!\.\d)",
            # a year after a word of time, or in brackets, where the sentence pauses
            rf"(?i:\b(?:in|since|until|before|after|early|mid|late|by|from|of|spring|summer|autumn|fall|winter))[ -]"
            rf"{_YEAR}\b{_ENDS}",
            rf"\({_YEAR}\)",
            # a place in a document
            rf"(?i:\bsections?|\bappendix|\bchapters?|\barticles?|\bprinciples?|§{{1,2}}) ?{_SEVERAL}\b(?!\.?\d)",
            # a version, a paper, a standard, a product
            rf"(?i:\bversions?|\breleases?) {_SEVERAL}\b(?!\.?\d)|\b[vV]{_NUMBER}\b(?!\.\d)",
            r"\barXiv[: ]?\d{4}\.\d{4,5}\b|\b(?:ISO|RFC|DIN|EN)[ -]\d{1,5}\b(?:-\d+)?",
            rf"\b(?:{_FAMILIES})[ -]?{_NUMBER}\b(?!\.?\d)(?:[ -]\d{{1,3}}(?:\.\d)?[BMK]\b)?",
            # a word that begins with a letter: SmolLM2-135M, GSM8k, mp3
            r"(?<![\w.])(?:[A-Z]\w*[-_]?\w*\d\w*|[a-z]{1,4}\d\w*)(?:-\w+)*(?!\w*\.\d)",
        )
    )
)
_PERCENT = r"[%‰‱٪]|\bper ?cent\b|\bper ?mille\b|\bpct\b|\bpercentage points?\b"
_SMALL = "one|two|three|four|five|six|seven|eight|nine|ten"
_LARGE = (
    "eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundreds?|"
    "thousands?|millions?|billions?|dozens?"
)
_ANY = f"(?:{_SMALL}|{_LARGE})"
_PART = "third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth"
_FIGURES = re.compile(
    "|".join(
        (
            _PERCENT,
            rf"\b(?:{_LARGE})\b",
            rf"\b{_ANY}[ -](?:out of|of|in|of every|in every|times)[ -]{_ANY}\b",
            rf"\b{_ANY}[ -]?(?:fold|times)\b",
            rf"\b{_ANY}[ -](?:thirds|quarters|fourths|fifths|sixths|sevenths|eighths|ninths|tenths)\b",
            rf"\b(?:a|one)[ -](?:{_PART})(?=\s+(?:of|as|less|more|fewer|better|worse)\b|[.,;:)]|\s*$)",
            # not double-check, half-finished or zero-shot
            r"\b(?:half|halves|halved|twice|thrice|double[sd]?|triple[sd]?|zero)\b(?!-)",
        )
    ),
    re.IGNORECASE,
)
_DIGITS = re.compile(r"[^\W\d_]*[\d.,\u2044/]*\d[\w.,]*")


def typed_figures(text: str) -> list[str]:
    """The figures that a free text states itself, in its order; numbers that it names by key are none."""
    plain = _NAMES.sub(" ", KEY.sub(" ", _fold(text)))
    matches = [*_FIGURES.finditer(plain), *_DIGITS.finditer(plain)]
    figures = [(m.start(), m[0].strip(" .,")) for m in matches]
    figures += [(m.start(), m[0]) for m in re.finditer(r"[^\W\d]+", plain) if _is_numeral(m[0])]
    return list(dict.fromkeys(words for _, words in sorted(figures)))


def _fold(text: str) -> str:
    """Text in one script of digits: full-width, superscript, Arabic-Indic and mathematical ones become ASCII, and
    characters that nobody sees go."""
    folded = unicodedata.normalize("NFKC", text)
    visible = (c for c in folded if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in visible)


def _is_numeral(word: str) -> bool:
    """Whether a word is written in numerals that are no digits, such as a fraction's or those of Chinese."""
    return sum(c.isnumeric() for c in word) > 1 or (word.isnumeric() and len(word) == 1 and not word.isalpha())


def check_free_text(text: str) -> str:
    """The text without blanks at its ends. Raises ValueError if it is empty, or states a figure."""
    words = text.strip()
    if not _fold(words).strip():
        raise ValueError("is empty; write a sentence, or leave the line out")
    if figures := typed_figures(words):
        raise ValueError(f"states {', '.join(map(repr, figures))}, which no row proves; {WAY_OUT}")
    return words


def check_name(text: str) -> str:
    """A name, which may hold digits. Raises ValueError if it states a percentage or a ratio."""
    folded = _fold(text)
    if ratio := re.search(rf"{_PERCENT}|\d[\d.,]* (?:out )?of \d|(?<![/\w])\d+/\d+(?![/\w])", folded, re.IGNORECASE):
        raise ValueError(f"states {ratio[0]!r}; a name holds no result")
    return text


def parts_of(text: str) -> Iterator[tuple[str, bool]]:
    """(piece, whether it is the key of a number) of a free text, in its order."""
    end = 0
    for match in KEY.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], False
        yield match[1], True
        end = match.end()
    if end < len(text):
        yield text[end:], False
