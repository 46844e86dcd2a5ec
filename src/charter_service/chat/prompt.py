"""What a model reads: a branch as messages of the API, each file as a document at the head of the message it came with,
and how many tokens that is.

Documents are never moved or reworded, so that a longer prompt begins with the shorter one and its cache holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.documents.document import Document
from charter_service.chat.attached import File
from charter_service.chat.branches import REFUSED, Message
from charter_service.chat.client import Api, Model
from charter_service.chat.tool_calls import blocks_of
from charter_service.web.refusal import Refusal

Content = list[dict[str, Any]]
NO_WORDS = "."  # in place of a text that isn't written yet, when a file is counted
MOST_COUNTS = 2  # requests for counts at a time, for one message


def content_of(documents: Iterable[Document], text: str) -> Content:
    """The blocks of a message: its documents, then its text."""
    blocks: Content = [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": document.text},
            "title": document.name,
        }
        for document in documents
    ]
    if text.strip():
        blocks.append({"type": "text", "text": text})
    return blocks


def messages_of(line: Iterable[Message], documents: Mapping[str, Document]) -> list[dict[str, Any]]:
    """A branch as messages of the API; `documents`: those of its files, by the file's id. A question that the policy
    stopped, and its reply, stay out: the model never answered it, and it must not stop all that follows."""
    turns: list[tuple[str, Content]] = []
    for message in line:
        if message.role == "assistant" and message.state == REFUSED:
            if turns and turns[-1][0] == "user":
                turns.pop()
            continue
        files = (documents[file.id] for file in message.files)
        turns.append((message.role, [*blocks_of(message.calls, message.id), *content_of(files, message.text)]))
    return [{"role": role, "content": content} for role, content in turns if content]


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of a message that is about to be sent, with all that comes before it. `window`: tokens that the model can
    read and write in all, 0 if the server doesn't say; `reply`: those that its reply may have; `files`: tokens of each
    file of the message, by its id."""

    tokens: int
    window: int
    reply: int
    files: Mapping[str, int]

    @property
    def words(self) -> str:
        """The count for people."""
        if not self.window:
            return f"{self.tokens:,} tokens"
        return f"{self.tokens:,} tokens, {100 * self.tokens / self.window:.0f} % of the window"

    @property
    def too_many(self) -> int:
        """Tokens that don't fit; 0 if all do."""
        return max(0, self.tokens - (self.window - self.reply)) if self.window else 0

    def problem(self, files: Sequence[File]) -> str:
        """What to do about a message that is too long, in one sentence; empty if it fits."""
        if not self.too_many:
            return ""
        words = (
            f"this would be {self.tokens:,} tokens, and the model reads at most {self.window - self.reply:,} "
            f"(a window of {self.window:,}, less {self.reply:,} for its reply)"
        )
        sizes = sorted((self.files.get(file.id, 0), file.name) for file in files)
        enough = [size for size in sizes if size[0] >= self.too_many]
        if not sizes:
            return f"{words}; begin a new chat, or shorten the text"
        tokens, name = enough[0] if enough else sizes[-1]
        return f"{words}; remove {name}, which is {tokens:,} of them"

    def check(self, files: Sequence[File]) -> None:
        """Raises Refusal if the message is too long."""
        if words := self.problem(files):
            raise Refusal(words, 413)


async def count(
    api: Api,
    model: Model,
    settings: Mapping[str, Any],
    before: Sequence[Mapping[str, Any]],
    text: str,
    documents: Mapping[str, Document],
    known: Mapping[str, int],
) -> Counted:
    """Tokens of a message after others, and of each of its documents that isn't `known`: what the request has more with
    it than without. `settings`: what a request to the model says besides its messages, tools too. Raises ApiProblem."""
    gate = asyncio.Semaphore(MOST_COUNTS)

    async def tokens(ids: Iterable[str], text: str) -> int:
        content = content_of((documents[id] for id in ids), text)
        messages = [*before, {"role": "user", "content": content}] if content else list(before)
        if not messages:
            return 0
        async with gate:
            return await api.count(model.id, messages, settings)

    new = [id for id in documents if id not in known]
    without = [[other for other in documents if other != id] for id in new]
    words = text if text.strip() else NO_WORDS
    all_of_them = [tokens(documents, words)] if new and words != text else []
    total, *more = await asyncio.gather(tokens(documents, text), *all_of_them, *(tokens(ids, words) for ids in without))
    compared = more.pop(0) if all_of_them else total
    files = dict(known) | {id: max(0, compared - less) for id, less in zip(new, more, strict=True)}
    return Counted(total, model.context, int(settings.get("max_tokens", 0)), files)
