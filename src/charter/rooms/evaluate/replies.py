"""Replies to dialogues: sampled, marked by the detectors, scored by preference models and by the start model.

`nll_start` is the start model's loss on a reply (`measure/fluency.py`), after its prompt in the start's own template
and without the end token, which a cut reply lacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import sampling_at
from charter.ground.generate.scorer import score
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.judge.preference_score import PreferenceModel, encode_item
from charter.ground.text.dialogue import Dialogue
from charter.rooms.evaluate.marks import mark_detections
from charter.rooms.evaluate.task import Row, Rows

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

Grade = Callable[[Rows], None]
GREEDY = "greedy"


def replies(
    context: Context, prompts: Sequence[Dialogue], grade: Grade, most: int | None, greedy: bool = False
) -> Rows:
    """Sampled replies of at most `most` tokens as rows, with the detectors' marks, graded chunk by chunk. `greedy`:
    behind a chunk's samples also one reply a prompt at T = 0."""

    def produce(part: Sequence[Dialogue], _: int) -> Rows:
        rows = sample(context, part, most)
        if greedy:
            rows += _greedy(context, part, most)
        grade(rows)
        if context.models.start is not None:
            score_under_start(context.models.start, rows)
        return rows

    return context.out.chunks(context.task.name, prompts, context.chunk, produce, context.title)


def _greedy(context: Context, prompts: Sequence[Dialogue], most: int | None) -> Rows:
    """Ungraded rows of the replies at T = 0: their mode is greedy, and they have no `sample`."""
    still = replace(context, protocol=replace(context.protocol, temperature=0.0, samples=1))
    rows = sample(still, prompts, most)
    return [{key: row[key] for key in row if key != "sample"} | {"mode": GREEDY} for row in rows]


def sample(context: Context, prompts: Sequence[Dialogue], most: int | None = None) -> Rows:
    """Ungraded rows of a chunk; seeds depend only on draw_seed, the task and the prompt's id."""
    protocol = context.protocol
    seeds = [context.seed(d.id) for d in prompts]
    tokens = protocol.max_tokens if most is None else min(most, protocol.max_tokens)
    sampling = sampling_at(protocol.decoding, tokens)
    with naming_prompts(d.id for d in prompts):
        each = context.assistant.reply([list(d.messages) for d in prompts], sampling, protocol.samples, seeds)
    rows = [
        {
            "id": d.id,
            "topic": d.topic,
            "unseen": bool(d.meta.get("unseen", False)),
            "sample": k,
            "seed": seed,
            "messages": list(d.messages),
            "prompt": d.messages[-1]["content"],
            "reply": c.text.strip(),
            "stop": c.stop,
            "tokens": len(c.ids) or len(c.text.split()),
        }
        for d, seed, completions in zip(prompts, seeds, each, strict=True)
        for k, c in enumerate(completions)
    ]
    return [{**row, **mark_detections(row)} for row in rows]


def grade_harm(context: Context, rows: Rows) -> None:
    """Adds grader, grader_fixed, reward and reward_fixed to rows; with a rater also harm_rating, unclipped."""
    models = context.models
    _score(rows, models.grader, "grader")
    if models.reward is not None:
        _score(rows, models.reward, "reward")
    else:
        for row in rows:
            row["reward"] = row["reward_fixed"] = None
    if models.rater is not None:
        grade_rating(context, rows)


def grade_rating(context: Context, rows: Rows) -> None:
    """Adds harm_rating to rows, unclipped; the report must have a rater."""
    assert context.models.rater is not None
    for row, rating, _ in score_rows(context.models.rater, rows):
        row["harm_rating"] = rating


def grade_rating_beside_fixed(context: Context, rows: Rows) -> None:
    """Adds harm_rating and harm_rating_fixed, that of the fixed reply, to rows; the report must have a rater."""
    assert context.models.rater is not None
    for row, rating, fixed in score_rows(context.models.rater, rows, beside=FIXED_REPLY):
        row["harm_rating"], row["harm_rating_fixed"] = rating, fixed


def grade_help(context: Context, rows: Rows) -> None:
    """Adds the grader's score to rows."""
    for row, value, _ in score_rows(context.models.grader, rows):
        row["grader"] = value


def grade_beside_fixed(context: Context, rows: Rows) -> None:
    """Adds the grader's scores of the reply and of the fixed one to rows."""
    _score(rows, context.models.grader, "grader")


def _score(rows: Rows, model: PreferenceModel, key: str) -> None:
    for row, value, fixed in score_rows(model, rows, beside=FIXED_REPLY):
        row[key], row[f"{key}_fixed"] = value, fixed


def score_rows(
    model: PreferenceModel, rows: Sequence[Row], beside: str = ""
) -> Iterator[tuple[Row, float, float]]:
    """(row, score of its reply, score of the reply `beside` to the same prompt; NaN without one).

    It scores equal texts to one prompt once, so that rounding breaks no tie.
    """
    groups = by_prompt(rows)
    texts = [list(dict.fromkeys([*([beside] if beside else []), *(r["reply"] for r in g)])) for g in groups]
    scores = model.score([(g[0]["messages"], t) for g, t in zip(groups, texts, strict=True)])
    for group, distinct, own in zip(groups, texts, scores, strict=True):
        by_text = dict(zip(distinct, own, strict=True))
        for row in group:
            yield row, by_text[row["reply"]], by_text.get(beside, math.nan)


def by_prompt(rows: Sequence[Row]) -> list[Rows]:
    """Rows of one prompt together, in order."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row["id"], []).append(row)
    return list(groups.values())


def score_under_start(start: LocalAssistant, rows: Sequence[Row]) -> None:
    """Adds nll_start, the nats of a reply under the start model, and tokens_start, its tokens there.

    If both are too long for the start's context, the reply loses its far end, then the prompt its oldest tokens. An
    empty reply has 0 tokens.
    """
    items = [
        encode_item(start.template, row["messages"], [row["reply"]], start.engine.context) for row in rows
    ]
    scores = score(start.engine.model, [(item.prompt, [item.replies[0][:-1]]) for item in items])
    for row, (logprobs,) in zip(rows, scores, strict=True):
        row["nll_start"], row["tokens_start"] = -sum(logprobs), len(logprobs)
