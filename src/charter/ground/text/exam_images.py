"""Finds exam items that can't be answered as text alone, by words that point at a picture that isn't there."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What is printed as a picture. In a sentence that also says "is shown" it points at one.
PRINTED = re.compile(
    r"\b(?:figures?|images?|imaging|pictures?|photos?|\w*gra(?:ms?|phs?|phy)|ultrasounds?|x[-\u2011 ]?rays?|CT|MRI|PET|"
    r"magnetic resonance|scans?|E[CKE]Gs?|strips?|tracings?|pedigrees?|family trees?|charts?|curves?|loops?|plots?|"
    r"exhibits?|drawings?|maps?|illustrations?|slides?|smears?|sections?|specimens?|stains?|histolog\w+|microscop\w+|"
    r"karyotypes?|gels?|blots?|electrophoresis|\w*scop(?:y|ies)|examination|findings?|lesions?|rash|eruption|"
    r"appearance)\b",
    re.IGNORECASE,
)
SHOWN = re.compile(
    r"\b(?:is|are|was|were|and|as) (?:also |again )?(?:shown|depicted|pictured|illustrated|displayed|reproduced)"
    r"(?: (?:below|above|here|to the (?:right|left)))?\s*(?:with [^.;:]{1,80})?(?:[.,;?)]|$)",
    re.IGNORECASE,
)
# Lists of values are printed as text, whatever the sentence before them says: the colon or the words tell.
VALUES = re.compile(r"\b(?:labs?|laborator\w+|values?|vitals?|counts?|panels?|studies)\b|:$", re.IGNORECASE)
PICTURE = (
    r"(?:figures?|images?|pictures?|photographs?|photos?|exhibits?|graphs?|diagrams?|illustrations?|"
    r"drawings?(?! room))"
)
SCAN = r"(?:x[-\u2011 ]?rays?|radiographs?|ultrasounds?|E[CK]Gs?|CTs?|MRIs?|scans?|slides?|pedigrees?)"
# A, 2 or 2b
LABEL = r"(?:(?-i:[A-H])|\d{1,2}[a-h]?)"
PLACED = "(?:first|second|attached|following|above|below|accompanying|given)"
POINTERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # "in the figures" alone means numbers
        r"\b(?!(?:in|on|at|to|from) (?:the|these) figures\b)(?:see(?: the| these)?|"
        rf"(?:in|on|at|to|from) (?:the|this|these)) (?:{PLACED} )?{PICTURE}\b",
        r"\b(?:shown|seen|depicted|given) (?:in|on|as) (?:an? |the |this |these )?(?:attached |following )?"
        rf"(?:{PICTURE}|{SCAN})\b",
        # "the graph G" is a name in mathematics
        rf"\b(?:figure|fig\.|exhibit|image|graph(?! [GH]\b)|panel|diagram) {LABEL}\b",
        rf"\b(?:figures|figs\.|exhibits|images|graphs|panels|diagrams) {LABEL}\b"
        rf"\s*(?:,|and|or|to|through|[-&/\u2013])\s*{LABEL}\b",
        rf"\b{PICTURE} (?:below|above|attached|provided|to the (?:right|left))\b",
        r"\bthe (?:picture|figure|graph|diagram|exhibit|following image|image below) (?:shows|depicts)\b",
        r"\bthe (?:pictures|graphs|diagrams|following (?:figures|images)|images below) (?:show|depict)\b",
        r"\b(?:by|with|at) (?:the |an? )?(?:\w+ )?arrow(?:s|heads?)?\b|\barrows? (?:points?|indicates?|marks?)\b",
        r"\bas (?:shown|pictured|depicted)(?: here)?[.,;)]|\bpictured (?:below|above|here)\b",
        r"\b(?:by|with|as) (?:the |a )?(?:dashed|dotted) (?:\w+ )?(?:line|curve)\b",
    )
)
LABELS = re.compile(r"\(?[A-K]\)?\.?|(?:point|area|curve|region|structure|label|zone) [A-K\d]", re.IGNORECASE)


def points_at_picture(question: str, options: Iterable[str] = ()) -> str:
    """The words with which an item points at a picture; "" if it points at none. Options that are labels, such as A to
    E, point at one."""
    labels = [str(option).strip() for option in options]
    if labels and all(LABELS.fullmatch(label) for label in labels):
        return " / ".join(labels)
    text = "\n".join([question, *labels])
    for form in POINTERS:
        if match := form.search(text):
            return match.group().strip()
    for sentence in re.split(r"(?<=[.?!:])\s+|\n", question):
        if (match := SHOWN.search(sentence)) and PRINTED.search(sentence) and not VALUES.search(sentence):
            return sentence.strip()[-60:]
    return ""
