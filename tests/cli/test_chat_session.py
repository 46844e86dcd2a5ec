"""The conversation over a scripted engine: streaming, stopping, forgetting the oldest exchanges."""

import io
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from charter.cli import chat_session
from charter.cli.chat_files import Style
from charter.cli.chat_session import COMMANDS, converse
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Completion, Event
from charter.ground.generate.remote import RemoteAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.model.generation import UNKNOWN, Decoding
from charter.ground.moderation.limits import LIMITS, SHORT
from charter.ground.settings.execution import Execution
from charter.library.streaming import stream

REPLY = "grüß dich 🌊".encode()


class Bytes:
    """A tokenizer of bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


class Scripted:
    """An engine that says REPLY, one byte a step."""

    model = SimpleNamespace(shape=SimpleNamespace(hidden_size=8))
    writes = 1

    def __init__(self, context: int = 1000) -> None:
        self.tokenizer, self.context = Bytes(), context
        self.prompts: list[list[int]] = []
        self.cancelled: list[int] = []
        self.left: list[int] = []
        self.completion = Completion()

    def submit(self, prompt: Sequence[int], sampling: Sampling, n: int = 1, seed: int = 0) -> int:
        self.prompts.append(list(prompt))
        self.left, self.completion = list(REPLY[: sampling.max_tokens]), Completion()
        return len(self.prompts)

    @property
    def idle(self) -> bool:
        return not self.left

    def step(self) -> list[Event]:
        token = self.left.pop(0)
        self.completion.ids.append(token)
        done = self.idle
        if done:
            self.completion.text = self.tokenizer.decode(self.completion.ids)
        return [Event(len(self.prompts), 0, token, self.completion, done)]

    def cancel(self, request: int) -> None:
        self.cancelled.append(request)
        self.left = []


class Lines:
    """A template that writes one line a message."""

    def encode_prompt(self, messages: Sequence[Any]) -> list[int]:
        return list("".join(f"{m['role'][0]}:{m['content']}\n" for m in messages).encode())


def assistant(context: int = 1000) -> tuple[LocalAssistant, Scripted]:
    engine = Scripted(context)
    local = LocalAssistant.__new__(LocalAssistant)  # no model behind it
    local.engine, local.template = cast(Any, engine), cast(Any, Lines())
    return local, engine


def talk(
    monkeypatch: pytest.MonkeyPatch, lines: str | io.TextIOBase, context: int = 1000, system: str = ""
) -> list[str]:
    """Plays the lines to a conversation; returns the prompts that the engine saw."""
    local, engine = assistant(context)
    monkeypatch.setattr(chat_session, "open_assistant", lambda *_, **__: local)
    monkeypatch.setattr(sys, "stdin", lines if isinstance(lines, io.TextIOBase) else io.StringIO(lines))
    source = Input("policy", "model", "checkpoint", "policy", None, "random:tiny", "0")
    converse(source, Execution(), Style(system, max_tokens=50))
    return [bytes(prompt).decode() for prompt in engine.prompts]


def test_pieces_are_whole_characters_and_add_up() -> None:
    local, engine = assistant()
    pieces = list(stream(local, [{"role": "user", "content": "hi"}], Sampling(max_tokens=50)))
    assert "".join(pieces) == "grüß dich 🌊" and "🌊" in pieces and "\ufffd" not in "".join(pieces)
    assert engine.cancelled == [1]


def test_stopping_gives_the_slot_back() -> None:
    local, engine = assistant()
    pieces = stream(local, [{"role": "user", "content": "hi"}], Sampling(max_tokens=50))
    assert next(iter(pieces)) == "g"
    cast(Any, pieces).close()
    assert engine.cancelled == [1] and engine.idle


def test_a_conversation_grows_and_is_reset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = talk(monkeypatch, "one\n\ntwo\n/reset\nthree\n/quit\nfour\n", system="be kind")
    reply = REPLY.decode()
    assert prompts == ["s:be kind\nu:one\n", f"s:be kind\nu:one\na:{reply}\nu:two\n", "s:be kind\nu:three\n"]
    captured = capsys.readouterr()
    assert captured.out == f"{reply}\n" * 3 and "(a new conversation)" in captured.err


def test_the_oldest_exchanges_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = talk(monkeypatch, "one\ntwo\nthree\n", context=40, system="s")
    assert prompts[2] == f"s:s\nu:two\na:{REPLY.decode()}\nu:three\n"
    assert "the 1 oldest exchanges are forgotten" in capsys.readouterr().err


def test_a_message_that_is_too_long_is_one_line_and_forgotten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = talk(monkeypatch, "one\n" + "x" * 60 + "\ntwo\n", context=40)
    assert prompts == ["u:one\n", f"u:one\na:{REPLY.decode()}\nu:two\n"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("charter: ")]
    assert line.startswith("charter: this message has 60 tokens (63 with the template around it), the model's context")
    assert "holds 40 with the reply: shorten it" in line and "/reset" in line


def test_bytes_that_are_no_text_spoil_their_own_line_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.TextIOWrapper(io.BytesIO(b"one\nfoo\xffbar\ntwo\n"), encoding="utf-8")
    assert talk(monkeypatch, typed) == ["u:one\n", f"u:one\na:{REPLY.decode()}\nu:two\n"]
    assert "charter: character 4 of this message is not UTF-8 text" in capsys.readouterr().err


def test_a_reply_that_fails_leaves_the_conversation_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> Iterator[str]:
        yield "half "
        raise CharterError("the server is gone")

    monkeypatch.setattr(chat_session, "stream", refuse)
    assert talk(monkeypatch, "one\n") == []
    captured = capsys.readouterr()
    assert captured.out == "half " and captured.err.endswith("\ncharter: the server is gone\n")


def test_a_slash_is_a_command_or_answered_with_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, "/help\n/rest\n") == []
    lines = capsys.readouterr().err.splitlines()[2:]
    assert lines == [f"({COMMANDS}; everything else goes to the model)"] * 2


def test_the_limits_of_models_are_told_in_a_line_and_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, "/limits\n") == []
    said = capsys.readouterr().err
    assert said.splitlines()[1] == f"({SHORT} /limits says more)"
    assert all(limit.title in said and limit.words in said for limit in LIMITS)


@pytest.mark.parametrize(
    ("own", "style", "sampled", "header"),
    [
        (Decoding(0.2, 0.9, 0, True), Style(), (0.2, 0.9, 0), "T 0.2, top-p 0.9, its own decoding;"),
        (UNKNOWN, Style(), (1.0, 1.0, 0), "T 1 (it sets no decoding);"),
        (
            Decoding(0.2, 0.9, 0, True),
            Style(temperature=1.0),
            (1.0, 1.0, 0),
            "T 1, as asked (its own: T 0.2, top-p 0.9);",
        ),
        (Decoding(0.2, known=True), Style(top_p=0.5, top_k=3), (1.0, 0.5, 3), "T 1, top-p 0.5, top-k 3, as asked"),
        (
            Decoding(0.5, known=True, ignored=("num_beams 3",)),
            Style(),
            (0.5, 1.0, 0),
            "T 0.5, its own decoding, without num_beams 3 of its generation_config.json;",
        ),
    ],
)
def test_replies_are_drawn_as_the_model_says_unless_flags_do_and_the_header_says_which(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    own: Decoding,
    style: Style,
    sampled: tuple[float, float, int],
    header: str,
) -> None:
    local, engine = assistant()
    local.decoding = own
    samplings: list[Sampling] = []
    submit = engine.submit

    def noting(prompt: Sequence[int], sampling: Sampling, n: int = 1, seed: int = 0) -> int:
        samplings.append(sampling)
        return submit(prompt, sampling, n, seed)

    monkeypatch.setattr(engine, "submit", noting)
    monkeypatch.setattr(chat_session, "open_assistant", lambda *_, **__: local)
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n/quit\n"))
    converse(Input("policy", "model", "checkpoint", "policy", None, "random:tiny", "0"), Execution(), style)
    assert [(s.temperature, s.top_p, s.top_k) for s in samplings] == [sampled]
    assert capsys.readouterr().err.startswith(f"model: {header}")


def test_where_the_account_stands_is_said_once_for_each_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = RemoteAssistant("openai:http://127.0.0.1:9#small")
    notices = iter(["", "this account is warned", "this account is warned", "it is throttled", "", ""])

    def reply(*_: object, **__: object) -> list[list[Completion]]:
        remote.notice = next(notices)
        return [[Completion(text="Hello.")]]

    monkeypatch.setattr(remote, "reply", reply)
    monkeypatch.setattr(chat_session, "open_assistant", lambda *_: remote)
    converse(cast(Input, None), Execution(), Style("", 0.0, 99, False, False), (), ["Hi"] * 6)
    out, err = capsys.readouterr()
    assert out == "Hello.\n" * 6
    assert err.splitlines() == [
        "(this account is warned)",
        "(it is throttled)",
        "(the account is in good standing again)",
    ]


def test_ctrl_c_at_the_prompt_asks_once_and_ends_the_second_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys: list[Any] = [KeyboardInterrupt(), "hi", KeyboardInterrupt(), KeyboardInterrupt(), "never"]

    def typed(_: str) -> str:
        key = keys.pop(0)
        if isinstance(key, KeyboardInterrupt):
            raise key
        return str(key)

    monkeypatch.setattr("builtins.input", typed)
    prompts = talk(monkeypatch, "")
    assert len(prompts) == 1 and "hi" in prompts[0] and keys == ["never"]
    assert capsys.readouterr().err.count("(Ctrl-C again, or /quit, ends the conversation)") == 2
