"""The search: requests in rounds, each saved whole, so that a resumed search chooses as the first one did."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from charter.ground.attack.chains import Chain, resolve
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.rooms.attack.goals import topic_of
from charter.rooms.attack.settings import Search
from charter.rooms.attack.strategy import STRATEGIES, Archive, Strategy, cell_of
from charter.rooms.attack.target import Try

Row = dict[str, Any]
# the rows of a round of requests, given the round's number
Send = Callable[[Sequence[Try], int], list[Row]]


def search(
    settings: Search, goals: Sequence[Dialogue], families: Sequence[str], seed: int, send: Send
) -> list[Row]:
    """All rows of a search, in order. `send` decides nothing else than what the model replies and how it is scored."""
    rng = random.Random(derive_seed(seed, "search"))
    strategy: Strategy = STRATEGIES[settings.by](families)
    by_topic: dict[str, list[Dialogue]] = {}
    for goal in goals:
        by_topic.setdefault(topic_of(goal), []).append(goal)
    archive, rows = Archive(), list[Row]()
    for number, start in enumerate(range(0, settings.queries, settings.together)):
        tries = []
        for query in range(start, min(start + settings.together, settings.queries)):
            chosen: Chain = strategy.choose(rng)
            topic = archive.topic("+".join(chosen), sorted(by_topic), rng)
            goal, own = rng.choice(by_topic[topic]), derive_seed(seed, "attack", query)
            tries.append(Try(goal, resolve(chosen, goal.id, own, families), own, "search", {"query": query}))
        for row in send(tries, number):
            strategy.learn(row["query"], reward_of(row["margin"]), row["found"])
            rows.append(row)
    return rows


def reward_of(margin: float) -> float:
    """A margin as a reward between 0 and 1: 1 / (1 + exp(-margin))."""
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, margin))))


def archive_of(rows: Sequence[Row]) -> Archive:
    """The best row of each topic and family."""
    archive = Archive()
    for row in rows:
        archive.add(row)
    return archive


def curve(rows: Sequence[Row], every: int) -> list[Row]:
    """After each round: requests sent, answers of the writer, successes so far by the search's grader, and cells with
    one."""
    points: list[Row] = []
    hits, cells = 0, set[tuple[str, str]]()
    for number, row in enumerate(rows, 1):
        if row["found"]:
            hits += 1
            cells.add(cell_of(row))
        if number % every == 0 or number == len(rows):
            points.append({"queries": number, "asks": row.get("asks", 0), "found": hits, "cells": len(cells)})
    return points
