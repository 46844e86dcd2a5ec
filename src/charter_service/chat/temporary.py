"""Temporary chats: in this process's memory alone, for one session; nothing of them is ever on disk.

One ends if its person closes it, signs out or is locked out, an hour after its last message, and with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from charter_service.chat.branches import DONE, RUNNING, STOPPED, Message
from charter_service.chat.live import Live
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id

HOUR = 3600.0
MOST_OF_ONE, MOST = 3, 200  # chats of a person, and in all
LONGEST = 200_000  # characters of a chat
MOST_MESSAGES = 200
GONE = "this temporary chat is over: it was closed, an hour passed, or the server was started again"


@dataclass(eq=False)
class TemporaryChat:
    """A temporary chat of a session; `sent`: ids of sendings, so that each counts once."""

    id: str
    person: int
    owner: str
    model: str
    touched: float
    messages: list[Message] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)

    @property
    def running(self) -> bool:
        """Whether a reply is being written."""
        return bool(self.messages) and self.messages[-1].running

    @property
    def characters(self) -> int:
        """Of all messages."""
        return sum(len(message.text) for message in self.messages)


class TemporaryChats:
    """All temporary chats of a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._chats: dict[str, TemporaryChat] = {}
        self._lock = threading.RLock()

    def begin(self, person: int, owner: str, model: str, text: str, client: str) -> TemporaryChat:
        """A new chat with its first question. Raises Refusal if there are too many."""
        with self._lock:
            self.sweep()
            own_chats = [other for other in self._chats.values() if other.person == person]
            for other in own_chats:
                if client and client in other.sent and other.owner == owner:
                    return other
            if len(own_chats) >= MOST_OF_ONE:
                raise Refusal(f"you have {MOST_OF_ONE} temporary chats already; close one of them", 429)
            if len(self._chats) >= MOST:
                raise Refusal("the server holds as many temporary chats as it can; try again later", 503)
            chat = TemporaryChat(new_id(), person, owner, model, self._clock())
            self._add(chat, text, client)
            self._chats[chat.id] = chat
            return chat

    def ask(self, owner: str, id: str, text: str, client: str, model: str = "") -> TemporaryChat:
        """A further question, and its reply, which is still empty; `model`: another one from then on."""
        with self._lock:
            chat = self.find(owner, id)
            if client and client in chat.sent:
                return chat
            if chat.running:
                raise Stale("the reply before this is still being written; stop it, or wait for its end")
            chat.model = model or chat.model
            self._add(chat, text, client)
            return chat

    def retry(
        self, owner: str, reply: str, retried_at: Callable[[str], float | None] = lambda _: None
    ) -> TemporaryChat:
        """Another reply in the place of the last one; `retried_at`: at which temperature, as in `tree.retry`."""
        with self._lock:
            chat = self.chat_of(owner, reply)
            if chat.messages[-1].id != reply or chat.messages[-1].role != "assistant":
                raise Refusal("only the last reply of a temporary chat can be tried again")
            if not chat.running:
                before = chat.messages[-1]
                again = before.model == chat.model and before.state in (DONE, STOPPED)
                temperature = retried_at(chat.model) if again else None
                chat.messages[-1] = replace(self._reply(chat), temperature=temperature)
                chat.touched = self._clock()
            return chat

    def find(self, owner: str, id: str) -> TemporaryChat:
        """A chat of a session. Raises NotFound."""
        with self._lock:
            self.sweep()
            chat = self._chats.get(id)
            if chat is None or chat.owner != owner:
                raise NotFound(GONE)
            return chat

    def chat_of(self, owner: str, message: str) -> TemporaryChat:
        """The chat of a message. Raises NotFound."""
        with self._lock:
            self.sweep()
            for chat in self._chats.values():
                if chat.owner == owner and any(turn.id == message for turn in chat.messages):
                    return chat
            raise NotFound(GONE)

    def of(self, person: int) -> list[TemporaryChat]:
        """The chats of a person, in all sessions."""
        with self._lock:
            return [chat for chat in self._chats.values() if chat.person == person]

    def end(self, live: Live, state: str) -> None:
        """Notes how a reply ended."""
        with self._lock:
            for chat in self._chats.values():
                if chat.messages[-1].id == live.id:
                    facts = {**live.facts, "text": live.text, "state": state}
                    chat.messages[-1] = replace(chat.messages[-1], **facts)

    def close(self, chat: TemporaryChat) -> None:
        """Forgets a chat."""
        with self._lock:
            self._chats.pop(chat.id, None)

    def sweep(self) -> list[str]:
        """Forgets chats without a message for an hour. Returns the replies that were being written in them."""
        with self._lock:
            now = self._clock()
            expired = [chat for chat in self._chats.values() if now - chat.touched > HOUR]
            for chat in expired:
                self.close(chat)
            return [chat.messages[-1].id for chat in expired if chat.running]

    def _add(self, chat: TemporaryChat, text: str, client: str) -> None:
        if chat.characters + len(text) > LONGEST or len(chat.messages) >= MOST_MESSAGES:
            raise Refusal(
                f"a temporary chat has at most {LONGEST:,} characters in {MOST_MESSAGES} messages; begin another", 413
            )
        question = _message(chat.id, "user", "person", DONE, text)
        chat.messages += [question, self._reply(chat)]
        chat.sent |= {client} - {""}
        chat.touched = self._clock()

    @staticmethod
    def _reply(chat: TemporaryChat) -> Message:
        return replace(_message(chat.id, "assistant", "model", RUNNING, ""), model=chat.model)


def _message(chat: str, role: str, author: str, state: str, text: str) -> Message:
    nothing = ("", "", "", "")
    return Message(new_id(), chat, "", role, author, state, text, *nothing, 0, 0, 0, "", time.time())
