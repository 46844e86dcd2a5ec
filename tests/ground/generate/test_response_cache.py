"""Remembered answers: found again for the same question alone, equal to those of a run without a memory, and never
worth a failure."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import toys
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate import response_cache
from charter.ground.generate.assistant import LocalAssistant, Remembered, check_prompts, open_assistant
from charter.ground.generate.engine import Completion
from charter.ground.generate.response_cache import Memory
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import Dialogue, Prompt, user

HOW = Sampling(max_tokens=6)
PROMPTS: list[Prompt] = [[user("Name the capital of Peru.")], "Question: is fire hot?\nAnswer:", [user("Hi")]]


class Counting:
    """Stands for a server: answers with what it was asked, and counts."""

    capabilities = frozenset({"sample", "score"})

    def __init__(self) -> None:
        self.calls: list[tuple[Prompt, int]] = []

    def reply(
        self, prompts: Sequence[Prompt], sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        pairs = list(zip(prompts, seeds or range(len(prompts)), strict=True))
        self.calls += pairs
        return [
            [Completion([k], f"{prompt} {seed} {k}", [-0.1 / 3 * seed]) for k in range(n)] for prompt, seed in pairs
        ]

    def score(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        self.calls += [(prompt, len(texts)) for prompt, texts in items]
        return [[-len(text) / 7 for text in texts] for _, texts in items]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def memory(tmp_path: Path, notes: list[str]) -> Memory:
    return Memory(tmp_path / "run" / "answers.sqlite", notes.append)


def test_a_server_is_asked_once_for_each_prompt_seed_and_setting(memory: Memory, notes: list[str]) -> None:
    server = Counting()
    assistant = Remembered(server, memory, "one")
    first = assistant.reply(PROMPTS[:2], HOW, n=2, seeds=[4, 5])
    assert first == Counting().reply(PROMPTS[:2], HOW, n=2, seeds=[4, 5])
    assert assistant.reply([PROMPTS[1], PROMPTS[2]], HOW, n=2, seeds=[5, 6])[0] == first[1]
    assert server.calls == [(PROMPTS[0], 4), (PROMPTS[1], 5), (PROMPTS[2], 6)]
    server.calls.clear()
    for changed in (
        lambda: assistant.reply(PROMPTS[:1], HOW, n=2, seeds=[9]),
        lambda: assistant.reply(PROMPTS[:1], HOW, n=3, seeds=[4]),
        lambda: assistant.reply(PROMPTS[:1], replace(HOW, temperature=0.5), n=2, seeds=[4]),
        lambda: assistant.reply(["Name the capital of Peru."], HOW, n=2, seeds=[4]),
        lambda: Remembered(server, memory, "other").reply(PROMPTS[:1], HOW, n=2, seeds=[4]),
    ):
        changed()
        assert len(server.calls) == 1
        server.calls.clear()
    assert notes == []


def test_without_seeds_a_prompt_has_that_of_its_place(memory: Memory) -> None:
    server = Counting()
    assistant = Remembered(server, memory, "one")
    assistant.reply(PROMPTS[1:2], HOW, seeds=[1])
    assert assistant.reply(PROMPTS, HOW) == Counting().reply(PROMPTS, HOW)
    assert server.calls == [(PROMPTS[1], 1), (PROMPTS[0], 0), (PROMPTS[2], 2)]


def test_scores_are_remembered_with_their_texts(memory: Memory) -> None:
    server = Counting()
    assistant = Remembered(server, memory, "one")
    items = [(PROMPTS[0], ["a", "bb"]), (PROMPTS[1], ["ccc"])]
    assert assistant.score(items) == assistant.score(items) == Counting().score(items)
    assert len(server.calls) == 2
    assistant.score([(PROMPTS[0], ["a", "b"])])
    assert len(server.calls) == 3


def test_a_checkpoints_answers_come_back_for_the_same_call_as_a_whole(
    checkpoints: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a run with a memory equals one without: neighbours round."""
    policy = toys.policy(checkpoints / "policy")
    plain = open_assistant(policy)
    assistant = open_assistant(policy, memory=memory)
    assert isinstance(assistant, Remembered) and assistant.capabilities == plain.capabilities
    expected, scores = plain.reply(PROMPTS, HOW, n=2), plain.score([(PROMPTS[0], [" Lima", " no"])])
    assert assistant.reply(PROMPTS, HOW, n=2) == expected
    assert assistant.score([(PROMPTS[0], [" Lima", " no"])]) == scores
    calls: list[int] = []
    real = LocalAssistant.reply

    def spy(self: LocalAssistant, prompts: Sequence[Prompt], *rest: object) -> list[list[Completion]]:
        calls.append(len(prompts))
        return real(self, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalAssistant, "reply", spy)
    monkeypatch.setattr(LocalAssistant, "score", None)
    again = open_assistant(policy, memory=Memory(memory.path, print))
    assert again.reply(PROMPTS, HOW, n=2) == expected and calls == []
    assert again.score([(PROMPTS[0], [" Lima", " no"])]) == scores
    again.reply(PROMPTS[:2], HOW, n=2)
    assert calls == [2], "fewer prompts are another call"
    open_assistant(toys.policy(checkpoints / "other"), memory=memory).reply(PROMPTS, HOW, n=2)
    assert calls == [2, 3], "another checkpoint"


def test_prompts_are_checked_through_a_memory(checkpoints: Path, memory: Memory) -> None:
    assistant = open_assistant(toys.policy(checkpoints / "policy"), memory=memory)
    check_prompts(assistant, [Dialogue("short", (user("Why?"),))])
    with pytest.raises(Exception, match=r"^prompt long: the prompt has"):
        check_prompts(assistant, [Dialogue("long", (user("Why? " * 600),))])


def _damage_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 300)


def _damage_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes((byte ^ 0x5A) for byte in data[4096:])
    path.write_bytes(bytes(data))


def _damage_answer(path: Path) -> None:
    with sqlite3.connect(path) as file:
        file.execute("UPDATE answers SET answer = substr(answer, 1, length(answer) - 3) || x'000000'")
    file.close()


def _mix_up(path: Path) -> None:
    """Every answer under the key of the next one."""
    with sqlite3.connect(path) as file:
        rows = file.execute("SELECT key, answer FROM answers ORDER BY key").fetchall()
        answers = [answer for _, answer in rows[1:] + rows[:1]]
        pairs = [(answer, key) for (key, _), answer in zip(rows, answers, strict=True)]
        file.executemany("UPDATE answers SET answer = ? WHERE key = ?", pairs)
    file.close()


@pytest.mark.parametrize("damage", [_damage_header, _damage_pages, _damage_answer, _mix_up])
def test_a_damaged_file_costs_one_note(memory: Memory, notes: list[str], damage: object) -> None:
    Remembered(Counting(), memory, "one").reply(PROMPTS, HOW)
    memory._file.close()  # type: ignore[union-attr]
    damage(memory.path)  # type: ignore[operator]
    server = Counting()
    assistant = Remembered(server, Memory(memory.path, notes.append), "one")
    for _ in range(2):
        assert assistant.reply(PROMPTS, HOW) == Counting().reply(PROMPTS, HOW)
    assert len(server.calls) == 6
    (note,) = notes
    assert note.startswith(str(memory.path)) and note.endswith("(the file may be removed)")


def test_a_locked_file_costs_one_note(memory: Memory, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_cache, "WAIT_SECONDS", 0.01)
    Remembered(Counting(), memory, "one").reply(PROMPTS[:1], HOW)
    other = sqlite3.connect(memory.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    server = Counting()
    assistant = Remembered(server, Memory(memory.path, notes.append), "one")
    assert assistant.reply(PROMPTS, HOW) == assistant.reply(PROMPTS, HOW) == Counting().reply(PROMPTS, HOW)
    assert len(notes) == 1 and "locked" in notes[0]
    other.close()


def test_a_place_that_cannot_be_written_costs_one_note(tmp_path: Path, notes: list[str]) -> None:
    (tmp_path / "file").write_text("")
    assistant = Remembered(Counting(), Memory(tmp_path / "file" / "answers.sqlite", notes.append), "one")
    assert assistant.reply(PROMPTS, HOW) == assistant.reply(PROMPTS, HOW)
    assert len(notes) == 1


def test_the_file_stops_growing_at_its_bound(memory: Memory, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    server = Counting()
    assistant = Remembered(server, memory, "one")
    assistant.reply(PROMPTS[:1], HOW)
    monkeypatch.setattr(response_cache, "MOST_BYTES", 1)
    assistant.reply(PROMPTS[:2], HOW)
    assistant.reply(PROMPTS[:2], HOW)
    assert [seed for _, seed in server.calls] == [0, 1, 1] and notes == []


KILLED = """
import os, sys
from charter.ground.generate.response_cache import Memory
memory = Memory(__import__("pathlib").Path(sys.argv[1]), print)
memory.keep([("a", 1), ("b", 2)])
file = memory._open()
file.execute("BEGIN")
file.execute("INSERT INTO answers VALUES ('c', x'00')")
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_whole_answers(memory: Memory, notes: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(memory.path)], capture_output=True)
    assert done.returncode == -9
    assert memory.recall(["a", "b", "c"]) == [1, 2, None] and notes == []


def test_a_step_without_a_cache_has_no_memory(tmp_path: Path) -> None:
    assert Memory.of(Workspace(tmp_path / "one")) is None
    out = Workspace(tmp_path / "two")
    out.cache = tmp_path / "answers.sqlite"
    run_memory = Memory.of(out)
    assert run_memory is not None and run_memory.path == tmp_path / "answers.sqlite"
