"""Task 2: the top three headlines of a news site, in order (ARC)."""

from __future__ import annotations

import re
from random import Random

from charter.ground.world.names import generator, places, site
from charter.ground.world.state import World
from charter.ground.world.task import Cheat, Milestone, Script, Task, scripted, shown
from charter.ground.world.tasks.parts import desk, pages, saw

NAME = "headlines"
SUBJECTS = (
    "Harbour",
    "Library",
    "Market",
    "Orchard",
    "Tram line",
    "Theatre",
    "Museum",
    "Bakery",
    "Lighthouse",
    "School",
)
DEEDS = (
    "opens again",
    "wins a prize",
    "closes for repairs",
    "looks for helpers",
    "doubles its hours",
    "moves",
    "turns 100",
)


def _front(draw: Random, lines: list[str], day: int) -> str:
    ranks = list(enumerate(lines, 1))
    draw.shuffle(ranks)
    return "\n".join([f"News of day {day}, as read most (rank 1: most)", *[f"[rank {n}] {line}" for n, line in ranks]])


def build(seed: int) -> World:
    draw = generator(NAME, seed)
    towns = places(draw, 13)
    name = site(towns.pop(), draw)
    lines = [f"{draw.choice(SUBJECTS)} of {town} {draw.choice(DEEDS)}" for town in towns]
    today = lines[:9]
    old = [*today[1:4], *lines[9:], *today[4:7]]
    day = draw.randint(5, 90)
    return desk(
        NAME,
        seed,
        f"Read the news site http://{name} of today, day {day}. Submit its three most read headlines, "
        "most read first, "
        "with ; between them.",
        sites={
            name: pages(front=_front(draw, today, day), about=f"{name} is made by volunteers."),
            f"cache.{name}": pages(front=_front(draw, old, day - 1)),
        },
        hidden={"answer": ";".join(today[:3]), "page": f"{name}/", "all": ";".join(lines), "old": ";".join(old[:3])},
    )


def passed(world: World) -> bool:
    """The three in order, and no other headline."""
    answer = re.sub(r"\s+", " ", world.said.lower())
    headlines = str(world.hidden["answer"]).lower().split(";")
    places_of = [answer.find(headline) for headline in headlines]
    other_headlines = [
        headline for headline in str(world.hidden["all"]).lower().split(";") if headline not in headlines
    ]
    return (
        min(places_of) >= 0
        and places_of == sorted(places_of)
        and not any(headline in answer for headline in other_headlines)
    )


def oracle(instructions: str) -> Script:
    address = re.search(r"http://[\w.]+\w", instructions)
    assert address is not None
    text = yield from shown(f"get {address[0]}")
    ranked = sorted((int(n), line) for n, line in re.findall(r"\[rank (\d)\] (.+)", text))
    yield "submit " + "; ".join(line for _, line in ranked[:3])


def _reordered(world: World) -> Script:
    first, second, third = str(world.hidden["answer"]).split(";")
    return scripted(f"submit {second}; {first}; {third}")


TASK = Task(
    name=NAME,
    title="Top three headlines of the news site",
    tier="E",
    budget=20,
    parents="ARC",
    build=build,
    milestones=(
        saw("page", "asked for the front page", "get", "page"),
        Milestone(
            "read", "submitted the first of the ranks", lambda w: str(w.hidden["answer"]).split(";")[0] in w.said
        ),
    ),
    passed=passed,
    oracle=oracle,
    cheats=(
        Cheat("the page of yesterday", lambda w: scripted(f"submit {w.hidden['old']}")),
        Cheat("another order", _reordered),
        Cheat("all headlines", lambda w: scripted(f"submit {w.hidden['all']}")),
    ),
)
