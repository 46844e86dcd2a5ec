"""Example conversations before another conversation: the HHH prompt, and the one example for the plain model.

As text: a paragraph, then conversations in the Human/Assistant form, separated by rule lines; the model continues the
last one. As turns: the paragraph as system text, then the turns of all conversations in order.

Sources: Askell 2021 (2112.00861) section 2 and appendix C; Ganguli 2022 (2209.07858) section 3. The words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message, check_messages, system
from charter.ground.text.records import read_dialogues
from charter.ground.text.transcript import format_transcript

RULE = "-----"
STOPS = ("\nHuman:", "\nAssistant:", f"\n{RULE}")  # what a model writes when its turn is over
CHARACTER = (
    "What follows are conversations between people and an AI assistant. The assistant is there to be of use: it "
    "finds out what somebody really needs, and answers that fully and politely. It knows a good deal and says plainly "
    "what it doesn't know; what it isn't sure of it marks as such, and when it was wrong it says so. It treats people "
    "as adults and doesn't see danger where there is none. It won't help to hurt anybody; then it says so openly and "
    "kindly, and looks for something better that it can do."
)
_END = re.compile(rf"\n\s*(?:(?:Human|Assistant):|{RULE})")
_TURN_WITHIN = re.compile(r"\s*\n\s*\n(?=(?:Human|Assistant):)")


@dataclass(frozen=True, slots=True)
class Shots:
    """A paragraph (or none) and example conversations that end with the assistant."""

    paragraph: str
    conversations: tuple[tuple[Message, ...], ...]

    def last(self, count: int) -> Shots:
        """The same paragraph with the last `count` conversations."""
        return replace(self, conversations=self.conversations[max(0, len(self.conversations) - count) :])

    def text(self, messages: Sequence[Message]) -> str:
        """All as plain text that a model continues with the assistant's next turn, or with its open last one.

        Within a message, a blank line before a turn's name would forge a turn, so it becomes a line break. Raises
        CharterError for messages out of order.
        """
        own = check_messages(messages)
        guarded: list[Message] = [
            {"role": m["role"], "content": _TURN_WITHIN.sub("\n", m["content"].strip())} for m in own
        ]
        dialogue = format_transcript(guarded)
        if own[-1]["role"] == "user":
            dialogue += "\n\nAssistant:"
        blocks = [format_transcript(conversation).strip() for conversation in self.conversations]
        return f"\n\n{RULE}\n\n".join(filter(None, [self.paragraph, *blocks, dialogue.strip()]))

    def turns(self, messages: Sequence[Message]) -> list[Message]:
        """All as turns of one chat; the paragraph and the conversation's own system text come first.

        Raises CharterError for messages out of order.
        """
        own = list(check_messages(messages))
        words = [self.paragraph, own.pop(0)["content"] if own[0]["role"] == "system" else ""]
        first = "\n\n".join(filter(None, words))
        examples = [message for conversation in self.conversations for message in conversation]
        return [*([system(first)] if first else []), *examples, *own]


def end_of_turn(text: str) -> str:
    """The turn in text that a model continued: up to the next turn or rule, without trailing white space."""
    match = _END.search(text)
    return text[: match.start() if match else None].rstrip()


@cache
def hhh_prompt() -> Shots:
    """The paragraph and the 14 conversations of a helpful, honest and harmless assistant."""
    return Shots(CHARACTER, _read("hhh_prompt"))


@cache
def plain_example() -> Shots:
    """The one conversation that shows a plain language model the form, and no character."""
    return Shots("", _read("plain_example"))


def _read(name: str) -> tuple[tuple[Message, ...], ...]:
    conversations = tuple(dialogue.messages for dialogue in read_dialogues(shipped(name)))
    for number, messages in enumerate(conversations, 1):
        if messages[-1]["role"] != "assistant":
            raise CharterError(
                f"shipped:{name}: conversation {number} ends with a turn of {messages[-1]['role']!r}; examples must "
                "end with the assistant's"
            )
    return conversations
