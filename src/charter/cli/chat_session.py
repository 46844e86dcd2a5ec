"""A conversation in the terminal, about files if there are any; tokens appear as they are sampled.

A `Talk` holds its messages, what the model reads of them, and what is dropped when the context is full.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from charter.cli.chat_files import File, Style, format_files
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import Assistant, LocalAssistant, Prompt, default_decoding, open_assistant
from charter.ground.generate.engine import Completion, Engine, Event
from charter.ground.generate.engine_limits import CACHE_BYTES, Bounds
from charter.ground.generate.remote import RemoteAssistant
from charter.ground.generate.sampling import sampling_at
from charter.ground.model.generation import UNKNOWN, Decoding, choose_decoding
from charter.ground.moderation.limits import SHORT, in_lines
from charter.ground.settings.execution import Execution
from charter.ground.text.dialogue import Message
from charter.library.streaming import steps, stream
from charter.terminal.bars import make_progress

COMMANDS = "/reset starts a new conversation, /limits shows what models can't do, /quit ends, /help shows this"
# From this many tokens on, reading the prompt shows a progress bar.
LONG = 4096


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
        first, *later = messages
        start = [Message(role="system", content=system)] if system else []
        return [*start, Message(role=first["role"], content=before + first["content"]), *later]

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


def converse(
    source: Input,
    execution: Execution,
    style: Style,
    files: Sequence[File] = (),
    questions: Sequence[str] = (),
    ready: Callable[[], object] = bool,
) -> None:
    """Answers `questions`, or else reads lines until /quit or the end of input; replies go to standard output. `ready`
    is called once the model is loaded.

    A line that can't be answered costs one line on standard error, and the conversation stays as it was. Raises
    CharterError if such a line is one of `questions`, and if the files don't fit into the context.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        # bytes that are not text spoil only their own line
        sys.stdin.reconfigure(errors="surrogateescape")
    assistant = open_assistant(source, execution.device, 1, execution.precision)
    ready()
    model_decoding = default_decoding(assistant)
    if files and isinstance(assistant, LocalAssistant):
        assistant = _keep_cache(assistant)
    decoding = choose_decoding(model_decoding, style.temperature, style.top_p, style.top_k)
    talk = Talk(assistant, style, files, decoding)
    talk.check_files()
    for question in questions:
        _answer(talk, question)
    if questions:
        return
    print(f"{source.name}: {_decoding_words(decoding, model_decoding)}; {COMMANDS}", file=sys.stderr)
    print(f"({SHORT} /limits says more)", file=sys.stderr)
    while (line := _read_line()) is not None:
        if line == "/quit":
            return
        if line == "/reset":
            talk.messages = []
            print("(a new conversation)", file=sys.stderr)
        elif line == "/limits":
            print(in_lines(), file=sys.stderr)
        elif line.startswith("/"):
            print(f"({COMMANDS}; everything else goes to the model)", file=sys.stderr)
        elif line:
            try:
                _answer(talk, line)
            except CharterError as error:
                print(f"charter: {error}", file=sys.stderr)


def _decoding_words(decoding: Decoding, model_decoding: Decoding) -> str:
    """How replies are sampled, and who set that."""
    if decoding is not model_decoding:
        return f"{decoding.words}, as asked (its own: {model_decoding.words})"
    remark = (
        f", without {' and '.join(model_decoding.ignored)} of its generation_config.json"
        if model_decoding.ignored
        else ""
    )
    return (
        f"{model_decoding.words}, its own decoding{remark}"
        if model_decoding.known
        else f"{model_decoding.words} (it sets no decoding){remark}"
    )


def _keep_cache(assistant: LocalAssistant) -> LocalAssistant:
    """The same with an engine that keeps what it read: the next question about a long text is answered sooner."""
    old = assistant.engine
    bounds = Bounds(kept=min(CACHE_BYTES, old.context * old.cache.token_bytes))
    return LocalAssistant(Engine(old.model, old.tokenizer, 1, ends=old.ends, bounds=bounds), assistant.template)


def _answer(talk: Talk, line: str) -> None:
    """Prints the reply to a message, as it comes or as one line of JSON, and adds both to the conversation.

    Raises CharterError if the message can't be answered; the conversation is then as before.
    """
    _check_readable(line)
    style, messages = talk.style, talk.fit(line)
    sampling = sampling_at(talk.decoding, style.max_tokens, loop_stop=not style.loops)
    began, first, reply, completion = time.perf_counter(), 0.0, "", Completion()
    pieces = stream(talk.assistant, talk.prompt(messages), sampling, events=_events)
    try:
        while True:
            piece = next(pieces)
            first = first or time.perf_counter()
            reply += piece
            if not style.as_json:
                print(piece, end="", flush=True)
    except StopIteration as end:
        completion = end.value
    except CharterError:
        print("\n" if reply else "", end="", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print(" (stopped)", end="", file=sys.stderr if style.as_json else sys.stdout)
    ended = time.perf_counter()
    if style.as_json:
        seconds = {"first": round((first or ended) - began, 3), "all": round(ended - began, 3)}
        print(
            json.dumps(_facts(talk, messages, completion, reply) | {"seconds": seconds}, ensure_ascii=False), flush=True
        )
    else:
        print(flush=True)
        if completion.stop == "loop":
            print("(stopped: it repeated itself)", file=sys.stderr)
    talk.messages = [*messages, Message(role="assistant", content=reply)]
    _tell_standing(talk)


def _tell_standing(talk: Talk) -> None:
    """Prints the standing of the account at a server, once for each change."""
    notice = talk.assistant.notice if isinstance(talk.assistant, RemoteAssistant) else ""
    if notice != talk.notice:
        talk.notice = notice
        print(f"({notice or 'the account is in good standing again'})", file=sys.stderr)


def _facts(talk: Talk, messages: Sequence[Message], completion: Completion, reply: str) -> dict[str, object]:
    """A reply as JSON; token counts are known only if the model runs on this machine."""
    facts: dict[str, object] = {"question": messages[-1]["content"], "reply": reply, "stop": completion.stop}
    facts["decoding"] = talk.decoding.facts
    if isinstance(talk.assistant, LocalAssistant):
        prompt = len(talk.assistant.encode(talk.prompt(messages)))
        facts["tokens"] = {"prompt": prompt, "kept": completion.cached, "reply": len(completion.ids)}
    return facts


def _check_readable(line: str) -> None:
    """Raises CharterError if a line holds bytes that are not text."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CharterError(
            f"character {error.start + 1} of this message is not UTF-8 text; write the message again without it"
        ) from None


def _events(engine: Engine, tokens: int) -> Iterator[Event]:
    """Steps until nothing is left to do; the first reads the prompt, with a progress bar if that is long."""
    if tokens >= LONG:
        with make_progress().bar("read", tokens) as bar:
            engine.on_read = bar.advance
            try:
                events = engine.step()
            finally:
                engine.on_read = bool
        yield from events
    yield from steps(engine)


def _read_line() -> str | None:
    """One line from the user, None at the end of input or after Ctrl-C twice."""
    for stopped in (False, True):
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            break
        except KeyboardInterrupt:
            if not stopped:
                print("\n(Ctrl-C again, or /quit, ends the conversation)", file=sys.stderr)
    if sys.stdin.isatty():
        print()
    return None
