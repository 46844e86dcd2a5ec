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
PICTURE = r"(?:figures?|images?|pictures?|photographs?|photos?|exhibits?|graphs?|diagrams?|illustrations?|drawings?)"
PLACED = "(?:first|second|attached|following|above|below|accompanying|given)"
POINTERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:see|(?:in|on|at|to|from) (?:the|this)) (?:{PLACED} )?{PICTURE}\b",
        r"\b(?:shown|seen|depicted|given) (?:in|on|as) (?:an? |the |this )?(?:attached |following )?"
        rf"(?:{PICTURE}|x[-\u2011 ]?ray|radiograph|ultrasound|ECG|EKG|CT|MRI|scan|slide|pedigree)\b",
        r"\b(?:figure|exhibit|image|graph|panel|diagram)\.? (?:(?-i:[A-H])|\d{1,2})\b",
        rf"\b{PICTURE} (?:below|above|attached|provided|to the (?:right|left))\b",
        r"\bthe (?:picture|figure|graph|diagram|exhibit|following image|image below) (?:shows|depicts)\b",
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
    text = " ".join([question, *labels])
    for form in POINTERS:
        if found := form.search(text):
            return found.group().strip()
    for sentence in re.split(r"(?<=[.?!:])\s+|\n", question):
        if (found := SHOWN.search(sentence)) and PRINTED.search(sentence) and not VALUES.search(sentence):
            return sentence.strip()[-60:]
    return ""
