"""What is learnt from: comparisons as they are, and replies to one prompt paired as better over worse."""

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

Replies = dict[str, dict[str, Dialogue]]  # messages before the reply -> text of the reply -> its dialogue


def paired(better: Sequence[Dialogue], worse: Sequence[Dialogue]) -> tuple[list[Comparison], dict[str, int]]:
    """Better replies over worse ones to the same messages, p = 1; and how many replies have no counterpart.

    Of several to one prompt the first stand together, then the second; the fewer are taken again in turn, so that each
    reply is in a pair. Two of one text are no pair, and a reply that stands twice counts once.
    """
    good, bad = (_by_prompt(dialogues) for dialogues in (better, worse))
    pairs = []
    for prompt in (prompt for prompt in good if prompt in bad):
        chosen, rejected = list(good[prompt].items()), list(bad[prompt].items())
        for n in range(max(len(chosen), len(rejected))):
            (own, d), (other, against) = chosen[n % len(chosen)], rejected[n % len(rejected)]
            if own != other:
                pairs.append(_pair(d, against))
    unmatched = {
        "unmatched_better": sum(len(replies) for prompt, replies in good.items() if prompt not in bad),
        "unmatched_worse": sum(len(replies) for prompt, replies in bad.items() if prompt not in good),
    }
    return pairs, unmatched


def _by_prompt(dialogues: Sequence[Dialogue]) -> Replies:
    found: Replies = {}
    for d in map(cut_after_reply, dialogues):
        replies = found.setdefault(json.dumps(prompt_of(d).messages), {})
        replies.setdefault(d.messages[-1]["content"], d)
    return found


def _pair(better: Dialogue, worse: Dialogue) -> Comparison:
    """Its axis is harmless where the better reply alone refuses, else helpful."""
    own, other = (d.messages[-1]["content"] for d in (better, worse))
    axis = "harmless" if is_refusal(own) and not is_refusal(other) else "helpful"
    id, messages = f"{better.id}-over-{worse.id}", prompt_of(better).messages
    return Comparison(id, messages, own, other, 1.0, axis, f"{better.source}+contrast", better.topic)


def split(
    settings: Settings, inputs: Inputs, seed: int
) -> tuple[list[Comparison], list[Comparison], dict[str, int]]:
    """Training and held-out comparisons, disjoint in their first user turns, and counts of what was left unpaired."""
    read = [(i, read_comparisons(i.folder)) for i in [*inputs.many("comparisons"), *inputs.many("heldout")]]
    known = {c.axis for _, comparisons in read for c in comparisons}
    if unknown := set(settings.axes) - known:
        raise CharterError(
            f"axes names {', '.join(sorted(unknown))}; the comparisons have the axes {', '.join(sorted(known))}"
        )
    taken = [
        (i.role, [c for c in comparisons if not settings.axes or c.axis in settings.axes])
        for i, comparisons in read
    ]
    # an input draws by its place among them, since its id changes with code
    rows = [
        c
        for place, (role, comparisons) in enumerate(taken)
        if role == "comparisons"
        for c in sample_rows(comparisons, settings.limit, derive_seed(seed, "limit", role, place))
    ]
    counts: dict[str, int] = {}
    if better := _dialogues(inputs, "better"):
        built, counts = paired(better, _dialogues(inputs, "worse"))
        if not built:
            raise CharterError(
                "no reply of better stands against one of worse: both need dialogues with the same messages before "
                "the last reply, and other words in it"
            )
        rows += built
    given = [c for role, comparisons in taken if role == "heldout" for c in comparisons]
    train, heldout = split_heldout(rows, given, settings.heldout_share)
    train = [c for c in train if c.weight > 0]
    if not train:
        raise CharterError(
            f"no pairs are left to learn from (of {len(rows)} read); give more, or lower heldout_share"
        )
    return train, heldout, counts


def fitting(template: Template, rows: Sequence[Comparison], context: int) -> list[Comparison]:
    """Those whose prompt fits the context with either reply."""

    def tokens(c: Comparison) -> int:
        encoded = (template.encode_reply(c.messages, reply) for reply in (c.chosen, c.rejected))
        return max(len(prompt) + len(reply) for prompt, reply in encoded)

    return [c for c in rows if tokens(c) <= context]


def replayed(
    settings: Settings, inputs: Inputs, template: Template, context: int, seed: int
) -> tuple[list[Row], int]:
    """The dialogues of `replay` that fit the context, and how many don't."""
    rows = [
        encode_row(d, template, context, drop_overlong=True)
        for d in _dialogues(inputs, "replay")
        if d.weight > 0
    ]
    kept = [row for row in rows if row is not None]
    return kept, len(rows) - len(kept)


def turn(rows: Sequence[Row], step: int, batch: int, seed: int) -> list[Row]:
    """The replayed dialogues of a step: passes over all of them, each shuffled anew; none where there are none."""
    chosen = []
    orders: dict[int, list[int]] = {}
    for n in range(step * batch, (step + 1) * batch) if rows else ():
        epoch, at = divmod(n, len(rows))
        if epoch not in orders:
            orders[epoch] = random.Random(derive_seed(seed, "replay", epoch)).sample(
                range(len(rows)), len(rows)
            )
        chosen.append(rows[orders[epoch][at]])
    return chosen


def _dialogues(inputs: Inputs, role: str) -> list[Dialogue]:
    return [d for i in inputs.many(role) for d in read_dialogues(i.folder, lessons=True)]
