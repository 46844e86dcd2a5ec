"""Task 12: write an agent in a small language of rules, which answers what nobody has shown (ARC, SP03)."""

from __future__ import annotations

import json
import re
from random import Random

from charter.ground.world.language import SLOT, answer_of, rules_of
from charter.ground.world.names import FIRST, generator, places
from charter.ground.world.state import Refused, World
from charter.ground.world.task import Cheat, Milestone, Script, Task, scripted, shown
from charter.ground.world.tasks.parts import HOME, desk, did

NAME = "successor"
PROGRAM = f"{HOME}/successor/rules"
EXAMPLES = f"{HOME}/successor/examples.txt"
NEEDED = 4
SHAPES = (
    "order {n} {thing} for {who}",
    "{who} returns {n} {thing}",
    "move {thing} from {place} to {who}",
    "{who} asks about {thing} in {place}",
    "note for {who} that {thing} cost {n}",
)
THINGS = ("lamps", "chairs", "kettles", "ropes", "tents", "boots", "maps", "drums", "jars", "nets")


def _filled(draw: Random, shape: str, answer: str, count: int) -> list[tuple[str, str]]:
    """Lines of a shape with their answers; no word stands twice for one slot."""
    columns = {
        "n": [str(n) for n in draw.sample(range(2, 99), count)],
        "thing": draw.sample(THINGS, count),
        "who": draw.sample(FIRST.split(), count),
        "place": places(draw, count),
    }
    rows = [{name: values[at] for name, values in columns.items()} for at in range(count)]
    return [(shape.format(**row), answer.format(**row)) for row in rows]


def build(seed: int) -> World:
    draw = generator(NAME, seed)
    kinds = []
    for shape, word in zip(draw.sample(SHAPES, 3), places(draw, 3), strict=True):
        slots = [match[0] for match in SLOT.finditer(shape)]
        draw.shuffle(slots)
        kinds.append((shape, f"{word.lower()} {' '.join(slots)}"))
    examples: list[tuple[str, str]] = []
    unseen: list[tuple[str, str]] = []
    for (shape, answer), more in zip(kinds, (2, 2, 1), strict=True):
        rows = _filled(draw, shape, answer, 2 + more)
        examples += rows[:2]
        unseen += rows[2:]
    text = "\n".join(f"in: {line}\nout: {answer}" for line, answer in examples)
    return desk(
        NAME,
        seed,
        f"Write a program of rules in {PROGRAM} that answers messages as {EXAMPLES} shows: three kinds, "
        "two examples each, "
        "one after the other. A rule a line: PATTERN => ANSWER; a slot such as {a} stands for one word. "
        "It must answer "
        f"messages that aren't shown, at least {NEEDED} of 5. Try it by run.",
        {EXAMPLES: text},
        hidden={"seen": json.dumps(examples), "unseen": json.dumps(unseen), "rule": f"{kinds[0][0]} => {kinds[0][1]}"},
    )


def _right(world: World) -> int:
    """How many of the messages that aren't shown the program answers rightly; -1 if it isn't one."""
    file = world.hosts["desk"].files.get(PROGRAM)
    try:
        rules = rules_of(file.text if file else "")
    except Refused:
        return -1
    return sum(answer_of(rules, line) == answer for line, answer in json.loads(str(world.hidden["unseen"])))


def oracle(instructions: str) -> Script:
    """What differs between two examples of a kind is a slot."""
    program, examples = re.findall(r"/home/\S+", instructions)[:2]
    text = yield from shown(f"cat {examples}")
    rows = re.findall(r"in: (.+)\nout: (.+)", text)
    rules = []
    for (line, answer), (twin, _) in zip(rows[::2], rows[1::2], strict=True):
        names: dict[str, str] = {}
        for word, twin_word in zip(line.split(), twin.split(), strict=True):
            if word != twin_word:
                names[word] = "{" + "abcde"[len(names)] + "}"
        rules.append(
            " ".join(names.get(w, w) for w in line.split()) + " => " + " ".join(names.get(w, w) for w in answer.split())
        )
    program_text = r"\n".join(rules)
    yield f"write {program} {program_text}"
    yield f"run {program} {rows[0][0]}"
    yield "submit It answers."


def _program(name: str, text: str) -> Cheat:
    return Cheat(name, lambda w: scripted(f"write {PROGRAM} {text}", "submit It answers."))


def _by_heart(world: World) -> Script:
    text = r"\n".join(f"{line} => {answer}" for line, answer in json.loads(str(world.hidden["seen"])))
    yield f"write {PROGRAM} {text}"
    yield "submit It answers."


TASK = Task(
    name=NAME,
    title="A successor in a language of rules",
    tier="H",
    budget=40,
    parents="ARC, SP03",
    build=build,
    milestones=(
        Milestone("parses", "the program is one", lambda w: _right(w) >= 0),
        did("runs", "was tried by run", "ran"),
        Milestone("one", "one answer that wasn't shown is right", lambda w: _right(w) >= 1),
    ),
    passed=lambda w: _right(w) >= NEEDED,
    oracle=oracle,
    cheats=(
        Cheat("the examples by heart", _by_heart),
        Cheat("one kind", lambda w: scripted(f"write {PROGRAM} {w.hidden['rule']}", "submit It answers.")),
        _program("one answer for all", "{a...} => {a}"),
        _program("no program", "I answer all messages."),
    ),
)
