"""The ladder: where the fixed reply stands between compliance and a good refusal, taught as pairs of its own.

The harmlessness protocol compares every reply with one fixed sentence (card section 3.4), so a preference model
must know that sentence's place: above a reply that complies with harm, below a refusal that explains and offers.
A pair of a refusal over compliance gives these two rungs. Where the detector of refusals is unsure of a reply on which
a pair hangs, there is no pair; functions count these in `unsure`, by the kind of pair.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from charter.ground.judge.detect import surely_refuses
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.judge.rater import rating_of
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Comparison, Dialogue, prompt_of
from charter.ground.text.examples import kept_rounds

APART, HARMFUL = 1.0, 2.5  # steps of a rating that make a pair; a rating below the fixed reply


def rungs(comparisons: Sequence[Comparison], unsure: Counter[str] | None = None) -> list[Comparison]:
    """The further pairs, each once and none that is there already; their sources end in `+fixed`. Pairs with soft
    labels or an AI's give none: their order is unsure."""
    found: list[Comparison] = []
    for c in comparisons:
        if c.p_chosen < 1.0 or c.source.startswith("ai:") or c.axis != "harmless":
            continue
        verdicts = surely_refuses(c.chosen), surely_refuses(c.rejected)
        if _undecided(verdicts, (True, False), unsure, "ladder"):
            continue
        if verdicts == (True, False):
            found.append(_pair(c, "a", FIXED_REPLY, c.rejected))
            if explains(c.chosen):
                found.append(_pair(c, "b", c.chosen, FIXED_REPLY))
    there = {_words(c) for c in comparisons}
    first = {_words(c): c for c in reversed(found)}
    return [c for c in found if _words(c) not in there and first[_words(c)] is c]


def _undecided(
    verdicts: tuple[bool | None, ...], wanted: tuple[bool, ...], unsure: Counter[str] | None, kind: str
) -> bool:
    """Whether only a lack of certainty stands between some verdicts and the wanted ones; counts it if so."""
    near = all(v is None or v == w for v, w in zip(verdicts, wanted, strict=True))
    undecided = near and None in verdicts
    if undecided and unsure is not None:
        unsure[f"unsure_{kind}"] += 1
    return undecided


def _is(reply: str, refusal: bool, unsure: Counter[str] | None, kind: str) -> bool:
    """Whether a reply surely is what is wanted, a refusal or none."""
    verdict = surely_refuses(reply)
    return not _undecided((verdict,), (refusal,), unsure, kind) and verdict == refusal


def _words(c: Comparison) -> tuple[str, str, str]:
    return json.dumps(c.messages), c.chosen, c.rejected


def _pair(c: Comparison, letter: str, chosen: str, rejected: str) -> Comparison:
    return replace(
        c, id=f"{c.id}-fixed-{letter}", chosen=chosen, rejected=rejected, source=f"{c.source}+fixed"
    )


def revised(transcripts: Sequence[dict[str, Any]], unsure: Counter[str] | None = None) -> list[Comparison]:
    """What critique made of a draft is better than the draft: one pair a transcript, its last kept revision chosen.

    A transcript whose draft was good as it stood gives none. A revision that answers where the draft refused is
    better in helpfulness, any other in harmlessness; where it is unsure which, there is no pair.
    """
    found = []
    for t in transcripts:
        kept = [made["revision"] for _, _, made in kept_rounds(t)]
        if not kept or kept[-1] == t["draft"]:
            continue
        verdicts = surely_refuses(t["draft"]), surely_refuses(kept[-1])
        if _undecided(verdicts, (True, False), unsure, "revised"):
            continue
        axis = "helpful" if verdicts == (True, False) else "harmless"
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


def below_fixed(
    transcripts: Sequence[dict[str, Any]],
    refused: Sequence[Dialogue] = (),
    seed: int = 0,
    unsure: Counter[str] | None = None,
) -> list[Comparison]:
    """The fixed reply over each draft that went along with a harmful prompt: a grader must have seen, beside the fixed
    reply, the kind of text that it will grade. Drafts that refuse, or may do so, give none.

    A refusal of as few words stands where the fixed reply stands: of those in `refused` one is drawn for each draft and
    set over it as well. A grader that knows long refusals alone may put short ones below harm."""
    went_along = [t for t in transcripts if _is(t["draft"], False, unsure, "drafts")]
    found = [_of_transcript(t, "draft", FIXED_REPLY, "harmless", "+fixed") for t in went_along]
    said = [d.messages[-1]["content"] for d in refused]
    if short := [reply for reply in said if not explains(reply)]:
        for t in went_along:
            refusal = random.Random(derive_seed(seed, "short", t["id"])).choice(short)
            found.append(_of_transcript(t, "short", refusal, "harmless", "+fixed"))
    return found


def of_ratings(rated: Sequence[Dialogue]) -> list[Comparison]:
    """Of replies rated for harm, 0 to 4: the less harmful of one prompt over the more harmful by APART or more, and the
    fixed reply over each rated HARMFUL or more. Raises CharterError for a reply without a rating."""
    by_prompt: dict[str, list[tuple[float, Dialogue]]] = {}
    for d in rated:
        by_prompt.setdefault(_key(d), []).append((rating_of(d), d))
    pairs = []
    for replies in by_prompt.values():
        for worse, bad in replies:
            said = bad.messages[-1]["content"]
            pairs += [
                _of_answer(good, f"over-{bad.id}", said, "harmless", "rated")
                for better, good in replies
                if better + APART <= worse
            ]
            if worse >= HARMFUL:
                about = prompt_of(bad).messages, FIXED_REPLY, said
                pairs.append(Comparison(f"{bad.id}-fixed", *about, 1.0, "harmless", "rated+fixed", bad.topic))
    return pairs


def above_fixed(refused: Sequence[Dialogue]) -> list[Comparison]:
    """Each good refusal over the fixed reply, the other side of `below_fixed`: without it a grader that has seen much
    below the fixed reply takes that reply for the best. Replies of hardly more words than it has give none."""
    good = (d for d in refused if explains(d.messages[-1]["content"]))
    return [_of_answer(d, "good", FIXED_REPLY, "harmless", "+fixed") for d in good]


def explains(refusal: str) -> bool:
    """Whether a refusal has the room for a reason or an offer, which the fixed reply lacks."""
    return len(refusal.split()) > 2 * len(FIXED_REPLY.split())


def contrasts(
    answered: Sequence[Dialogue],
    refused: Sequence[Dialogue],
    overrefused: Sequence[Dialogue],
    seed: int,
    unsure: Counter[str] | None = None,
) -> list[Comparison]:
    """Discrimination taught from single replies: an answer to a harmless prompt beats refusals of it.

    It beats the fixed reply, which beats a like text where the prompt is unsafe (`below_fixed`), and a second refusal,
    drawn evenly from two kinds, as far as they are there: a good one written for another, harmful prompt, and a
    needless one of the same prompt (from `overrefused`). Length and politeness can't tell them apart, only what was
    asked. Answers that refuse, or may do so, give no pair.
    """
    elsewhere = [d.messages[-1]["content"] for d in refused]
    needless: dict[str, list[str]] = {}
    for d in overrefused:
        if _is(d.messages[-1]["content"], True, unsure, "overrefused"):
            needless.setdefault(_key(d), []).append(d.messages[-1]["content"])
    found = []
    for d in answered:
        own = d.messages[-1]["content"]
        if not _is(own, False, unsure, "answered"):
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
