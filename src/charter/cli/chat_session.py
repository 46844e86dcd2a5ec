"""A conversation in the terminal; tokens appear as they are made."""

import io
import secrets
import sys
from collections.abc import Iterator

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import Assistant, LocalAssistant, open_assistant
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.execution import Execution
from charter.ground.text.dialogue import Message

COMMANDS = "/reset begins anew, /quit ends, /help says this"


def converse(source: Input, where: Execution, system: str, temperature: float, max_tokens: int) -> None:
    """Reads lines until /quit or the end of input, and streams the replies to standard output.

    A message that can't be answered costs one line on standard error, and the conversation stays as it was.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # bytes that are no text spoil their own line alone
    assistant = open_assistant(source, where.device, 1, where.precision)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    start: list[Message] = [Message(role="system", content=system)] if system else []
    messages = list(start)
    print(f"{source.name}: {COMMANDS}", file=sys.stderr)
    while (line := _read()) is not None:
        if line == "/quit":
            return
        if line == "/reset":
            messages = list(start)
            print("(a new conversation)", file=sys.stderr)
        elif line.startswith("/"):
            print(f"({COMMANDS}; everything else is said to the model)", file=sys.stderr)
        elif line:
            messages = _answered(assistant, messages, line, sampling, len(start))


def _answered(
    assistant: Assistant, messages: list[Message], line: str, sampling: Sampling, fixed: int
) -> list[Message]:
    """The conversation with a message and the reply to it, which is printed as it comes; as it was when refused."""
    asked, reply = [*messages, Message(role="user", content=line)], ""
    try:
        _check_readable(line)
        asked = _fitting(assistant, asked, fixed)
        for piece in stream(assistant, asked, sampling):
            reply += piece
            print(piece, end="", flush=True)
    except CharterError as error:
        print("\n" if reply else "", f"charter: {error}", sep="", file=sys.stderr)
        return messages
    except KeyboardInterrupt:
        print(" (stopped)", end="")
    print(flush=True)
    return [*asked, Message(role="assistant", content=reply)]


def _check_readable(line: str) -> None:
    """Raises CharterError where a line holds bytes that are no text."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CharterError(
            f"character {error.start + 1} of this message is no UTF-8 text; write it again without it"
        ) from None


def stream(assistant: Assistant, messages: list[Message], sampling: Sampling) -> Iterator[str]:
    """The reply in pieces, as they are sampled; a remote engine's comes whole.

    Closing the iterator, or an interrupt, gives the engine's slot back.
    """
    seed = secrets.randbelow(2**31)
    if not isinstance(assistant, LocalAssistant):
        yield assistant.reply([messages], sampling, seeds=[seed])[0][0].text
        return
    engine = assistant.engine
    request = engine.submit(assistant.template.encode_prompt(messages), sampling, seed=seed)
    shown = ""
    try:
        while not engine.idle:
            for event in engine.step():
                text = event.completion.text if event.done else _settled(assistant, event.completion.ids)
                if text.startswith(shown) and len(text) > len(shown):
                    yield text[len(shown) :]
                    shown = text
    finally:
        engine.cancel(request)


def _settled(assistant: LocalAssistant, ids: list[int]) -> str:
    """The text so far without a character whose last bytes haven't come yet, and without special tokens."""
    return assistant.engine.tokenizer.decode(ids).rstrip("\ufffd")


def _fitting(assistant: Assistant, messages: list[Message], fixed: int) -> list[Message]:
    """Drops the oldest exchanges of a conversation that has outgrown the context, and says so.

    Raises CharterError for a last message that is too long by itself.
    """
    if not isinstance(assistant, LocalAssistant):
        return messages
    kept, dropped = list(messages), 0
    while (length := len(assistant.template.encode_prompt(kept))) + 1 > assistant.engine.context:
        if len(kept) - fixed < 3:
            own = len(assistant.engine.tokenizer.encode(kept[-1]["content"]))
            raise CharterError(
                f"this message has {own} tokens ({length} with what stands around it), the model's context holds "
                f"{assistant.engine.context} with the reply: shorten it; the conversation is as before it, and "
                "/reset begins a new one"
            )
        del kept[fixed : fixed + 2]
        dropped += 1
    if dropped:
        print(f"(the context is full: the {dropped} oldest exchanges are forgotten)", file=sys.stderr)
    return kept


def _read() -> str | None:
    """One line from the user, None at the end of input."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        if sys.stdin.isatty():
            print()
        return None
