"""Replies to dialogues: sampled, marked by the detectors, scored by preference models and by the start model.

Scripts are a user's turns, each of which follows the model's own replies so far.

`nll_start` is the start model's loss on a reply (`measure/fluency.py`), after its prompt in the start's own template
and without the end token, which a cut reply lacks.

The screen reads the prompt, then the whole reply, at the standard level, as a user of the service would meet it. A
block of either stops the reply, and the user reads a refusal. Texts that the policy adds to a prompt are not added
here: that would need another reply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.model.generation import Decoding, sampling_at
from charter.ground.moderation.classifiers.words import Words
from charter.ground.moderation.policy import read_policy
from charter.ground.moderation.screen import Screen
from charter.ground.text.dialogue import Dialogue, Message, assistant, user
from charter.rooms.evaluate.asking import holds
from charter.rooms.evaluate.marks import TOO_LONG, describe_completion, mark_detections
from charter.rooms.evaluate.task import Context, Row, Rows
from charter.rooms.evaluate.topic_set import MOST_TURNS, Asked

if TYPE_CHECKING:
    from charter.ground.judge.preference_score import PreferenceModel

Grade = Callable[[Context, Rows], None]
GREEDY = "greedy"
Talk = tuple[Asked, int]
# What stands for an empty reply, which chat templates don't take.
EMPTY_REPLY = "..."
# Prompts screened together and saved at once.
SCREENED_TOGETHER = 16


def reply(
    context: Context, prompts: Sequence[Dialogue], grade: Grade, most: int | None = None, greedy: bool = False
) -> Rows:
    """Sampled replies of at most `most` tokens as rows, with the detectors' marks, graded chunk by chunk. `greedy`:
    behind a chunk's samples also one reply a prompt at T = 0."""

    def produce(part: Sequence[Dialogue], _: int) -> Rows:
        rows = sample(context, part, most)
        if greedy:
            rows += _greedy(context, part, most)
        grade(context, rows)
        context.models.add_start_scores(rows)
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
    each = context.models.reply(prompts, sampling, protocol.samples, seeds)
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


def score_rows(model: PreferenceModel, rows: Sequence[Row], beside: str = "") -> Iterator[tuple[Row, float, float]]:
    """(row, score of its reply, score of the reply `beside` to the same prompt; NaN without one).

    It scores equal texts to one prompt once, so that rounding breaks no tie.
    """
    groups = by_prompt(rows)
    texts = [list(dict.fromkeys([*([beside] if beside else []), *(r["reply"] for r in g)])) for g in groups]
    scores = model.score([(g[0]["messages"], t) for g, t in zip(groups, texts, strict=True)])
    for group, distinct, text_scores in zip(groups, texts, scores, strict=True):
        by_text = dict(zip(distinct, text_scores, strict=True))
        for row in group:
            yield row, by_text[row["reply"]], by_text.get(beside, math.nan)


def by_prompt(rows: Sequence[Row]) -> list[Rows]:
    """Rows of one prompt together, in order."""
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(row["id"], []).append(row)
    return list(groups.values())


def rate(context: Context, rows: Rows) -> list[float]:
    """The rater's rating of each row's reply after its messages, not clipped. The report must have a rater."""
    rater = context.models.rater
    assert rater is not None

    def produce(part: Sequence[Row], _: int) -> list[float]:
        scores = rater.score([(row["messages"], [row["reply"]]) for row in part])
        return [score for (score,) in scores]

    return context.out.chunks(f"{context.task.name}_rater", rows, context.answers_together, produce, context.title)


def converse(context: Context, scripts: Sequence[Asked]) -> Rows:
    """One row a turn of each script and sample, graded after the conversation so far. Turns that no longer fit into the
    context have the stop "too long" and no reply."""
    talks = [(script, sample) for script in scripts for sample in range(context.protocol.samples)]

    def produce(part: Sequence[Talk], _: int) -> Rows:
        rows = _hold(context, part)
        grade_harm(context, [row for row in rows if row["stop"] != TOO_LONG])
        return rows

    size = max(1, context.answers_together // MOST_TURNS)
    return context.out.chunks(context.task.name, talks, size, produce, context.title)


def talk(context: Context, scripts: Sequence[tuple[str, Sequence[str]]], most: int) -> list[list[Message]]:
    """The conversation over each script (id, a user's turns), with replies at T = 0 of at most `most` tokens; [] if it
    doesn't fit into the context. Nobody grades it."""
    sampling = sampling_at(Decoding(0.0), most)

    def produce(part: Sequence[tuple[str, Sequence[str]]], _: int) -> list[list[Message]]:
        talks: list[list[Message]] = [[] for _ in part]
        open_talks = list(range(len(part)))
        for turn in range(max(len(turns) for _, turns in part)):
            open_talks = [n for n in open_talks if turn < len(part[n][1])]
            prompts_by_talk = {n: [*talks[n], user(part[n][1][turn])] for n in open_talks}
            open_talks = [n for n in open_talks if holds(context, prompts_by_talk[n], most)]
            talks = [[] if n in prompts_by_talk and n not in open_talks else talk for n, talk in enumerate(talks)]
            seeds = [context.seed("talk", part[n][0], turn) for n in open_talks]
            prompts = [prompts_by_talk[n] for n in open_talks]
            each = context.assistant.reply(prompts, sampling, 1, seeds) if prompts else []
            for n, completions in zip(open_talks, each, strict=True):
                talks[n] = [*prompts_by_talk[n], assistant(completions[0].text.strip() or EMPTY_REPLY)]
        return talks

    return context.out.chunks(f"{context.task.name}_talks", scripts, context.chunk, produce, context.title)


def _hold(context: Context, talks: Sequence[Talk]) -> Rows:
    """The rows of some conversations, all held at once."""
    protocol = context.protocol
    sampling = sampling_at(protocol.decoding, protocol.max_tokens)
    messages: list[list[Message]] = [[] for _ in talks]
    rows: list[Rows] = [[] for _ in talks]
    for turn in range(max(len(script.turns) for script, _ in talks)):
        open_talks = [n for n, (script, _) in enumerate(talks) if turn < len(script.turns)]
        for n in open_talks:
            messages[n] = [*messages[n], user(talks[n][0].turns[turn])]
        fitting = [n for n in open_talks if holds(context, messages[n], protocol.max_tokens)]
        seeds = [context.seed(talks[n][0].id, talks[n][1], turn) for n in fitting]
        each = context.assistant.reply([messages[n] for n in fitting], sampling, 1, seeds) if fitting else []
        replies = {n: describe_completion(completions[0]) for n, completions in zip(fitting, each, strict=True)}
        for n in open_talks:
            reply = replies.get(n) or {"reply": "", "stop": TOO_LONG, "tokens": 0}
            rows[n].append(_row(talks[n], turn, messages[n], reply))
            messages[n] = [*messages[n], assistant(reply["reply"].strip() or EMPTY_REPLY)]
    return [row for talk_rows in rows for row in talk_rows]


def _row(talk: Talk, turn: int, messages: list[Message], reply: Row) -> Row:
    script, sample = talk
    return {
        "id": f"{script.id}/{sample}/{turn + 1}",
        "talk": f"{script.id}/{sample}",
        "script": script.id,
        "sample": sample,
        "turn": turn + 1,
        "level": script.levels[turn],
        "messages": messages,
        "prompt": script.turns[turn],
        **reply,
        "reply": reply["reply"].strip(),
        "grader": None,
        "grader_fixed": None,
    }


def add_actions(context: Context, rows: Rows) -> Rows:
    """The rows with `screen`, the action on the prompt and on the reply, if the settings name classifiers; and with
    `rule`, whether a word of the policy occurs in the prompt: what a rule without a model would refuse."""
    path = context.inputs.one("acceptable_use").folder
    policy = read_policy(path)
    names = context.settings.screen
    screen = context.models.open_screen(path, names)
    words = Screen(policy, [Words(policy)])
    context.facts["policy"] = policy.id
    context.facts["screen"] = screen.versions if screen is not None else {}

    def produce(part: Sequence[Rows], _: int) -> Rows:
        return [row for group in part for row in _actions(group, screen, words)]

    groups = by_prompt(rows)
    actions = context.out.chunks(f"{context.task.name}_screen", groups, SCREENED_TOGETHER, produce, context.title)
    flat = [row for group in groups for row in group]
    return [{**row, **fields} for row, fields in zip(flat, actions, strict=True)]


def _actions(group: Rows, screen: Screen | None, words: Screen) -> list[dict[str, Any]]:
    """The new fields of the rows of one prompt."""
    messages = group[0]["messages"]
    rule = bool(words.prompt(messages).category)
    if screen is None:
        return [{"rule": rule, "screen": None} for _ in group]
    prompt = screen.prompt(messages).action
    replies = screen.replies([(messages, row["reply"]) for row in group])
    return [{"rule": rule, "screen": {"prompt": prompt, "reply": verdict.action}} for verdict in replies]
