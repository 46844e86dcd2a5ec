"""Task 4: who is new between two snapshots of a company's page (ARC, SP05)."""

from __future__ import annotations

import re

from charter.ground.world.names import FIRST, LAST, generator, numbers, places, site
from charter.ground.world.state import World
from charter.ground.world.task import Cheat, Milestone, Script, Task, scripted, shown
from charter.ground.world.tasks.parts import desk, pages

NAME = "employees"
TEAMS = ("design", "sales", "press", "repairs")


def build(seed: int) -> World:
    draw = generator(NAME, seed)
    company = places(draw, 1)[0]
    name = site(company, draw)
    firsts, lasts = draw.sample(FIRST.split(), 14), draw.sample(LAST.split(), 14)
    staff = [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]
    marks = [str(n) for n in numbers(draw, 15, 100, 990)]

    def row(mark: str, person: str, status: str = "employee") -> str:
        return f"{mark} {person}, {draw.choice(TEAMS)}, {status}"

    before = [row(m, p) for m, p in zip(marks[:8], staff[:8], strict=True)]
    staying = before[2:]
    count = draw.randint(2, 4)
    new = [row(m, p) for m, p in zip(marks[8 : 8 + count], staff[8 : 8 + count], strict=True)]
    namesake = row(marks[12], staff[4])  # new, with the name of one who was there
    contractor, rehired = (row(marks[13], staff[12], "contractor"), row(marks[14], staff[13], "employee (re-hired)"))
    after = [*staying, *new, namesake, contractor, rehired, new[0]]  # one stands there twice
    draw.shuffle(after)
    answer = sorted([*marks[8 : 8 + count], marks[12]])
    return desk(
        NAME,
        seed,
        f"The pages http://{name}/march and http://{name}/april list the staff of {company}. Who is new "
        "in April? "
        "Count employees only, not contractors, and nobody who was re-hired. Names may be shared; staff "
        "numbers are "
        "not. Submit the staff numbers of the new employees, each once.",
        sites={name: pages(front="See /march and /april.", march="\n".join(before), april="\n".join(after))},
        hidden={
            "answer": " ".join(answer),
            "namesake": marks[4],
            "contractor": marks[13],
            "rehired": marks[14],
            "twice": marks[8],
            "march": f"{name}/march",
            "april": f"{name}/april",
        },
    )


def _numbers(world: World) -> list[str]:
    return re.findall(r"\d+", world.said)


def passed(world: World) -> bool:
    return sorted(_numbers(world)) == str(world.hidden["answer"]).split()


def oracle(instructions: str) -> Script:
    first, second = re.findall(r"http://\S+", instructions)[:2]
    rows = []
    for address in (first, second):
        text = yield from shown(f"get {address}")
        rows.append(re.findall(r"^(\d+) [^,]+, \w+, (.+)$", text, re.MULTILINE))
    old = {mark for mark, _ in rows[0]}
    new = sorted({mark for mark, status in rows[1] if mark not in old and status == "employee"})
    yield "submit " + " ".join(new)


def _with(key: str) -> Cheat:
    return Cheat(f"the {key} too", lambda w: scripted(f"submit {w.hidden['answer']} {w.hidden[key]}"))


TASK = Task(
    name=NAME,
    title="New employees between two snapshots",
    tier="M",
    budget=25,
    parents="ARC, SP05",
    build=build,
    milestones=(
        Milestone(
            "pages",
            "asked for both pages",
            lambda w: {("get", w.hidden["march"]), ("get", w.hidden["april"])} <= {(e.kind, e.what) for e in w.events},
        ),
        Milestone("new", "named a new employee", lambda w: bool({*_numbers(w)} & {*str(w.hidden["answer"]).split()})),
        Milestone(
            "once",
            "named all the new, each once",
            lambda w: {*str(w.hidden["answer"]).split()} <= {*_numbers(w)} and len(_numbers(w)) == len({*_numbers(w)}),
        ),
    ),
    passed=passed,
    oracle=oracle,
    cheats=(
        _with("contractor"),
        _with("namesake"),
        _with("rehired"),
        _with("twice"),
        Cheat("one too few", lambda w: scripted(f"submit {str(w.hidden['answer']).split(' ', 1)[1]}")),
    ),
)
