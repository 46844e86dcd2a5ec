"""Language of a text, by the library py3langid (naive Bayes over byte n-grams, Lui & Baldwin 2012; no pickle).

It knows 138 languages. On NTREX and FLORES it confuses close relatives: Indonesian sentences count as Malay.
"""

from __future__ import annotations

import re
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNDETERMINED = "und"
# Written Wu and Nigerian Pidgin are so rare that most such results are Chinese and English texts. zxx is the library's
# class for text in no language.
_FOLDED = {"wuu": "zh", "pcm": "en", "zxx": UNDETERMINED}
# Characters of each sample of a long text, at its start, middle and end.
_PIECE = 512
_LETTER = re.compile(r"[^\W\d_]")


def detect(text: str) -> tuple[str, float]:
    """ISO 639 code (two letters if one exists, else three) and the library's confidence from 0 to 1.

    ("und", 0) for a text of fewer than 3 letters. A text in two languages gets the one of most of its samples.
    """
    sample = _pieces(text)
    if len(_LETTER.findall(sample, 0, 4 * _PIECE)) < 3:
        return UNDETERMINED, 0.0
    code, confidence = _identifier().classify(sample)
    return _FOLDED.get(code, code), round(confidence, 3)


def _pieces(text: str) -> str:
    if len(text) <= 3 * _PIECE:
        return text
    middle = (len(text) - _PIECE) // 2
    return "\n".join((text[:_PIECE], text[middle : middle + _PIECE], text[-_PIECE:]))


@cache
def _identifier() -> LanguageIdentifier:
    """The library's model, read once a process (0.4 s)."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
