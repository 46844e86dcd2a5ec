"""Dialogues as one text in the Human/Assistant form (Askell 2021, Bai 2022a), as in HH-RLHF.

A turn is a blank line, "Human:" or "Assistant:", a space and its text. System text comes first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import Message, Role, check_messages

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_NAMES = {"user": "Human", "assistant": "Assistant"}
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str, headed: bool = False) -> bool:
    """Whether a text has the Human/Assistant form; `headed` allows system text before the first turn."""
    return text.startswith(("\n\nHuman:", "Human:")) or (headed and "\n\nHuman:" in text)


def parse_transcript(text: str) -> tuple[Message, ...]:
    """Messages of a transcript, without white space around turns and without a last, empty "Assistant:".

    Raises CharterError if the turns do not alternate, or if it has none.
    """
    pieces = _TURN.split(text)
    messages: list[Message] = []
    if pieces[0].strip():
        messages.append({"role": "system", "content": pieces[0].strip()})
    for name, content in zip(pieces[1::2], pieces[2::2], strict=True):
        messages.append({"role": _ROLES[name], "content": content.strip()})
    if len(messages) > 1 and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()
    return check_messages(messages)


def format_transcript(messages: Sequence[Message]) -> str:
    r"""The text of messages: "\n\nHuman: ...\n\nAssistant: ...".

    Raises CharterError if a turn's text would be read back as other turns.
    """
    parts = []
    for number, message in enumerate(check_messages(messages), 1):
        content = message["content"].strip()
        name = _NAMES.get(message["role"])
        if _TURN.search(f"\n\n{content}" if name is None else f" {content}"):
            raise CharterError(
                f"message {number} holds a line that starts a turn (Human: or Assistant:); the transcript "
                "form cannot express it; use the messages form"
            )
        parts.append(content if name is None else f"\n\n{name}: {content}".rstrip(" "))
    return "".join(parts)
