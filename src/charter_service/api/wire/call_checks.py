"""Checks that calls of the client's tools and their results stand in pairs, in Anthropic's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from charter_service.api.errors import invalid

CALL, RESULT = "tool_use", "tool_result"


class Merged(Protocol):
    """Consecutive turns of one role: the number of the first, and the place of each block."""

    role: str
    place: int
    blocks: list[tuple[str, Any]]


def check_calls(merged: Sequence[Merged]) -> None:
    """Checks that every call has a result in the next turn, and every result a call in the turn before."""
    for number, turn in enumerate(merged):
        calls = [(at, b.id) for at, b in turn.blocks if b.type == CALL]
        before = merged[number - 1].blocks if number else []
        call_ids = {b.id for _, b in before if b.type == CALL}
        if turn.role == "user":
            _check_results(turn, call_ids)
            if calls:
                raise invalid(
                    f"{calls[0][0]}: `tool_use` blocks can only be in `assistant` messages", "messages"
                )
            continue
        after = merged[number + 1].blocks if number + 1 < len(merged) else []
        result_ids = {b.tool_use_id for _, b in after if b.type == RESULT}
        if lost := [id for _, id in calls if id not in result_ids]:
            raise invalid(
                f"messages.{turn.place}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(lost[:5])}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message.",
                "messages",
            )
        if len({id for _, id in calls}) < len(calls):
            raise invalid(f"messages.{turn.place}: `tool_use` ids must be unique", "messages")
        if wrong := [at for at, b in turn.blocks if b.type == RESULT]:
            raise invalid(f"{wrong[0]}: `tool_result` blocks can only be in `user` messages", "messages")


def _check_results(turn: Merged, call_ids: set[str]) -> None:
    seen = set[str]()
    for at, block in turn.blocks:
        if block.type != RESULT:
            continue
        if block.tool_use_id not in call_ids:
            raise invalid(
                f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {block.tool_use_id}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
                "messages",
            )
        if block.tool_use_id in seen:
            raise invalid(f"{at}: more than one `tool_result` for {block.tool_use_id}", "messages")
        seen.add(block.tool_use_id)
