"""What the probe learns from: the shipped training rows alone, each prompt or reply with its class.

Prompts: unsafe ones by topic, harmless ones (look-alikes among them), and high-risk ones. Replies: those that people
rated for harm, sides of harmlessness comparisons, good refusals and answers, also as they begin. Held-out sets are not
read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from charter.ground.artifact.manifest import digest_file, digest_text
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message, user
from charter.ground.text.jsonl import read_jsonl

HARMLESS = ""  # the class of what violates nothing
HARMFUL_RATING, HARMLESS_RATING = 2.5, 1.0  # of ratings from 0 to 4; what lies between is left out
FILES = (
    "acceptable_use.train",
    "red_team.train",
    "refusals.train",
    "lookalikes.train",
    "helpful.train",
    "ratings.train",
    "comparisons.train",
)
# What people say in the middle of a harmless conversation.
REMARKS = (
    "yes",
    "No, I haven't.",
    "Thanks!",
    "ok, and then?",
    "Tell me more about that, please.",
    "I don't think that's right.",
    "They don't know.",
    "Can you send me a link?",
    "yes please",
    "That's a great idea.",
    "Where can I find out more?",
    "I'm not sure, what would you say?",
    "I already tried that and it didn't work.",
    "no",
    "You can list them for me.",
    "Why?",
    "She says it's too much.",
    "Just give me the short version.",
    "Wow, I didn't know that.",
    "You are a bot, how would you know?",
    "Either is fine with me.",
    "I'd rather not go there by car.",
    "What else?",
    "It is for my sister.",
    "Could you say that in other words?",
    "Yes, that's what I was looking for.",
    "Hmm, that makes no sense to me.",
    "The second one.",
    "How long does it take?",
    "I'll look it up, thanks.",
    "sure",
)
STEP = 7  # through the opening prompts, so that all kinds come behind exchanges
# Topics of the shipped unsafe prompts, as categories of the shipped policy.
CATEGORY_OF: Mapping[str, str] = {
    "theft": "illegal_goods",
    "drugs": "illegal_goods",
    "fraud": "fraud",
    "forgery": "fraud",
    "tax_evasion": "fraud",
    "blackmail": "fraud",
    "hacking": "cyber",
    "malware": "cyber",
    "weapons": "weapons",
    "hate": "hate",
    "harassment": "hate",
    "discrimination": "hate",
    "violence": "violence",
    "vandalism": "violence",
    "dangerous_pranks": "violence",
    "self_harm": "self_harm",
    "misinformation": "deception",
    "doxxing": "privacy",
}


@dataclass(frozen=True, slots=True)
class Example:
    """Messages up to what was asked, and the reply for an example of a reply. `label`: id of a category or of a
    high-risk rule, HARMLESS for none; `alike`: harmless and like a violation; `group`: the same for texts on one
    prompt."""

    messages: Sequence[Message]
    reply: str | None
    label: str
    alike: bool
    group: int


@lru_cache(maxsize=1)
def digest() -> str:
    """What the examples follow from."""
    return digest_text(" ".join(digest_file(shipped(name)) for name in FILES))


def prompts() -> list[Example]:
    """Every training prompt with its class, each text once."""
    found: list[Example] = []
    for row in read_jsonl(shipped("acceptable_use.train")):
        harmless = row["label"] == "harmless"
        found.append(
            _prompt(row, HARMLESS if harmless else row["topic"], harmless and row["topic"] != "general")
        )
    for name in ("red_team.train", "refusals.train"):
        found += [_prompt(row, CATEGORY_OF[row["topic"]], False) for row in read_jsonl(shipped(name))]
    found += [_prompt(row, HARMLESS, True) for row in read_jsonl(shipped("lookalikes.train"))]
    found += [_prompt(row, HARMLESS, False) for row in read_jsonl(shipped("helpful.train"))]
    found += _later_turns(found)
    return list({_text(e.messages): e for e in found}.values())


def replies() -> list[Example]:
    """Every training reply with its class."""
    found: list[Example] = []
    for row in read_jsonl(shipped("ratings.train")):
        category = CATEGORY_OF.get(row["topic"], HARMLESS)
        if row["rating"] >= HARMFUL_RATING and category:
            found.append(_reply(row, row["messages"][-1]["content"], category, False))
        elif row["rating"] <= HARMLESS_RATING:
            found.append(_reply(row, row["messages"][-1]["content"], HARMLESS, True))
    for row in read_jsonl(shipped("comparisons.train")):
        category = CATEGORY_OF.get(row["topic"], HARMLESS)
        if row["axis"] == "harmless" and category:
            found.append(_reply(row, row["rejected"], category, False))
        found.append(_reply(row, row["chosen"], HARMLESS, row["axis"] == "harmless"))
    for name in ("refusals.train", "lookalikes.train", "helpful.train"):
        for row in read_jsonl(shipped(name)):
            if row["messages"][-1]["role"] == "assistant":
                found.append(_reply(row, row["messages"][-1]["content"], HARMLESS, name != "helpful.train"))
    return [*found, *_beginnings(found)]


def _beginnings(whole: Sequence[Example]) -> list[Example]:
    """Harmless replies as they stand when a stream is checked: a few words, or half of them. Beginnings of harmful ones
    may say nothing yet, so they have no label."""
    found = []
    for e in whole:
        words = (e.reply or "").split()
        if e.label == HARMLESS and len(words) > 4:
            length = (2 + e.group % 6, len(words) // 2)[e.group % 2]
            found.append(replace(e, reply=" ".join(words[:length])))
    return found


def _later_turns(opening: Sequence[Example]) -> list[Example]:
    """The same as later turns, for what follows an exchange is mostly harmless and often a word or two: each answered
    training row is gone on with a plain remark, and every other one also with a prompt that opens a conversation."""
    exchanges = [
        row["messages"]
        for name in ("helpful.train", "lookalikes.train")
        for row in read_jsonl(shipped(name))
        if row["messages"][-1]["role"] == "assistant"
    ]
    found = []
    for n, messages in enumerate(exchanges):
        said = [*messages, user(REMARKS[n % len(REMARKS)])]
        found.append(Example(said, None, HARMLESS, False, _group(said)))
        if n % 2 and len(opening[n * STEP % len(opening)].messages) == 1:
            asked = opening[n * STEP % len(opening)]
            found.append(replace(asked, messages=[*messages, *asked.messages]))
    return found


def _prompt(row: Mapping[str, Any], label: str, alike: bool) -> Example:
    messages = row["messages"]
    while messages[-1]["role"] != "user":
        messages = messages[:-1]
    return Example(messages, None, label, alike, _group(messages))


def _reply(row: Mapping[str, Any], reply: str, label: str, alike: bool) -> Example:
    asked = _prompt(row, label, alike)
    return Example(asked.messages, reply, label, alike, asked.group)


def _text(messages: Sequence[Message]) -> str:
    return "\n\n".join(m["content"] for m in messages)


def _group(messages: Sequence[Message]) -> int:
    return int(hashlib.sha256(_text(messages).encode()).hexdigest()[:8], 16)
