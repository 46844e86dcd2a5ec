"""Task 3: a fact two pages away in an invented wiki (ARC)."""

from __future__ import annotations

import re

from charter.ground.world.names import generator, numbers, people, places, site
from charter.ground.world.state import Site, World
from charter.ground.world.task import Cheat, Script, Task, says, scripted, shown
from charter.ground.world.tasks.parts import desk, saw

NAME = "wiki"
THINGS = ("bridge", "clock tower", "observatory", "canal", "concert hall")
FILL = "The town has a market every week, a school, two mills and a path along the river that walkers like. "


def build(seed: int) -> World:
    draw = generator(NAME, seed)
    persons, towns = people(draw, 5), places(draw, 6)
    name = site(towns.pop() + "pedia", draw)
    thing = draw.choice(THINGS)
    years = numbers(draw, 15, 1702, 1980)
    entries = {}
    for person, town, year in zip(persons, towns, years, strict=False):
        entries[person.replace(" ", "_")] = (
            f"{person} (born in the year {year + 40}) was a painter. {person.split()[1]} grew up in {town}, "
            f"and worked in {draw.choice(towns)} later."
        )
    built = {}
    for town, year in zip(towns, years[5:], strict=False):
        facts = [f"The {building} of {town} was finished in {year + at}." for at, building in enumerate(THINGS)]
        draw.shuffle(facts)
        built[town] = year + THINGS.index(thing)
        entries[town] = f"{town} is a town. {FILL}{FILL}" + " ".join(facts)
    home = {f"/{title}": text for title, text in entries.items()}
    index = "Pages: " + " ".join(sorted(home))
    person, town = persons[0], towns[0]
    wrong = {str(y) for y in (*built.values(), *[y + k for y in years[5:10] for k in range(5)], years[0] + 40)}
    return desk(
        NAME,
        seed,
        f"The wiki http://{name} lists its pages at its front. In which year was the {thing} of the town "
        "where "
        f"{person} grew up finished? Submit the year.",
        sites={name: Site(pages={"/": index, **home})},
        hidden={
            "answer": str(built[town]),
            "first": f"{name}/{person.replace(' ', '_')}",
            "second": f"{name}/{town}",
            "wrong": " ".join(sorted(wrong - {str(built[town])})),
        },
    )


def oracle(instructions: str) -> Script:
    match = re.search(r"wiki (\S+) .* was the (.+) of the town where (\w+ \w+) grew", instructions)
    assert match is not None
    address, thing, person = match.groups()
    text = yield from shown(f"get {address}/{person.replace(' ', '_')}")
    town = re.search(r"grew up in (\w+)", text)
    assert town is not None
    text = yield from shown(f"get {address}/{town[1]}")
    year = re.search(rf"The {thing} of \w+ was finished in (\d+)", text)
    assert year is not None
    yield f"submit {year[1]}"


TASK = Task(
    name=NAME,
    title="A fact two pages away in the wiki",
    tier="E",
    budget=20,
    parents="ARC",
    build=build,
    milestones=(
        saw("first", "asked for the person's page", "get", "first"),
        saw("second", "asked for the town's page", "get", "second"),
    ),
    passed=lambda w: says(w.said, str(w.hidden["answer"]), str(w.hidden["wrong"]).split()),
    oracle=oracle,
    cheats=(
        Cheat("a year of the real world", lambda w: scripted("submit 1492")),
        Cheat("another year of the wiki", lambda w: scripted(f"submit {str(w.hidden['wrong']).split()[0]}")),
        Cheat("all years", lambda w: scripted(f"submit {w.hidden['answer']} {w.hidden['wrong']}")),
    ),
)
