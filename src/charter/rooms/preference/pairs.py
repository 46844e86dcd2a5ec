"""Pairs for a preference model: read, built of single replies, split by first user turn, ranked, and cut into steps.

A row of each held-out pair is kept, from which every figure of the room can be recomputed.

The ladder (`rungs`) teaches the place of the fixed reply. The harmlessness protocol compares every reply with one fixed
sentence (card section 3.4), so a preference model must know that sentence's place: above a reply that complies with
harm, below a refusal that explains and offers help. A pair of a refusal over compliance gives these two rungs.

If the refusal detector is unsure of a reply on which a pair depends, there is no pair; functions count these in
`unsure`, by the kind of pair.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge import rankings as ranked
from charter.ground.judge.detect import surely_refuses
from charter.ground.judge.fitness import FIXED_REPLY, Scorer
from charter.ground.judge.rankings import Ranking, rank, share_of, split_heldout
from charter.ground.judge.rater import rating_of
from charter.ground.settings.seed import derive_seed, sample_rows
from charter.ground.text.dialogue import Comparison, Dialogue, cut_after_reply, prompt_of
from charter.ground.text.examples import kept_rounds, read_transcripts
from charter.ground.text.packing import fill_steps
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.rooms.preference.settings import Settings

# rating difference that makes a pair; rating that puts a reply below the fixed one
APART, HARMFUL = 1.0, 2.5


def rungs(comparisons: Sequence[Comparison], unsure: Counter[str] | None = None) -> list[Comparison]:
    """The additional pairs, each once and none that exists already; their sources end in `+fixed`. Pairs with soft
    labels or an AI's give none: their order is unsure."""
    pairs: list[Comparison] = []
    for c in comparisons:
        if c.p_chosen < 1.0 or c.source.startswith("ai:") or c.axis != "harmless":
            continue
        verdicts = surely_refuses(c.chosen), surely_refuses(c.rejected)
        if _undecided(verdicts, (True, False), unsure, "ladder"):
            continue
        if verdicts == (True, False):
            pairs.append(_pair(c, "a", FIXED_REPLY, c.rejected))
            if explains(c.chosen):
                pairs.append(_pair(c, "b", c.chosen, FIXED_REPLY))
    existing = {_words(c) for c in comparisons}
    first = {_words(c): c for c in reversed(pairs)}
    return [c for c in pairs if _words(c) not in existing and first[_words(c)] is c]


def _undecided(
    verdicts: tuple[bool | None, ...], expected: tuple[bool, ...], unsure: Counter[str] | None, kind: str
) -> bool:
    """Whether the verdicts could be the expected ones and at least one is unsure; counts this in `unsure`."""
    near = all(v is None or v == w for v, w in zip(verdicts, expected, strict=True))
    undecided = near and None in verdicts
    if undecided and unsure is not None:
        unsure[f"unsure_{kind}"] += 1
    return undecided


def _is(reply: str, refusal: bool, unsure: Counter[str] | None, kind: str) -> bool:
    """Whether a reply surely is a refusal, or with `refusal` false surely is none."""
    verdict = surely_refuses(reply)
    return not _undecided((verdict,), (refusal,), unsure, kind) and verdict == refusal


def _words(c: Comparison) -> tuple[str, str, str]:
    return json.dumps(c.messages), c.chosen, c.rejected


def _pair(c: Comparison, letter: str, chosen: str, rejected: str) -> Comparison:
    return replace(c, id=f"{c.id}-fixed-{letter}", chosen=chosen, rejected=rejected, source=f"{c.source}+fixed")


def compare_revisions(transcripts: Sequence[dict[str, Any]], unsure: Counter[str] | None = None) -> list[Comparison]:
    """One pair per transcript: the last kept revision over the draft.

    A transcript without a changed revision gives none. If the draft refused and the revision answers, the axis is
    helpful, else harmless; if the detector is unsure, there is no pair.
    """
    pairs = []
    for t in transcripts:
        revisions = [step["revision"] for _, _, step in kept_rounds(t)]
        if not revisions or revisions[-1] == t["draft"]:
            continue
        verdicts = surely_refuses(t["draft"]), surely_refuses(revisions[-1])
        if _undecided(verdicts, (True, False), unsure, "revised"):
            continue
        axis = "helpful" if verdicts == (True, False) else "harmless"
        pairs.append(_of_transcript(t, "revised", revisions[-1], axis, "+revised"))
    return pairs


def _of_transcript(t: dict[str, Any], word: str, chosen: str, axis: str, source: str) -> Comparison:
    """`chosen` over the draft of a transcript."""
    messages, topic = tuple(t["messages"]), t.get("topic", "")
    return Comparison(f"{t['id']}-{word}", messages, chosen, t["draft"], 1.0, axis, source, topic)


def _of_answer(d: Dialogue, word: str, rejected: str, axis: str, source: str) -> Comparison:
    """The last reply of a dialogue over `rejected`."""
    reply, messages = d.messages[-1]["content"], prompt_of(d).messages
    return Comparison(f"{d.id}-{word}", messages, reply, rejected, 1.0, axis, source, d.topic)


def below_fixed(
    transcripts: Sequence[dict[str, Any]],
    refused: Sequence[Dialogue] = (),
    seed: int = 0,
    unsure: Counter[str] | None = None,
) -> list[Comparison]:
    """The fixed reply over each draft that complied with a harmful prompt: a grader must see the kind of text that it
    will grade beside the fixed reply. Drafts that refuse, or may do so, give none.

    One short refusal of `refused`, drawn at random, is paired over each such draft too. A grader that knows only long
    refusals may put short ones below harm."""
    went_along = [t for t in transcripts if _is(t["draft"], False, unsure, "drafts")]
    pairs = [_of_transcript(t, "draft", FIXED_REPLY, "harmless", "+fixed") for t in went_along]
    refusals = [d.messages[-1]["content"] for d in refused]
    if short := [reply for reply in refusals if not explains(reply)]:
        for t in went_along:
            refusal = random.Random(derive_seed(seed, "short", t["id"])).choice(short)
            pairs.append(_of_transcript(t, "short", refusal, "harmless", "+fixed"))
    return pairs


def of_ratings(rated: Sequence[Dialogue]) -> list[Comparison]:
    """Pairs of replies rated for harm, 0 to 4. Of one prompt, the less harmful beats one worse by APART or more; the
    fixed reply beats each rated HARMFUL or more. Raises CharterError for a reply without a rating."""
    by_prompt: dict[str, list[tuple[float, Dialogue]]] = {}
    for d in rated:
        by_prompt.setdefault(_key(d), []).append((rating_of(d), d))
    pairs = []
    for replies in by_prompt.values():
        for worse, bad in replies:
            reply = bad.messages[-1]["content"]
            pairs += [
                _of_answer(good, f"over-{bad.id}", reply, "harmless", "rated")
                for better, good in replies
                if better + APART <= worse
            ]
            if worse >= HARMFUL:
                fields = prompt_of(bad).messages, FIXED_REPLY, reply
                pairs.append(Comparison(f"{bad.id}-fixed", *fields, 1.0, "harmless", "rated+fixed", bad.topic))
    return pairs


def above_fixed(refused: Sequence[Dialogue]) -> list[Comparison]:
    """Each good refusal over the fixed reply, the counterpart of `below_fixed`. Without it a grader that has seen many
    replies below the fixed one takes it for the best. Replies hardly longer than the fixed one give none."""
    good = (d for d in refused if explains(d.messages[-1]["content"]))
    return [_of_answer(d, "good", FIXED_REPLY, "harmless", "+fixed") for d in good]


def explains(refusal: str) -> bool:
    """Whether a refusal is long enough for a reason or an offer, which the fixed reply lacks."""
    return len(refusal.split()) > 2 * len(FIXED_REPLY.split())


def contrasts(
    answered: Sequence[Dialogue],
    refused: Sequence[Dialogue],
    overrefused: Sequence[Dialogue],
    seed: int,
    unsure: Counter[str] | None = None,
) -> list[Comparison]:
    """Discrimination taught from single replies: an answer to a harmless prompt beats refusals of it.

    It beats the fixed reply, which beats similar text if the prompt is unsafe (`below_fixed`). It also beats a second
    refusal, drawn evenly from the kinds that exist: a good one of another, harmful prompt, and a needless one of the
    same prompt (from `overrefused`). Only the prompt tells them apart, not length or politeness. Answers that refuse,
    or may do so, give no pair.
    """
    elsewhere = [d.messages[-1]["content"] for d in refused]
    needless: dict[str, list[str]] = {}
    for d in overrefused:
        if _is(d.messages[-1]["content"], True, unsure, "overrefused"):
            needless.setdefault(_key(d), []).append(d.messages[-1]["content"])
    pairs = []
    for d in answered:
        reply = d.messages[-1]["content"]
        if not _is(reply, False, unsure, "answered"):
            continue
        rng = random.Random(derive_seed(seed, "contrast", d.id, reply))
        replies_by_kind = {"elsewhere": elsewhere, "needless": needless.get(_key(d), [])}
        refusals = {"fixed": FIXED_REPLY}
        if kinds := [kind for kind, replies in replies_by_kind.items() if replies]:
            kind = rng.choice(kinds)
            refusals[kind] = rng.choice(replies_by_kind[kind])
        pairs += [_of_answer(d, kind, refusal, "helpful", f"{kind}+contrast") for kind, refusal in refusals.items()]
    return pairs


def count_contrasts(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """Counts of contrasts by kind of refusal: contrasts_fixed, contrasts_elsewhere, contrasts_needless."""
    kinds = Counter(c.source.removesuffix("+contrast") for c in comparisons if c.source.endswith("+contrast"))
    return {f"contrasts_{kind}": kinds[kind] for kind in sorted(kinds)}


def _key(dialogue: Dialogue) -> str:
    return json.dumps(prompt_of(dialogue).messages)


def weight_of(settings: Settings, comparison: Comparison) -> float:
    """The weight of its axis times its own."""
    return settings.axis_weights.get(comparison.axis, 1.0) * comparison.weight


def split(
    settings: Settings, inputs: Inputs, seed: int, unsure: Counter[str] | None = None
) -> tuple[list[Comparison], list[Comparison]]:
    """Training and held-out comparisons, disjoint in their first user turns.

    `part` takes one half of all prompts: two models of opposite parts share no training prompt. Without held-out
    inputs a share of the half's prompts is held out; held-out inputs are measured whole by both. `unsure` counts pairs
    that are left out because the refusal detector is unsure of a reply.
    """
    refusals = [
        (i, [cut_after_reply(d) for d in read_dialogues(i.folder, lessons=True) if not d.meta.get("cut")])
        for i in inputs.many("refused")
    ]
    refused = [d for _, replies in refusals for d in replies]
    needless = [cut_after_reply(d) for i in inputs.many("overrefused") for d in read_dialogues(i.folder, lessons=True)]
    limit = settings.pairs.limit
    sources = [(i, read_comparisons(i.folder), limit) for i in inputs.many("comparisons")]
    for i in inputs.many("answered"):
        answered = [cut_after_reply(d) for d in read_dialogues(i.folder, lessons=True)]
        pairs = contrasts(answered, refused, needless, seed, unsure)
        sources.append((i, pairs, min(limit or len(pairs), settings.pairs.contrasts or len(pairs))))
    sources += [(i, compare_revisions(read_transcripts(i.folder), unsure), limit) for i in inputs.many("transcripts")]
    for i in inputs.many("drafts"):
        sources.append((i, below_fixed(read_transcripts(i.folder), refused, seed, unsure), limit))
    for i in inputs.many("rated"):
        rated = [cut_after_reply(d) for d in read_dialogues(i.folder, lessons=True)]
        sources.append((i, of_ratings(rated), limit))
    if settings.pairs.refused_above_fixed:
        sources += [(i, above_fixed(replies), limit) for i, replies in refusals]
    # the seed has the input's place, since its id changes with code
    rows = [
        c
        for place, (i, pairs, most) in enumerate(sources)
        for c in sample_rows(pairs, most, derive_seed(seed, "limit", i.role, place))
    ]
    if settings.pairs.part != "all":
        first_half = settings.pairs.part == "first"
        rows = [c for c in rows if (share_of(c, "part") < 0.5) == first_half]
    heldout_pairs = [c for i in inputs.many("heldout") for c in read_comparisons(i.folder)]
    train, heldout = split_heldout(rows, heldout_pairs, settings.pairs.heldout_share)
    unknown = set(settings.axis_weights) - {c.axis for c in rows}
    if unknown:
        raise CharterError(
            f"axis_weights names {', '.join(sorted(unknown))}; the comparisons have the axes "
            f"{', '.join(sorted({c.axis for c in rows})) or 'of none'}"
        )
    train = [c for c in train if weight_of(settings, c) > 0]
    if not train:
        raise CharterError(
            f"no comparisons are left to train on (of {len(rows)} read); give more, lower heldout_share, or "
            "raise weights"
        )
    return train + (rungs(train, unsure) if settings.pairs.ladder else []), heldout


def encode(settings: Settings, template: Template, rows: Sequence[Comparison], context: int) -> list[Ranking]:
    """Comparisons gathered by prompt, weighted by axis, within `context` tokens."""
    return rank(template, rows, context, partial(weight_of, settings), settings.pairs.weigh == "prompt")


def sample(rankings: Sequence[Ranking], pairs: int, seed: int) -> list[Ranking]:
    """Rankings drawn at random until they hold `pairs` pairs (0: all of them), in their order."""
    if not pairs:
        return list(rankings)
    places = list(range(len(rankings)))
    random.Random(derive_seed(seed, "curve")).shuffle(places)
    indices: list[int] = []
    while places and sum(len(rankings[i].pairs) for i in indices) < pairs:
        indices.append(places.pop())
    return [rankings[i] for i in sorted(indices)]


def order(rankings: Sequence[Ranking], settings: Settings, seed: int) -> list[list[Ranking]]:
    """Optimizer steps over all epochs; a step takes rankings until it has `batch` pairs."""
    return fill_steps(rankings, lambda ranking: len(ranking.pairs), settings.batch, settings.epochs, seed)


def heldout_rows(
    score: Scorer, rankings: Sequence[Ranking], gaps: Sequence[Sequence[float]] = ()
) -> list[dict[str, Any]]:
    """One row per held-out pair; `gaps`: the `score_gaps` of each averaged member."""
    rows = ranked.heldout_rows(rankings, score([(ranking.messages, ranking.texts) for ranking in rankings]))
    for row, member_gaps in zip(rows, zip(*gaps, strict=True), strict=bool(gaps)):
        row["member_gaps"] = list(member_gaps)
    return rows


def score_gaps(score: Scorer, rankings: Sequence[Ranking]) -> list[float]:
    """Score of the chosen reply less that of the rejected one, for each row of `heldout_rows`."""
    return [row["chosen_score"] - row["rejected_score"] for row in heldout_rows(score, rankings)]
