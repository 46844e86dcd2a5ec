"""HHH binary choices (card section 3.5): what the policy would rather say, which letter it picks, what a preference
model scores higher.

Content mode compares (1/n) log P(reply | prompt) of the two replies, n tokens each: whether the policy leans to the
better one, asked in no words. Policy mode asks for a letter in both orders (`judge/choice.py`); what the model puts on
the option shown first tells whether it reads letters. Preference mode compares the scores of the two whole dialogues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.constitution.wording import HHH_QUESTION
from charter.ground.generate.assistant import local_of
from charter.ground.generate.engine import naming_prompts
from charter.ground.judge.choice import How, Question, choose
from charter.ground.measure.score import points
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Comparison, cluster_of, sides
from charter.ground.text.examples import read_shots
from charter.ground.text.records import check_distinct, read_comparisons
from charter.rooms.evaluate.context import Context


def items(context: Context) -> list[Comparison]:
    """The drawn choices. Raises CharterError for a broken row, or an id that stands twice."""
    found = [c for i in context.inputs.many("hhh") for c in read_comparisons(i.folder)]
    check_distinct("the HHH choices", (c.id for c in found))
    return context.draw(found, context.settings.counts.hhh, "hhh")


def rows(context: Context) -> list[dict[str, Any]]:
    """Three rows an item, one a mode, and none of the content if the policy is a server. p_correct is a probability in
    the policy mode; in the others it is the gap between the better reply and the worse.

    `p_first` of the policy mode is what it puts on the option shown first. A row's id is the cluster that items of one
    first user turn share.
    """
    settings = context.settings
    shots = read_shots(shipped("comparison_shots"))[: settings.hhh_shots]
    how = How(shots=shots, seed=settings.draw_seed)

    def policy(part: Sequence[Comparison], _: int) -> list[dict[str, Any]]:
        questions = [Question(c.id, c.messages, *sides(c), HHH_QUESTION) for c in part]
        found = choose(context.assistant, questions, how)
        return [
            _row(c, "policy", f.p_first, 0.5) | {"p_first": f.shown_first}
            for c, f in zip(part, found, strict=True)
        ]

    def preference(part: Sequence[Comparison], _: int) -> list[dict[str, Any]]:
        found = context.grader.score([(c.messages, sides(c)) for c in part])
        return [_row(c, "preference", good - bad, 0.0) for c, (good, bad) in zip(part, found, strict=True)]

    def content(part: Sequence[Comparison], _: int) -> list[dict[str, Any]]:
        assert local is not None
        with naming_prompts(c.id for c in part):
            found = local.score_replies([(c.messages, sides(c)) for c in part])
        return [_row(c, "content", good - bad, 0.0) for c, (good, bad) in zip(part, found, strict=True)]

    asked, local, chunks = items(context), local_of(context.assistant), context.out.chunks
    chosen = chunks("hhh", asked, settings.chunk, policy, f"{settings.stage}: HHH choices")
    chosen += chunks("hhh-scores", asked, settings.chunk, preference, "HHH scores")
    if local is not None:
        chosen += chunks("hhh-content", asked, settings.chunk, content, f"{settings.stage}: HHH replies")
    return chosen


def _row(item: Comparison, mode: str, p_correct: float, even: float) -> dict[str, Any]:
    row = {"id": cluster_of(item), "item": item.id, "axis": item.axis, "mode": mode}
    return row | {"p_correct": p_correct, "correct": points(p_correct, even)}
