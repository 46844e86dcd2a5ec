"""The ladder: where the fixed reply stands between compliance and a good refusal, taught as pairs of its own.

The harmlessness protocol compares every reply with one fixed sentence (card section 3.4), so a preference model
must know that sentence's place: above a reply that complies with harm, below a refusal that explains and offers.
A pair of a refusal over compliance gives these two rungs.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from charter.ground.judge.detect import is_refusal
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Comparison, Dialogue, prompt_of
from charter.ground.text.exhibits import kept_rounds


def rungs(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The further pairs, each once and none that is there already; their sources end in `+fixed`. Pairs with soft
    labels or an AI's give none: their order is unsure."""
    found: list[Comparison] = []
    for c in comparisons:
        if c.p_chosen < 1.0 or c.source.startswith("ai:"):
            continue
        refused, rejected_refused = is_refusal(c.chosen), is_refusal(c.rejected)
        if c.axis == "harmless" and refused and not rejected_refused:
            found.append(_pair(c, "a", FIXED_REPLY, c.rejected))
            if explains(c.chosen):
                found.append(_pair(c, "b", c.chosen, FIXED_REPLY))
    there = {_words(c) for c in comparisons}
    first = {_words(c): c for c in reversed(found)}
    return [c for c in found if _words(c) not in there and first[_words(c)] is c]


def _words(c: Comparison) -> tuple[str, str, str]:
    return json.dumps(c.messages), c.chosen, c.rejected


def _pair(c: Comparison, letter: str, chosen: str, rejected: str) -> Comparison:
    return replace(
        c, id=f"{c.id}-fixed-{letter}", chosen=chosen, rejected=rejected, source=f"{c.source}+fixed"
    )


def revised(transcripts: Sequence[dict[str, Any]]) -> list[Comparison]:
    """What critique made of a draft is better than the draft: one pair a transcript, its last kept revision chosen.

    A transcript whose draft was good as it stood gives none. A revision that answers where the draft refused is
    better in helpfulness, any other in harmlessness.
    """
    found = []
    for t in transcripts:
        kept = [made["revision"] for _, _, made in kept_rounds(t)]
        if not kept or kept[-1] == t["draft"]:
            continue
        answers = is_refusal(t["draft"]) and not is_refusal(kept[-1])
        axis = "helpful" if answers else "harmless"
        found.append(_of_transcript(t, "revised", kept[-1], axis, "+revised"))
    return found


def _of_transcript(t: dict[str, Any], word: str, chosen: str, axis: str, source: str) -> Comparison:
    """Something over the draft of a transcript."""
    messages, topic = tuple(t["messages"]), t.get("topic", "")
    return Comparison(f"{t['id']}-{word}", messages, chosen, t["draft"], 1.0, axis, source, topic)


def _of_answer(d: Dialogue, word: str, rejected: str, axis: str, source: str) -> Comparison:
    """The last reply of a dialogue over something."""
    own, messages = d.messages[-1]["content"], prompt_of(d).messages
    return Comparison(f"{d.id}-{word}", messages, own, rejected, 1.0, axis, source, d.topic)


def below_fixed(transcripts: Sequence[dict[str, Any]]) -> list[Comparison]:
    """The fixed reply over each draft that went along with a harmful prompt: a grader must have seen, beside the fixed
    reply, the kind of text that it will grade. Drafts that refuse give none."""
    went_along = (t for t in transcripts if not is_refusal(t["draft"]))
    return [_of_transcript(t, "draft", FIXED_REPLY, "harmless", "+fixed") for t in went_along]


def above_fixed(refused: Sequence[Dialogue]) -> list[Comparison]:
    """Each good refusal over the fixed reply, the other side of `below_fixed`: without it a grader that has seen much
    below the fixed reply takes that reply for the best. Replies of hardly more words than it has give none."""
    good = (d for d in refused if explains(d.messages[-1]["content"]))
    return [_of_answer(d, "good", FIXED_REPLY, "harmless", "+fixed") for d in good]


def explains(refusal: str) -> bool:
    """Whether a refusal has the room for a reason or an offer, which the fixed reply lacks."""
    return len(refusal.split()) > 2 * len(FIXED_REPLY.split())


def contrasts(
    answered: Sequence[Dialogue], refused: Sequence[Dialogue], overrefused: Sequence[Dialogue], seed: int
) -> list[Comparison]:
    """Discrimination taught from single replies: an answer to a harmless prompt beats refusals of it.

    It beats the fixed reply, which beats a like text where the prompt is unsafe (`below_fixed`), and a second refusal,
    drawn evenly from two kinds, as far as they are there: a good one written for another, harmful prompt, and a
    needless one of the same prompt (from `overrefused`). Length and politeness can't tell them apart, only what was
    asked. Answers that refuse give no pair.
    """
    elsewhere = [d.messages[-1]["content"] for d in refused]
    needless: dict[str, list[str]] = {}
    for d in overrefused:
        if is_refusal(d.messages[-1]["content"]):
            needless.setdefault(_key(d), []).append(d.messages[-1]["content"])
    found = []
    for d in answered:
        own = d.messages[-1]["content"]
        if is_refusal(own):
            continue
        rng = random.Random(derive_seed(seed, "contrast", d.id, own))
        written = {"elsewhere": elsewhere, "needless": needless.get(_key(d), [])}
        refusals = {"fixed": FIXED_REPLY}
        if kinds := [kind for kind, replies in written.items() if replies]:
            kind = rng.choice(kinds)
            refusals[kind] = rng.choice(written[kind])
        found += [_of_answer(d, kind, said, "helpful", f"{kind}+contrast") for kind, said in refusals.items()]
    return found


def count_contrasts(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """How many contrasts have a refusal of each kind: contrasts_fixed, contrasts_elsewhere, contrasts_needless."""
    kinds = Counter(c.source.removesuffix("+contrast") for c in comparisons if c.source.endswith("+contrast"))
    return {f"contrasts_{kind}": kinds[kind] for kind in sorted(kinds)}


def _key(dialogue: Dialogue) -> str:
    return json.dumps(prompt_of(dialogue).messages)
