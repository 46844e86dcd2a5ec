"""Files in a conversation: what the model reads, what it reads only once, and refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.cli import chat_session
from charter.cli.chat_files import File, Style, read_file
from charter.cli.chat_session import Talk, converse
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.settings.execution import Execution
from charter.ground.text.dialogue import assistant, user

STORY = "The ferry left the quay at dawn. Nobody had counted the crates. "
GREEDY = Style(temperature=0, max_tokens=6, as_json=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.policy_folder(tmp_path_factory.mktemp("chat") / "m", shape=replace(toys.SHAPE, max_positions=8192))


def ask_all(
    folder: Path, capsys: pytest.CaptureFixture[str], style: Style, files: list[File], *questions: str
) -> list[dict[str, Any]]:
    source = Input("policy", "model", "checkpoint", "policy", folder, str(folder), "0")
    converse(source, Execution(), style, files, questions)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_second_question_reads_only_what_is_new(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = File("a.txt", STORY * 60)
    first, second = ask_all(folder, capsys, GREEDY, [file], "Who?", "Why?")
    size = len(toys.tokenizer().encode(file.text.rstrip()))
    assert first["tokens"]["kept"] == 0 and first["tokens"]["prompt"] > size
    assert first["tokens"]["prompt"] - second["tokens"]["kept"] <= 64 < second["tokens"]["kept"]
    assert first["question"] == "Who?" and first["tokens"]["reply"] <= 6 and first["seconds"]["all"] > 0


def test_replies_are_those_of_an_engine_that_keeps_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = File("a.txt", STORY * 60)
    rows = ask_all(folder, capsys, GREEDY, [file], "Who?", "Why?")
    local = LocalAssistant.open(folder)
    talk = Talk(local, GREEDY, [file])
    messages = [user("Who?")]
    for row in rows:
        (completion,) = local.reply([talk.prompt(messages)], Sampling(0, max_tokens=6))[0]
        assert row["reply"] == completion.text
        messages += [assistant(completion.text), user("Why?")]


def test_what_the_model_reads() -> None:
    talk = Talk(toys.Scripted(), Style("Be kind."), [File("a.txt", "one\n"), File("b.txt", "two")])
    documents = '<document name="a.txt">\none\n</document>\n\n<document name="b.txt">\ntwo\n</document>\n\n'
    assert talk.prompt([user("Who?"), assistant("I."), user("Why?")]) == [
        {"role": "system", "content": "Be kind."},
        user(f"{documents}Who?"),
        assistant("I."),
        user("Why?"),
    ]
    plain = Talk(toys.Scripted(), Style(plain=True), [File("a.txt", "one\n")])
    assert plain.prompt([user("Who?"), assistant("I."), user("Why?")]) == "one\n\nWho?\nI.\n\nWhy?\n"


def test_files_stay_when_the_oldest_exchanges_go(folder: Path) -> None:
    talk = Talk(LocalAssistant.open(folder), GREEDY, [File("a.txt", STORY)])
    talk.messages = [user("old"), assistant(STORY * 500), user("new"), assistant("y")]
    messages = talk.fit("Who?")
    assert [m["content"] for m in messages] == ["new", "y", "Who?"]
    prompt = talk.prompt(messages)
    assert not isinstance(prompt, str) and prompt[0]["content"].startswith('<document name="a.txt">')


def test_a_file_over_the_context_is_refused_with_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CharterError, match=r"the files have [\d,]+ tokens .* holds 8,192 with question"):
        ask_all(folder, capsys, GREEDY, [File("a.txt", STORY * 600)], "Who?")
    assert "a.txt: " in capsys.readouterr().err


class Recorder:
    """A progress that records minus a bar's total, then each advance."""

    def __init__(self, advances: list[int]) -> None:
        self.advances = advances

    @contextmanager
    def bar(self, description: str, total: int) -> Iterator[Recorder]:
        self.advances.append(-total)
        yield self

    def advance(self, tokens: int) -> None:
        self.advances.append(tokens)


def test_how_far_a_long_prompt_is_read_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    advances: list[int] = []
    monkeypatch.setattr(chat_session, "make_progress", lambda: Recorder(advances))
    monkeypatch.setattr(chat_session, "LONG", 100)
    first, second = (
        row["tokens"] for row in ask_all(folder, capsys, GREEDY, [File("a.txt", STORY * 60)], "Who?", "Why?")
    )
    again = advances.index(-second["prompt"], 1)
    assert advances[0] == -first["prompt"] and sum(advances[1:again]) == first["prompt"] and again > 5
    assert advances[again + 1] == second["kept"] and sum(advances[again + 1 :]) == second["prompt"]


def test_lines_are_answered_as_json_too(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("Who?\n/reset\nWho?\n"))
    first, second = ask_all(folder, capsys, GREEDY, [File("a.txt", STORY)])
    assert first["reply"] == second["reply"] and first["tokens"]["prompt"] == second["tokens"]["prompt"]


def test_reading_that_is_stopped_leaves_an_engine_that_answers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Recorder):
        def advance(self, tokens: int) -> None:
            super().advance(tokens)
            if len(self.advances) == 4:
                raise KeyboardInterrupt

    advances: list[int] = []
    monkeypatch.setattr(chat_session, "make_progress", lambda: Stopping(advances))
    monkeypatch.setattr(chat_session, "LONG", 100)
    monkeypatch.setattr(sys, "stdin", StringIO("Who?\n/reset\nWho?\n"))
    file = File("a.txt", STORY * 60)
    stopped, answered = ask_all(folder, capsys, GREEDY, [file])
    assert stopped["reply"] == "" and sum(advances[1:4]) < stopped["tokens"]["prompt"]
    monkeypatch.setattr(sys, "stdin", StringIO("Who?\n"))
    (whole,) = ask_all(folder, capsys, GREEDY, [file])
    assert answered["reply"] == whole["reply"] != ""


def test_a_file_of_any_format_is_read_as_the_service_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "letter.rtf"
    path.write_bytes(rb"{\rtf1\ansi A \b plain\b0  letter.}")
    assert read_file(str(path)) == File("letter.rtf", "A plain letter.\n")
    path.write_bytes(rb"{\rtf1\ansi A plain")
    with pytest.raises(CharterError, match=r"^--file .*letter.rtf: This RTF file is damaged or cut off"):
        read_file(str(path))
