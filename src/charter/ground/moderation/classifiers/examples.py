"""The probe's training data: only the shipped training rows, each prompt or reply with its class.

Prompts: unsafe ones by topic, harmless ones (look-alikes among them), and high-risk ones. Replies: replies that
people rated for harm, sides of harmlessness comparisons, good refusals and answers, and the beginnings of these.
Held-out sets are not read here.
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

HARMLESS = ""  # the class of texts that violate nothing
HARMFUL_RATING, HARMLESS_RATING = 2.5, 1.0  # of ratings from 0 to 4; ratings in between are left out
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
STEP = 7  # through the opening prompts, so that all kinds follow exchanges
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
    """Messages up to the request, and the reply if it is an example of a reply. `label`: id of a category or of a
    high-risk rule, HARMLESS for none; `alike`: harmless but like a violation; `group`: the same number for all texts
    on one prompt."""

    messages: Sequence[Message]
    reply: str | None
    label: str
    alike: bool
    group: int


@lru_cache(maxsize=1)
def digest() -> str:
    """A digest of the files that the examples come from."""
    return digest_text(" ".join(digest_file(shipped(name)) for name in FILES))


def prompts() -> list[Example]:
    """Every training prompt with its class, each text once."""
    rows: list[Example] = []
    for row in read_jsonl(shipped("acceptable_use.train")):
        harmless = row["label"] == "harmless"
        rows.append(_prompt(row, HARMLESS if harmless else row["topic"], harmless and row["topic"] != "general"))
    for name in ("red_team.train", "refusals.train"):
        rows += [_prompt(row, CATEGORY_OF[row["topic"]], False) for row in read_jsonl(shipped(name))]
    rows += [_prompt(row, HARMLESS, True) for row in read_jsonl(shipped("lookalikes.train"))]
    rows += [_prompt(row, HARMLESS, False) for row in read_jsonl(shipped("helpful.train"))]
    rows += _later_turns(rows)
    return list({_text(e.messages): e for e in rows}.values())


def replies() -> list[Example]:
    """Every training reply with its class."""
    rows: list[Example] = []
    for row in read_jsonl(shipped("ratings.train")):
        category = CATEGORY_OF.get(row["topic"], HARMLESS)
        if row["rating"] >= HARMFUL_RATING and category:
            rows.append(_reply(row, row["messages"][-1]["content"], category, False))
        elif row["rating"] <= HARMLESS_RATING:
            rows.append(_reply(row, row["messages"][-1]["content"], HARMLESS, True))
    for row in read_jsonl(shipped("comparisons.train")):
        category = CATEGORY_OF.get(row["topic"], HARMLESS)
        if row["axis"] == "harmless" and category:
            rows.append(_reply(row, row["rejected"], category, False))
        rows.append(_reply(row, row["chosen"], HARMLESS, row["axis"] == "harmless"))
    for name in ("refusals.train", "lookalikes.train", "helpful.train"):
        for row in read_jsonl(shipped(name)):
            if row["messages"][-1]["role"] == "assistant":
                rows.append(_reply(row, row["messages"][-1]["content"], HARMLESS, name != "helpful.train"))
    return [*rows, *_beginnings(rows)]


def _beginnings(full_replies: Sequence[Example]) -> list[Example]:
    """Beginnings of harmless replies, as a check of a stream sees them: a few words, or half of them. Beginnings of
    harmful replies may still be harmless, so they have no label."""
    rows = []
    for e in full_replies:
        words = (e.reply or "").split()
        if e.label == HARMLESS and len(words) > 4:
            length = (2 + e.group % 6, len(words) // 2)[e.group % 2]
            rows.append(replace(e, reply=" ".join(words[:length])))
    return rows


def _later_turns(opening: Sequence[Example]) -> list[Example]:
    """Examples as later turns, since a turn after an exchange is mostly harmless and often a word or two. Each answered
    training row is continued with a plain remark, and every other one also with a prompt that opens a conversation."""
    exchanges = [
        row["messages"]
        for name in ("helpful.train", "lookalikes.train")
        for row in read_jsonl(shipped(name))
        if row["messages"][-1]["role"] == "assistant"
    ]
    rows = []
    for n, messages in enumerate(exchanges):
        turns = [*messages, user(REMARKS[n % len(REMARKS)])]
        rows.append(Example(turns, None, HARMLESS, False, _group(turns)))
        if n % 2 and len(opening[n * STEP % len(opening)].messages) == 1:
            opener = opening[n * STEP % len(opening)]
            rows.append(replace(opener, messages=[*messages, *opener.messages]))
    return rows


def _prompt(row: Mapping[str, Any], label: str, alike: bool) -> Example:
    messages = row["messages"]
    while messages[-1]["role"] != "user":
        messages = messages[:-1]
    return Example(messages, None, label, alike, _group(messages))


def _reply(row: Mapping[str, Any], reply: str, label: str, alike: bool) -> Example:
    prompt = _prompt(row, label, alike)
    return Example(prompt.messages, reply, label, alike, prompt.group)


def _text(messages: Sequence[Message]) -> str:
    return "\n\n".join(m["content"] for m in messages)


def _group(messages: Sequence[Message]) -> int:
    return int(hashlib.sha256(_text(messages).encode()).hexdigest()[:8], 16)
