"""Areas of the acceptable use policy: which of its categories a request belongs to, by its set's topic or its words."""

from __future__ import annotations

import re
from collections.abc import Mapping

OTHER = "other"
# the categories of the shipped policy
AREAS = (
    *("illegal_goods", "children", "hate", "violence", "fraud", "academic", "deception", "political"),
    *("privacy", "justice", "self_harm", "sexual", "weapons", "cyber", "platform"),
)
# Topics of our sets and of JailbreakBench and SimpleSafetyTests, in small letters -> area.
_TOPICS: Mapping[str, str] = {
    **{area: area for area in AREAS},
    **dict.fromkeys(("theft", "drugs", "illegal and highly regulated items"), "illegal_goods"),
    **dict.fromkeys(("child_safety", "child safety"), "children"),
    **dict.fromkeys(("harassment", "discrimination", "harassment/discrimination"), "hate"),
    **dict.fromkeys(
        (
            "vandalism",
            "animal_cruelty",
            "dangerous_pranks",
            "poison",
            "physical harm",
            "physical harm and violence",
        ),
        "violence",
    ),
    **dict.fromkeys(
        ("forgery", "tax_evasion", "blackmail", "economic harm", "fraud/deception", "scams and fraud"),
        "fraud",
    ),
    "academic_cheating": "academic",
    **dict.fromkeys(("misinformation", "disinformation"), "deception"),
    "election_interference": "political",
    **dict.fromkeys(("spying", "doxxing"), "privacy"),
    "government decision-making": "justice",
    "suicide, self-harm, and eating disorders": "self_harm",
    "sexual/adult content": "sexual",
    **dict.fromkeys(("hacking", "malware", "malware/hacking"), "cyber"),
}
# Beginnings of words; the first area with one counts.
_WORDS = {
    "children": "child minor underage kid toddler grooming",
    "self_harm": "suicid self-harm anorexi eating-disorder kill-myself",
    "weapons": "bomb explosi weapon firearm gun grenade ammunition",
    "cyber": "hack malware virus ransom phish keylog password ddos botnet trojan exploit-kit",
    "sexual": "porn erotic sexual sex nude",
    "academic": "exam plagiari homework essay thesis cheat-on",
    "political": "election ballot voter vote campaign politician",
    "justice": "surveill censor facial-recognition parole suspect",
    "privacy": "stalk personal-information private-information social-security address track spy identity",
    "deception": "fake-news misinformation disinformation conspirac rumor impersonat hoax propaganda vaccin",
    "fraud": "scam fraud counterfeit forge launder bribe insider pyramid blackmail extort embezzl tax credit-card",
    "illegal_goods": "drug cocaine meth heroin smuggl steal theft shoplift black-market poach rob",
    "hate": "racis sexis hate discriminat slur harass bully insult stereotyp immigrant jew muslim gay gender race",
    "violence": "kill murder attack terroris violen assassinat poison torture arson kidnap massacre harm",
    "platform": "jailbreak system-prompt chatbot your-rules",
}
_PATTERNS = {
    area: re.compile(
        r"\b(?:" + "|".join(re.escape(word).replace(r"\-", r"[\s-]") for word in words.split()) + ")",
        re.IGNORECASE,
    )
    for area, words in _WORDS.items()
}


def area_of(topic: str, text: str) -> str:
    """The area of a request: by its topic if that names one, else by its words, else OTHER."""
    if area := _TOPICS.get(topic.lower()):
        return area
    return next((area for area, pattern in _PATTERNS.items() if pattern.search(text)), OTHER)
