"""A try as a conversation: one command line read off each reply, and both native shapes of the same turns."""

from __future__ import annotations

import json

import pytest

from charter.ground.text.dialogue import check_messages
from charter.ground.world.catalogue import TASKS
from charter.ground.world.engine import COMMANDS
from charter.ground.world.state import Refused
from charter.ground.world.talk import (
    ALWAYS,
    EMPTY_TURN,
    FORMAT,
    Turn,
    call_of,
    called,
    kept,
    line_of,
    messages,
    native_messages,
    needed,
    opening,
    said,
    shortened,
    tools,
)
from charter.ground.world.task import lines_of

TURNS = [
    Turn("ls", "ls", "notes/"),
    Turn("I don't know.", "", FORMAT),
    Turn("I read it.\n> cat notes/a b", "cat notes/a b", "error: too many"),
]


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        ("ls notes", "ls notes"),
        ("  ls notes \nfile.txt", "ls notes"),
        ("$ cat a.txt", "cat a.txt"),
        ("> cat a.txt", "cat a.txt"),
        ("`cat a.txt`", "cat a.txt"),
        ("```\ncat a.txt\n```", "cat a.txt"),
        ("Command: submit the word", "submit the word"),
        ("get the list first, I think\n> ls", "ls"),
        ("I look at it.\nls notes\ncat notes/a", "ls notes"),
        ("write a.txt `quoted`", "write a.txt `quoted`"),
        ("I can't help with that.", ""),
        ("Submit the password.", ""),
        ("catch it", ""),
        ("> I think\nls", "ls"),
        ("", ""),
    ],
)
def test_the_line_of_a_reply(reply: str, line: str) -> None:
    assert line_of(reply) == line


def test_what_a_turn_says_is_read_back() -> None:
    for task in TASKS.values():
        world = task.build(3)
        for line in lines_of(task, world, task.oracle(world.instructions)):
            assert line_of(said(line)) == line_of(said(line, "I get the page.")) == line
            assert kept(said(line)) == line


def test_nothing_invented_after_the_command_stays_in_the_history() -> None:
    assert kept("I look.\n> ls\nnotes.txt\n> cat notes.txt") == "I look.\n> ls"
    assert kept("ls\nnotes.txt") == "ls"
    assert kept("x" * 999) == "x" * 200 and kept(" ") == EMPTY_TURN


def test_messages_alternate_and_state_the_budget() -> None:
    begin = opening("Find it.", 20, needed(TASKS["password"]))
    talk = messages(begin, TURNS)
    assert [m["role"] for m in talk] == ["system", *["user", "assistant"] * 3, "user"]
    check_messages(talk)
    assert "20 turns" in talk[1]["content"] and talk[3]["content"] == "[1 of 20] notes/"
    assert "abort" in talk[0]["content"] and "grep WORD FOLDER" in talk[0]["content"]
    assert "wallet" not in talk[0]["content"] and len(talk[0]["content"]) < 700
    short = messages(begin, TURNS, 2)
    assert len(short) == 4 and "first 2 turns" in short[1]["content"] and short[3] == talk[-1]


def test_a_worked_example_stands_before_the_task() -> None:
    plain, begin = opening("Find it.", 20), opening("Find it.", 20, example=True)
    talk = messages(begin, TURNS, 1)
    check_messages(talk)
    assert [m["role"] for m in talk[:8]] == ["system", *["user", "assistant"] * 3, "user"]
    assert [line_of(m["content"]).split()[0] for m in talk[2:7:2]] == ["ls", "cat", "submit"]
    assert talk[7]["content"].startswith("[3 of 3]") and messages(plain, TURNS, 1)[1]["content"] in talk[7]["content"]
    assert talk[8:] == messages(plain, TURNS, 1)[2:]
    thinking = messages(opening("Find it.", 20, thoughts=True, example=True), [])
    assert thinking[2]["content"].endswith("\n> ls colours")
    assert native_messages(begin, TURNS, "openai") == native_messages(plain, TURNS, "openai")


def test_needed_commands_are_those_of_the_solution() -> None:
    for task in TASKS.values():
        for seed in (5, 6):
            world = task.build(seed)
            lines = lines_of(task, world, task.oracle(world.instructions))
            assert {line.split()[0] for line in lines} <= set(needed(task))
        assert set(ALWAYS) <= set(needed(task)) < set(COMMANDS)


def test_the_oldest_turns_are_left_out_in_steps() -> None:
    def tokens(n: int) -> int:
        return 100 + 50 * (20 - n)

    assert shortened(0, 20, tokens, 2000) == 0
    assert shortened(0, 20, tokens, 1000) == 7 and tokens(7) == 750
    assert shortened(7, 21, lambda n: tokens(n) + 50, 1000) == 7
    assert shortened(0, 3, lambda n: 10**6, 1000) == 2, "the newest stays"


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
def test_native_messages_pair_calls_and_results(shape: str) -> None:
    begin = opening("Find it.", 9, ("cat", "submit"), native=True)
    turns = [Turn("", "cat a", "text"), Turn("No.", "", "error"), Turn("I end.", "submit a\\nb", "over")]
    talk = native_messages(begin, turns, shape)  # type: ignore[arg-type]
    if shape == "openai":
        assert [m["role"] for m in talk] == [
            "system", "user", "assistant", "tool", "assistant", "user", "assistant", "tool",
        ]  # fmt: skip
        call = talk[2]["tool_calls"][0]
        assert call["function"]["name"] == "cat" and json.loads(call["function"]["arguments"]) == {"path": "a"}
        assert talk[3] == {"role": "tool", "tool_call_id": call["id"], "content": "[1 of 9] text"}
        assert json.loads(talk[6]["tool_calls"][0]["function"]["arguments"]) == {"text": "a\nb"}
    else:
        assert [m["role"] for m in talk] == ["user", "assistant"] * 3 + ["user"]
        (used,) = talk[1]["content"]
        (result,) = talk[2]["content"]
        assert used["input"] == {"path": "a"} and result["tool_use_id"] == used["id"]
        assert talk[5]["content"][0] == {"type": "text", "text": "I end."}
    assert [t.get("name") or t["function"]["name"] for t in tools(begin.names, shape)] == ["cat", "submit"]  # type: ignore[arg-type]


def test_calls_are_read_in_both_shapes() -> None:
    arguments = {"path": "a b.txt", "text": 'two\n"lines"'}
    function = {"name": "write", "arguments": json.dumps(arguments)}
    first = called({"choices": [{"message": {"content": None, "tool_calls": [{"function": function}]}}]}, "openai")
    block = {"type": "tool_use", "id": "x", "name": "write", "input": arguments}
    second = called({"content": [{"type": "text", "text": "I write."}, block]}, "anthropic")
    assert first.line == second.line == 'write "a b.txt" two\\n"lines"' and second.reply == "I write."
    assert call_of(first.line)["values"] == arguments
    for function in ({"name": "fly", "arguments": "{}"}, {"name": "ls", "arguments": "{"}):
        answer = {"choices": [{"message": {"content": "", "tool_calls": [{"function": function}]}}]}
        assert called(answer, "openai").line == ""
    assert called({"content": [{"type": "text", "text": "No."}]}, "anthropic") == Turn("No.")
    with pytest.raises(Refused):
        call_of("fly away")


def test_lines_of_solutions_are_calls_too() -> None:
    for task in TASKS.values():
        world = task.build(2)
        for line in lines_of(task, world, task.oracle(world.instructions)):
            call = call_of(line)
            again = call_of(COMMANDS[call["name"]].line(call["values"]))
            assert again == call, line
