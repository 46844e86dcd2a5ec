"""The training pairs: comparisons as they are, and better replies over worse ones to the same prompt."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.detect import is_refusal
from charter.ground.judge.rankings import split_heldout
from charter.ground.learn.supervised import Row, encode_row
from charter.ground.settings.seed import derive_seed, sample_rows
from charter.ground.text.dialogue import Comparison, Dialogue, cut_after_reply, prompt_of
from charter.ground.text.records import read_comparisons, read_dialogues
from charter.ground.text.template import Template
from charter.rooms.dpo.settings import Settings

# messages before the reply -> text of the reply -> its dialogue
Replies = dict[str, dict[str, Dialogue]]


def pair_replies(better: Sequence[Dialogue], worse: Sequence[Dialogue]) -> tuple[list[Comparison], dict[str, int]]:
    """Pair better replies with worse ones to the same messages, p = 1; and count the replies without counterpart.

    If a prompt has several, the first are paired, then the second. The shorter list repeats, so that each reply is in
    a pair. Equal texts make no pair, and a repeated reply counts once.
    """
    good, bad = (_by_prompt(dialogues) for dialogues in (better, worse))
    pairs = []
    for prompt in (prompt for prompt in good if prompt in bad):
        chosen, rejected = list(good[prompt].items()), list(bad[prompt].items())
        for n in range(max(len(chosen), len(rejected))):
            (better_text, d), (worse_text, against) = chosen[n % len(chosen)], rejected[n % len(rejected)]
            if better_text != worse_text:
                pairs.append(_pair(d, against))
    unmatched = {
        "unmatched_better": sum(len(replies) for prompt, replies in good.items() if prompt not in bad),
        "unmatched_worse": sum(len(replies) for prompt, replies in bad.items() if prompt not in good),
    }
    return pairs, unmatched


def _by_prompt(dialogues: Sequence[Dialogue]) -> Replies:
    by_prompt: Replies = {}
    for d in map(cut_after_reply, dialogues):
        replies = by_prompt.setdefault(json.dumps(prompt_of(d).messages), {})
        replies.setdefault(d.messages[-1]["content"], d)
    return by_prompt


def _pair(better: Dialogue, worse: Dialogue) -> Comparison:
    """The axis is harmless if only the better reply refuses, else helpful."""
    chosen, rejected = (d.messages[-1]["content"] for d in (better, worse))
    axis = "harmless" if is_refusal(chosen) and not is_refusal(rejected) else "helpful"
    id, messages = f"{better.id}-over-{worse.id}", prompt_of(better).messages
    return Comparison(id, messages, chosen, rejected, 1.0, axis, f"{better.source}+contrast", better.topic)


def split(settings: Settings, inputs: Inputs, seed: int) -> tuple[list[Comparison], list[Comparison], dict[str, int]]:
    """Training and held-out comparisons, disjoint in their first user turns, and counts of unpaired replies."""
    sources = [(i, read_comparisons(i.folder)) for i in [*inputs.many("comparisons"), *inputs.many("heldout")]]
    axes = {c.axis for _, comparisons in sources for c in comparisons}
    if unknown := set(settings.axes) - axes:
        raise CharterError(
            f"axes names {', '.join(sorted(unknown))}; the comparisons have the axes {', '.join(sorted(axes))}"
        )
    selected = [
        (i.role, [c for c in comparisons if not settings.axes or c.axis in settings.axes]) for i, comparisons in sources
    ]
    # the seed has the input's place, since its id changes with code
    rows = [
        c
        for place, (role, comparisons) in enumerate(selected)
        if role == "comparisons"
        for c in sample_rows(comparisons, settings.limit, derive_seed(seed, "limit", role, place))
    ]
    counts: dict[str, int] = {}
    if better := _dialogues(inputs, "better"):
        built, counts = pair_replies(better, _dialogues(inputs, "worse"))
        if not built:
            raise CharterError(
                "no reply of better can be paired with one of worse: both need dialogues with the same messages before "
                "the last reply, and different last replies"
            )
        rows += built
    heldout_rows = [c for role, comparisons in selected if role == "heldout" for c in comparisons]
    train, heldout = split_heldout(rows, heldout_rows, settings.heldout_share)
    train = [c for c in train if c.weight > 0]
    if not train:
        raise CharterError(f"no training pairs are left (of {len(rows)} read); give more, or lower heldout_share")
    return train, heldout, counts


def keep_fitting(template: Template, rows: Sequence[Comparison], context: int) -> list[Comparison]:
    """The comparisons whose prompt fits the context with either reply."""

    def tokens(c: Comparison) -> int:
        encoded = (template.encode_reply(c.messages, reply) for reply in (c.chosen, c.rejected))
        return max(len(prompt) + len(reply) for prompt, reply in encoded)

    return [c for c in rows if tokens(c) <= context]


def read_replay(
    settings: Settings, inputs: Inputs, template: Template, context: int, seed: int
) -> tuple[list[Row], int]:
    """The dialogues of `replay` that fit the context, and how many don't fit."""
    rows = [encode_row(d, template, context, drop_overlong=True) for d in _dialogues(inputs, "replay") if d.weight > 0]
    fitting = [row for row in rows if row is not None]
    return fitting, len(rows) - len(fitting)


def replay_of_step(rows: Sequence[Row], step: int, batch: int, seed: int) -> list[Row]:
    """The replayed dialogues of a step: passes over all of them, each shuffled anew. Empty without `rows`."""
    batch_rows = []
    orders: dict[int, list[int]] = {}
    for n in range(step * batch, (step + 1) * batch) if rows else ():
        epoch, at = divmod(n, len(rows))
        if epoch not in orders:
            orders[epoch] = random.Random(derive_seed(seed, "replay", epoch)).sample(range(len(rows)), len(rows))
        batch_rows.append(rows[orders[epoch][at]])
    return batch_rows


def _dialogues(inputs: Inputs, role: str) -> list[Dialogue]:
    return [d for i in inputs.many(role) for d in read_dialogues(i.folder, lessons=True)]
