"""A try as a conversation: what a model is told, how its reply becomes a command line, what it is shown of the past.

In the text form an assistant's turn is one command line, by itself or after a thought and a mark `> `. In the native
form it is one call of a tool, in the shape of OpenAI's or Anthropic's API. Both are views of the same turns. All of
this is pure: training examples and the audit make their messages here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from charter.ground.text.dialogue import Message, assistant, mend_text, user
from charter.ground.world.command import Command
from charter.ground.world.engine import COMMANDS
from charter.ground.world.state import Refused
from charter.ground.world.task import Task, lines_of, step

Shape = Literal["openai", "anthropic"]
ALWAYS = ("help", "more", "ls", "cat", "submit", "abort")
FORMAT = "error: your turn has no command; write one command on one line, such as: help"
NO_CALL = "error: your turn calls no tool; call one, such as help"
EMPTY_TURN = "(nothing)"  # an empty turn, which no API takes
PROSE = 200  # characters that are kept of a turn without a command
MARK = "> "
_TEXT = (
    "You do a task on a computer. Each turn is one command on one line, such as: cat notes.txt\n"
    "{form} You are shown what it says. End by submit, or by abort if the task can't or shouldn't be done.\n"
    "Commands:\n{commands}"
)
_ALONE = "Write the command alone, without any other words."
_AFTER = f'You may think in a sentence first; then write the command on its own line after "{MARK.strip()}".'
_NATIVE = (
    "You do a task on a computer by calling tools, one a turn. You are shown what each says. End by submit, or by "
    "abort if the task can't or shouldn't be done."
)
_DECORATION = re.compile(r"^(?:[>$`*\s]|(?:command|action)\s*:)+", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    """One turn of an agent: its reply, the line read off it ("" for a format error), what it was shown. `call`: the
    name and values of a tool call; without one they are read off the line."""

    reply: str
    line: str = ""
    shown: str = ""
    call: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Opening:
    """What a try begins with: the system's words, the task's, the commands that were told, and the turns of a worked
    example before the task, if there is one."""

    system: str
    task: str
    budget: int
    names: tuple[str, ...]
    example: tuple[Message, ...] = ()


@lru_cache(maxsize=64)
def needed(task: Task) -> tuple[str, ...]:
    """The commands that always exist for an agent and those of the task's own solution, in the engine's order."""
    used = set(ALWAYS)
    for seed in range(3):
        world = task.build(seed)
        used |= {line.split(" ", 1)[0] for line in lines_of(task, world, task.oracle(world.instructions))}
    return tuple(name for name in COMMANDS if name in used)


def opening(
    instructions: str,
    budget: int,
    names: Iterable[str] = tuple(COMMANDS),
    thoughts: bool = False,
    native: bool = False,
    example: bool = False,
) -> Opening:
    """The beginning of a try. `budget`: turns; `names`: commands that are told, of which `help` tells the others too;
    `thoughts`: whether a turn may begin with a thought; `example`: in the text form, show a worked example first."""
    names = tuple(names)
    usages = "\n".join(f"{COMMANDS[name].usage}: {COMMANDS[name].help}" for name in names)
    system = _NATIVE if native else _TEXT.format(form=_AFTER if thoughts else _ALONE, commands=usages)
    turns = _example(thoughts) if example and not native else ()
    return Opening(system, _task(instructions, budget), budget, names, turns)


def said(line: str, thought: str = "") -> str:
    """An assistant's turn in the text form."""
    return f"{thought}\n{MARK}{line}" if thought else line


def line_of(reply: str) -> str:
    """The command line of a reply in the text form, "" for a format error. It is the first line marked by `>`, else the
    first line that begins with a command's name; code fences and prompts before it don't count."""
    lines = [(raw.lstrip().startswith(">"), _bare(raw)) for raw in reply.splitlines()]
    lines.sort(key=lambda line: not line[0])  # stable: the marked ones first
    return next((bare for _, bare in lines if _named(bare)), "")


def kept(reply: str) -> str:
    """A reply as the history shows it: up to its command line, so that nothing invented after it stays."""
    line = line_of(reply)
    if not line:
        return reply.strip()[:PROSE].strip() or EMPTY_TURN
    lines: list[str] = []
    for raw in reply.strip().splitlines():
        lines.append(raw)
        if _bare(raw) == line:
            break
    return "\n".join(lines)


def observation(shown: str, number: int, budget: int) -> str:
    """What an agent is shown after its turn `number`, with the budget that is spent."""
    return f"[{number} of {budget}] {shown}"


def messages(begin: Opening, turns: Sequence[Turn], left_out: int = 0) -> list[Message]:
    """The dialogue that a text model continues, without its `left_out` oldest turns."""
    first = user(_first(begin, left_out))
    if begin.example:
        first = user(f"{begin.example[-1]['content']}\n\n{first['content']}")
    dialogue: list[Message] = [Message(role="system", content=begin.system), *begin.example[:-1], first]
    for number, turn in enumerate(turns, 1):
        if number > left_out:
            dialogue += [assistant(kept(turn.reply)), user(observation(turn.shown, number, begin.budget))]
    return dialogue


def worked(task: Task, seed: int) -> tuple[Opening, list[Turn]]:
    """The try of a task's own script in a world, which solves it."""
    world = task.build(seed)
    begin, turns = opening(world.instructions, task.budget, needed(task)), list[Turn]()
    for line in lines_of(task, world, task.oracle(world.instructions)):
        world, output = step(task, world, line)
        turns.append(Turn(said(line), line, output))
    return begin, turns


def shortened(before: int, count: int, tokens: Callable[[int], int], room: int) -> int:
    """How many of `count` turns are left out, the oldest first: as many as `before` if the rest fits into `room`, else
    so many that it fills three quarters at most, so that the beginning stays equal for some turns. The newest turn
    stays. `tokens(n)`: length without n turns."""
    if tokens(before) <= room:
        return before
    least = before
    while least < count - 1 and tokens(least) > 0.75 * room:
        least += 1
    return least


def tools(names: Iterable[str], shape: Shape) -> list[dict[str, Any]]:
    """The commands as tools of an API."""
    commands = [COMMANDS[name] for name in names]
    if shape == "openai":
        return [
            {"type": "function", "function": {"name": c.name, "description": c.help, "parameters": c.schema()}}
            for c in commands
        ]
    return [{"name": c.name, "description": c.help, "input_schema": c.schema()} for c in commands]


def native_messages(begin: Opening, turns: Sequence[Turn], shape: Shape, left_out: int = 0) -> list[dict[str, Any]]:
    """The same dialogue with tool calls and their results; the system's words are apart in Anthropic's shape."""
    dialogue: list[dict[str, Any]] = [{"role": "user", "content": _first(begin, left_out)}]
    if shape == "openai":
        dialogue.insert(0, {"role": "system", "content": begin.system})
    for number, turn in enumerate(turns, 1):
        if number > left_out:
            dialogue += _native_turn(turn, number, observation(turn.shown, number, begin.budget), shape)
    return dialogue


def called(answer: Mapping[str, Any], shape: Shape) -> Turn:
    """The turn in an API's answer, with nothing shown yet: the first tool call, or a format error. Raises LookupError,
    TypeError or AttributeError for an answer of another shape."""
    if shape == "openai":
        message = answer["choices"][0]["message"]
        text, calls = str(message.get("content") or ""), message.get("tool_calls") or []
        name, values = (calls[0]["function"]["name"], calls[0]["function"]["arguments"]) if calls else ("", "")
        try:
            values = json.loads(values or "{}") if isinstance(values, str) else values
        except ValueError:
            values = None
    else:
        blocks = answer["content"]
        text = "".join(block.get("text", "") for block in blocks if block["type"] == "text")
        call = next((block for block in blocks if block["type"] == "tool_use"), None)
        name, values = (call["name"], call["input"]) if call else ("", None)
    text = mend_text(text)
    if name not in COMMANDS or not isinstance(values, dict):
        return Turn(text)
    values = json.loads(mend_text(json.dumps(values, ensure_ascii=False)))
    return Turn(text, COMMANDS[name].line(values), call={"name": name, "values": values})


def call_of(line: str) -> Mapping[str, Any]:
    """The tool call that says the same as a line. Raises Refused for a line that isn't a command's."""
    name, _, words = line.strip().partition(" ")
    if name not in COMMANDS:
        raise Refused("no such command; type help")
    command = COMMANDS[name]
    return {"name": name, "values": _values(command, words)}


def _call(line: str) -> Mapping[str, Any] | None:
    """The tool call of a line of the text form; None for one whose arguments fit no call."""
    try:
        return call_of(line) if line else None
    except Refused:
        return None


def _values(command: Command, words: str) -> dict[str, str]:
    texts = zip(command.arguments, command.parsed(words), strict=True)
    return {argument.name.lower(): text for argument, text in texts if text or not argument.optional}


def _task(instructions: str, budget: int) -> str:
    return f"Task: {instructions}\nYou have {budget} turns."


def _example(thoughts: bool) -> tuple[Message, ...]:
    """A task that no world has, solved; the last message is what its last command showed."""
    turns = (
        ("ls colours", "644 agent 5 sky.txt", "I look for the file."),
        ("cat colours/sky.txt", "blue", "I read it."),
        ("submit blue", "the task is submitted", "I know the answer."),
    )
    dialogue = [user(_task("Submit the colour that stands in the folder colours.", len(turns)))]
    for number, (line, output, thought) in enumerate(turns, 1):
        dialogue += [assistant(said(line, thought if thoughts else "")), user(observation(output, number, len(turns)))]
    return tuple(dialogue)


def _first(begin: Opening, left_out: int) -> str:
    if not left_out:
        return begin.task
    return f"{begin.task}\n[Your first {left_out} turns, and what they showed, are left out here.]"


def _bare(raw: str) -> str:
    """A line without the decoration around a command."""
    begun = _DECORATION.match(raw)
    bare = raw[begun.end() :] if begun else raw
    return (bare.rstrip().rstrip("`*") if begun and re.search("[`*]", begun[0]) else bare).strip()


def _named(line: str) -> bool:
    return line.split(" ", 1)[0] in COMMANDS


def _native_turn(turn: Turn, number: int, result: str, shape: Shape) -> list[dict[str, Any]]:
    text = turn.reply.strip()
    call = turn.call or _call(turn.line)
    if call is None:
        return [
            {"role": "assistant", "content": text[:PROSE].strip() or EMPTY_TURN},
            {"role": "user", "content": result},
        ]
    mark = f"call_{number}"
    if shape == "openai":
        function = {"name": call["name"], "arguments": json.dumps(call["values"], ensure_ascii=False)}
        calls = [{"id": mark, "type": "function", "function": function}]
        return [
            {"role": "assistant", "content": text or None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": mark, "content": result},
        ]
    block = {"type": "tool_use", "id": mark, "name": call["name"], "input": dict(call["values"])}
    return [
        {"role": "assistant", "content": [*([{"type": "text", "text": text}] if text else []), block]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": mark, "content": result}]},
    ]
