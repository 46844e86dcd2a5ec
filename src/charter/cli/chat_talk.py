"""The messages of a conversation, what the model reads of them, and what is dropped when the context is full."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from charter.cli.chat_files import File, Style, format_files
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import Assistant, LocalAssistant, Prompt
from charter.ground.model.generation import UNKNOWN, Decoding
from charter.ground.text.dialogue import Message


@dataclass
class Talk:
    """Questions and replies behind the text of the files; that text stays even if the oldest messages are dropped."""

    assistant: Assistant
    style: Style
    files: Sequence[File] = ()
    decoding: Decoding = UNKNOWN
    messages: list[Message] = field(default_factory=list)
    # the last printed words on the account's standing
    notice: str = ""

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """What the model reads: a dialogue, or one running text if there is no chat template."""
        before, system = format_files(self.files, self.style.plain), self.style.system
        if self.style.plain:
            turns = [m["content"] + ("\n\n" if m["role"] == "assistant" else "\n") for m in messages]
            return "".join([f"{system}\n\n" if system else "", before, *turns])
        first, *rest = messages
        start = [Message(role="system", content=system)] if system else []
        return [*start, Message(role=first["role"], content=before + first["content"]), *rest]

    def fit(self, line: str) -> list[Message]:
        """All messages and this one, without the oldest exchanges that no longer fit into the context; it says so.

        Raises CharterError if the message alone is too long.
        """
        messages, dropped = [*self.messages, Message(role="user", content=line)], 0
        if not isinstance(self.assistant, LocalAssistant):
            return messages
        context = self.assistant.engine.context
        while (length := len(self.assistant.encode(self.prompt(messages)))) + 1 > context:
            if len(messages) == 1:
                tokens = len(self.assistant.engine.tokenizer.encode(line))
                raise CharterError(
                    f"this message has {tokens} tokens ({length} with the template around it), the model's context "
                    f"holds {context} with the reply: shorten it; the conversation is as before, and /reset starts a "
                    "new one"
                )
            del messages[:2]
            dropped += 1
        if dropped:
            print(f"(the context is full: the {dropped} oldest exchanges are forgotten)", file=sys.stderr)
        return messages

    def check_files(self) -> None:
        """Prints how many tokens the files have. Raises CharterError if they don't fit into the context."""
        if not self.files or not isinstance(self.assistant, LocalAssistant):
            return
        engine = self.assistant.engine
        for file in self.files:
            print(f"{file.name}: {len(engine.tokenizer.encode(file.text)):,} tokens", file=sys.stderr)
        tokens = len(self.assistant.encode(self.prompt([Message(role="user", content="?")])))
        if tokens + 1 > engine.context:
            raise CharterError(
                f"the files have {tokens:,} tokens with the template around them, the model's context holds "
                f"{engine.context:,} with question and reply: give less text, or choose a model with a longer context"
            )
