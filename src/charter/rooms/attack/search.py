"""The search: how it chooses the next chain of families, the archive of what it found, and its rounds of requests.

Each round is saved whole, so that a resumed search chooses as the first one did. Strategies are pure, and seeded by the
caller.

UCB (Auer 2002) tries the family of the highest mean reward plus bonus. MCTS-Explore (Yu 2023, GPTFuzzer, 2309.10253)
walks a tree of chains: a chain that works becomes a node, from which longer ones are tried. Both take the constants of
GPTFuzzer: a bonus of 0.5 sqrt(2 ln t / n), a chance of 0.1 to stop at an inner node, and a reward times
max(0.2, 1 - 0.1 level). The archive is that of MAP-Elites (Mouret and Clune 2015): topic by family, each with its best.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from charter.ground.attack.chains import COMBINATION, LONGEST, Chain, resolve
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.rooms.attack.goals import topic_of
from charter.rooms.attack.settings import WRITERS, Search
from charter.rooms.attack.target import Try

BONUS, STOP = 0.5, 0.1
LEAST, FADE = 0.2, 0.1
EXTEND = 0.5  # chance that the tree tries a longer chain than the node's
Row = dict[str, Any]
# the rows of a round of requests, given the round's number
Send = Callable[[Sequence[Try], int], list[Row]]


class Strategy(Protocol):
    """Chooses families; `choose` counts as a visit, so that requests sent together differ."""

    def choose(self, rng: random.Random) -> Chain:
        """The chain to try next; the name of the family combinations stands for a drawn chain."""
        ...

    def learn(self, place: int, reward: float, found: bool) -> None:
        """The reward, 0 to 1, of the choice of that number (from 0), and whether it was a success."""
        ...


@dataclass(slots=True)
class AtRandom:
    """Every family alike: what the others are compared with."""

    families: Sequence[str]

    def choose(self, rng: random.Random) -> Chain:
        """Any family."""
        return (rng.choice(self.families),)

    def learn(self, place: int, reward: float, found: bool) -> None:
        """Nothing."""


@dataclass(slots=True)
class Node:
    """A chain, how often it was walked through, its rewards, and the longer chains below it."""

    chain: Chain
    visits: int = 0
    reward: float = 0.0
    below: list[Node] = field(default_factory=list)

    @property
    def level(self) -> int:
        """Families of its chain beyond the first."""
        return max(0, len(self.chain) - 1)


def _best(nodes: Sequence[Node], step: int, rng: random.Random) -> Node:
    """The node with the highest mean reward plus bonus; unvisited ones come first, of equal ones chance decides."""

    def value(node: Node) -> float:
        if not node.visits:
            return math.inf
        return node.reward / node.visits + BONUS * math.sqrt(2 * math.log(max(1, step)) / node.visits)

    values = [value(node) for node in nodes]
    return rng.choice([node for node, at in zip(nodes, values, strict=True) if at == max(values)])


class Ucb:
    """Families as the arms of a bandit."""

    def __init__(self, families: Sequence[str]) -> None:
        self.arms = [Node((family,)) for family in families]
        self.chosen: list[Node] = []

    def choose(self, rng: random.Random) -> Chain:
        """The family of the highest bound."""
        arm = _best(self.arms, len(self.chosen), rng)
        arm.visits += 1
        self.chosen.append(arm)
        return arm.chain

    def learn(self, place: int, reward: float, found: bool) -> None:
        """Adds the reward to the family's."""
        self.chosen[place].reward += reward


class Mcts:
    """A tree of chains, whose first level are the families."""

    def __init__(self, families: Sequence[str]) -> None:
        self.names = [family for family in families if family != COMBINATION]
        self.root = Node((), below=[Node((family,)) for family in self.names])
        self.chosen: list[tuple[list[Node], Chain]] = []

    def choose(self, rng: random.Random) -> Chain:
        """The chain of the node at the end of a walk, or with a further family behind it."""
        path = [_best(self.root.below, len(self.chosen), rng)]
        while path[-1].below and rng.random() >= STOP:
            path.append(_best(path[-1].below, len(self.chosen), rng))
        for node in path:
            node.visits += 1
        chain = path[-1].chain
        others = [name for name in self.names if name not in chain]
        if path[-1].visits > 1 and len(chain) < LONGEST and others and rng.random() < EXTEND:
            chain = (*chain, rng.choice(others))
        self.chosen.append((path, chain))
        return chain

    def learn(self, place: int, reward: float, found: bool) -> None:
        """Adds the reward to all nodes of the walk; a longer chain that worked becomes a node."""
        path, chain = self.chosen[place]
        end = path[-1]
        for node in path:
            node.reward += reward * max(LEAST, 1 - FADE * end.level)
        if found and chain != end.chain and all(node.chain != chain for node in end.below):
            end.below.append(Node(chain))


STRATEGIES: Mapping[str, Callable[[Sequence[str]], Strategy]] = {"ucb": Ucb, "mcts": Mcts, "random": AtRandom}


def cell_of(row: Row) -> tuple[str, str]:
    """The place of a row in the archive: its topic and family, or its request if a writer attacked it."""
    return row["id" if row["family"] in WRITERS else "topic"], row["family"]


@dataclass(slots=True)
class Archive:
    """The best attempt of each cell, and how often each topic and family was tried."""

    cells: dict[tuple[str, str], Row] = field(default_factory=dict)
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)

    def topic(self, family: str, topics: Sequence[str], rng: random.Random) -> str:
        """The topic that was tried least with a family, of equal ones by chance; counts as a try."""
        least = min(self.tries[topic, family] for topic in topics)
        topic = rng.choice([topic for topic in topics if self.tries[topic, family] == least])
        self.tries[topic, family] += 1
        return topic

    def add(self, row: Row) -> None:
        """Keeps a row if it is the best of its cell: a success before a failure, then by margin."""
        cell = cell_of(row)
        incumbent = self.cells.get(cell)
        if incumbent is None or _rank(row) > _rank(incumbent):
            self.cells[cell] = row

    def found(self) -> Iterator[Row]:
        """The successes, the highest margin first."""
        yield from sorted((row for row in self.cells.values() if row["found"]), key=lambda r: (-r["margin"], r["id"]))


def _rank(row: Row) -> tuple[bool, float]:
    return row["found"], row["margin"]


def search(settings: Search, goals: Sequence[Dialogue], families: Sequence[str], seed: int, send: Send) -> list[Row]:
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
            names: Chain = strategy.choose(rng)
            topic = archive.topic("+".join(names), sorted(by_topic), rng)
            goal, attack_seed = rng.choice(by_topic[topic]), derive_seed(seed, "attack", query)
            tries.append(
                Try(goal, resolve(names, goal.id, attack_seed, families), attack_seed, "search", {"query": query})
            )
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
