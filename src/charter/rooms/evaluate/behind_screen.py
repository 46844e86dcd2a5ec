"""Replies of a report behind the acceptable-use screen: what a user of the service would get of the same replies.

The screen reads the prompt, then the whole reply, at the standard level. A block of either stops the reply, and the
user reads a refusal. Texts that the policy adds to a prompt are not added here: that would need another reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from charter.ground.moderation.classifiers.words import Words
from charter.ground.moderation.opening import open_screen
from charter.ground.moderation.policy import read_policy
from charter.ground.moderation.screen import Screen
from charter.rooms.evaluate.replies import by_prompt
from charter.rooms.evaluate.task import Rows

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

# Prompts screened together and saved at once.
TOGETHER = 16


def add_actions(context: Context, rows: Rows) -> Rows:
    """The rows with `screen`, the action on the prompt and on the reply, if the settings name classifiers; and with
    `rule`, whether a word of the policy occurs in the prompt: what a rule without a model would refuse."""
    path = context.inputs.one("acceptable_use").folder
    policy = read_policy(path)
    names = context.settings.screen
    screen = open_screen(path, names, device=context.out.device) if names else None
    words = Screen(policy, [Words(policy)])
    context.facts["policy"] = policy.id
    context.facts["screen"] = screen.versions if screen is not None else {}

    def produce(part: Sequence[Rows], _: int) -> Rows:
        return [row for group in part for row in _actions(group, screen, words)]

    groups = by_prompt(rows)
    actions = context.out.chunks(f"{context.task.name}_screen", groups, TOGETHER, produce, context.title)
    flat = [row for group in groups for row in group]
    return [{**row, **own} for row, own in zip(flat, actions, strict=True)]


def _actions(group: Rows, screen: Screen | None, words: Screen) -> list[dict[str, Any]]:
    """The new fields of the rows of one prompt."""
    messages = group[0]["messages"]
    rule = bool(words.prompt(messages).category)
    if screen is None:
        return [{"rule": rule, "screen": None} for _ in group]
    prompt = screen.prompt(messages).action
    replies = screen.replies([(messages, row["reply"]) for row in group])
    return [{"rule": rule, "screen": {"prompt": prompt, "reply": verdict.action}} for verdict in replies]
