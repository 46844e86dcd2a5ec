"""The loop of a search by a writer: rounds of asking it, of sending what fits, and of going on from the replies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.judge.success import with_marks
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message, user
from charter.rooms.attack.attackers import (
    CRESCENDO,
    Line,
    Outcome,
    ask_for,
    branches_of,
    further,
    least_of,
    lines_of,
    rounds_of,
)
from charter.rooms.attack.composing import WRITTEN
from charter.rooms.attack.goals import topic_of
from charter.rooms.attack.settings import Attacker
from charter.rooms.attack.target import Try

Row = dict[str, Any]
# the writer's answers to (what it is asked, a seed), and the rows of requests; both given the round's number
Write = Callable[[Sequence[tuple[list[Message], int]], int], list[str]]
Send = Callable[[Sequence[Try], int], list[Row]]


@dataclass(slots=True)
class Composed:
    """One search by a writer. `queries` and `asks`: most requests to the model and to the writer; `key` tells searches
    of one run apart; `columns`: further ones of the rows of a request."""

    settings: Attacker
    by: str
    together: int
    queries: int
    asks: int
    seed: int
    key: str
    write: Write
    send: Send
    columns: Callable[[Dialogue], Row] = lambda goal: {}

    def run(self, goals: Sequence[Dialogue]) -> tuple[list[Row], list[Row]]:
        """The rows of all requests to the model, and of all answers of the writer, in order."""
        sent, written = list[Row](), list[Row]()
        width = max(1, self.together // (self.settings.streams * branches_of(self.settings, self.by)))
        rounds = 0
        for start in range(0, len(goals), width):
            lines = [line for goal in goals[start : start + width] for line in lines_of(self.settings, goal)]
            for _ in range(rounds_of(self.settings, self.by)):
                asking = [line for line in lines for _ in range(branches_of(self.settings, self.by))]
                asking = asking[: self.asks - len(written)]
                if not asking or len(sent) >= self.queries:
                    break
                outcomes = self._round(asking, rounds, sent, written)
                rounds += 1
                lines = further(self.settings, self.by, outcomes)
        return sent, written

    def _round(
        self, asking: Sequence[Line], number: int, sent: list[Row], written: list[Row]
    ) -> list[Outcome]:
        """One round: the writer's answers, and the rows of those that fit, while the budget lasts."""
        seeds = [derive_seed(self.seed, "writer", self.key, len(written) + n) for n in range(len(asking))]
        asked = [ask_for(self.settings, self.by, line) for line in asking]
        answers = self._mark(asking, self.write(list(zip(asked, seeds, strict=True)), number), written)
        written += answers
        places = [n for n, row in enumerate(answers) if row["fit"]][: self.queries - len(sent)]
        tries = []
        for query, n in enumerate(places, len(sent)):
            tries.append(self._try(asking[n], answers[n], seeds[n], query, len(written)))
        rows = dict(zip(places, self.send(tries, number) if tries else [], strict=True))
        sent += rows.values()
        return [
            Outcome(line, row, rows.get(n)) for n, (line, row) in enumerate(zip(asking, answers, strict=True))
        ]

    def _mark(self, asking: Sequence[Line], texts: Sequence[str], earlier: Sequence[Row]) -> list[Row]:
        """Rows of the writer's answers; one that says again what was sent for its request is a copy."""
        rows = list[Row]()
        for n, (line, text) in enumerate(zip(asking, texts, strict=True)):
            same = (row for row in (*earlier, *rows) if row["id"] == line.goal.id and row["fit"])
            row = {
                "id": line.goal.id,
                "answer": f"{self.key}/{len(earlier) + n}",
                "line": line.place,
                "turn": line.turn,
                "request": line.goal.messages[-1]["content"],
                "before": [row["message"] for row in same],
                "least": least_of(self.settings, self.by),
                "text": text,
            }
            rows.append(with_marks(row, WRITTEN))
        return rows

    def _try(self, line: Line, written: Row, seed: int, query: int, asks: int) -> Try:
        talk = f"{line.goal.id}/{line.place}"
        columns = {"query": query, "talk": talk, "turn": line.turn, "parent": line.parent}
        columns |= {"answer": written["answer"], "asks": asks, **self.columns(line.goal)}
        before = line.talk if self.by == CRESCENDO else tuple(line.goal.messages[:-1])
        attack = Dialogue(f"{line.goal.id}/{self.by}/{seed}", (*before, user(written["message"])))
        return Try(line.goal, (self.by,), seed, self.key, columns, attack)


def in_turns(goals: Sequence[Dialogue], seed: int) -> list[Dialogue]:
    """The requests in random order, one of each topic in turn."""
    rng = random.Random(derive_seed(seed, "turns"))
    by_topic: dict[str, list[Dialogue]] = {}
    for goal in goals:
        by_topic.setdefault(topic_of(goal), []).append(goal)
    pools = [by_topic[topic] for topic in sorted(by_topic)]
    rng.shuffle(pools)
    for pool in pools:
        rng.shuffle(pool)
    longest = max(map(len, pools), default=0)
    return [pool[n] for n in range(longest) for pool in pools if n < len(pool)]
