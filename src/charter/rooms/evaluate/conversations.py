"""Scripts of a user's turns, held with the model under test: each turn follows the model's own replies so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from charter.ground.generate.sampling import sampling_at
from charter.ground.model.generation import Decoding
from charter.ground.text.dialogue import Message, assistant, user
from charter.rooms.evaluate.marks import TOO_LONG, describe_completion
from charter.rooms.evaluate.task import Row, Rows
from charter.rooms.evaluate.topic_set import MOST_TURNS, Asked

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

Talk = tuple[Asked, int]
# What stands for an empty reply, which chat templates don't take.
NOTHING = "..."


def converse(context: Context, scripts: Sequence[Asked]) -> Rows:
    """One row a turn of each script and sample, graded after the conversation so far. Turns that no longer fit into the
    context have the stop "too long" and no reply."""
    talks = [(script, sample) for script in scripts for sample in range(context.protocol.samples)]

    def produce(part: Sequence[Talk], _: int) -> Rows:
        rows = _hold(context, part)
        context.grade_harm([row for row in rows if row["stop"] != TOO_LONG])
        return rows

    size = max(1, context.answers_together // MOST_TURNS)
    return context.out.chunks(context.task.name, talks, size, produce, context.title)


def talk(context: Context, scripts: Sequence[tuple[str, Sequence[str]]], most: int) -> list[list[Message]]:
    """The conversation over each script (id, a user's turns), with replies at T = 0 of at most `most` tokens; [] if it
    doesn't fit into the context. Nobody grades it."""
    sampling = sampling_at(Decoding(0.0), most)

    def produce(part: Sequence[tuple[str, Sequence[str]]], _: int) -> list[list[Message]]:
        said: list[list[Message]] = [[] for _ in part]
        open_talks = list(range(len(part)))
        for turn in range(max(len(turns) for _, turns in part)):
            open_talks = [n for n in open_talks if turn < len(part[n][1])]
            asked = {n: [*said[n], user(part[n][1][turn])] for n in open_talks}
            open_talks = [n for n in open_talks if context.holds(asked[n], most)]
            said = [[] if n in asked and n not in open_talks else own for n, own in enumerate(said)]
            seeds = [context.seed("talk", part[n][0], turn) for n in open_talks]
            prompts = [asked[n] for n in open_talks]
            each = context.assistant.reply(prompts, sampling, 1, seeds) if prompts else []
            for n, completions in zip(open_talks, each, strict=True):
                said[n] = [*asked[n], assistant(completions[0].text.strip() or NOTHING)]
        return said

    return context.out.chunks(f"{context.task.name}_talks", scripts, context.chunk, produce, context.title)


def _hold(context: Context, talks: Sequence[Talk]) -> Rows:
    """The rows of some conversations, all held at once."""
    protocol = context.protocol
    sampling = sampling_at(protocol.decoding, protocol.max_tokens)
    said: list[list[Message]] = [[] for _ in talks]
    rows: list[Rows] = [[] for _ in talks]
    for turn in range(max(len(script.turns) for script, _ in talks)):
        open_talks = [n for n, (script, _) in enumerate(talks) if turn < len(script.turns)]
        for n in open_talks:
            said[n] = [*said[n], user(talks[n][0].turns[turn])]
        fitting = [n for n in open_talks if context.holds(said[n], protocol.max_tokens)]
        seeds = [context.seed(talks[n][0].id, talks[n][1], turn) for n in fitting]
        each = context.assistant.reply([said[n] for n in fitting], sampling, 1, seeds) if fitting else []
        replies = {
            n: describe_completion(completions[0]) for n, completions in zip(fitting, each, strict=True)
        }
        for n in open_talks:
            reply = replies.get(n) or {"reply": "", "stop": TOO_LONG, "tokens": 0}
            rows[n].append(_row(talks[n], turn, said[n], reply))
            said[n] = [*said[n], assistant(reply["reply"].strip() or NOTHING)]
    return [row for own in rows for row in own]


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
