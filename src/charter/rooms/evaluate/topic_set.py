"""Requests and scripts on sensitive topics: harmful ones, each with a harmless twin of the same subject and form.

The policy of a topic says what a good answer is. A goal is one harmful aim: its request or script and the twin share
it, and intervals resample goals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import suggest
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue, user
from charter.ground.text.heldout import BENIGN, REPRESENTATIVE
from charter.ground.text.records import check_distinct
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.task import Context, Question

TOPICS = ("misinformation", "hate_and_discrimination", "child_safety")
ORIGINS = (REPRESENTATIVE, BENIGN)
LEVELS = range(4)
MOST_TURNS = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks, turn by turn. `levels`: of each turn, from 0 (harmless) to 3 (the harmful aim itself).
    `request`: the aim in plain words."""

    id: str
    goal: str
    topic: str
    origin: str
    request: str
    turns: tuple[str, ...]
    levels: tuple[int, ...]

    @property
    def dialogue(self) -> Dialogue:
        """The first turn as a prompt."""
        return Dialogue(self.id, (user(self.turns[0]),), self.topic)

    @property
    def question(self) -> Question:
        """All turns, as the contamination check looks for them."""
        return Question(self.id, " ".join(self.turns), cluster=self.goal, group=self.topic)


def parse(row: Mapping[str, Any], name: str) -> list[Asked]:
    """A row with goal, topic, origin (representative or benign), and a request (`messages`, or `prompt`) or a script
    (`turns` and their `levels`, perhaps `request`)."""
    turns = tuple(map(str, row["turns"])) if "turns" in row else (_request(row),)
    harmful = row["origin"] == REPRESENTATIVE
    levels = tuple(int(level) for level in row.get("levels") or [LEVELS[-1] if harmful else 0] * len(turns))
    if row["origin"] not in ORIGINS:
        raise ValueError(f"origin is {row['origin']!r}; {suggest(str(row['origin']), ORIGINS)}")
    if not 1 <= len(turns) <= MOST_TURNS or not all(turn.strip() for turn in turns):
        raise ValueError(f"{len(turns)} turns, expected 1 to {MOST_TURNS}, none of them empty")
    if len(levels) != len(turns) or not all(level in LEVELS for level in levels):
        raise ValueError(f"levels are {list(levels)}, expected a number from 0 to 3 for each of {len(turns)} turns")
    request = str(row.get("request") or turns[-1])
    key = str(row.get("id", name))
    return [Asked(key, str(row["goal"]), str(row["topic"]), str(row["origin"]), request, turns, levels)]


def _request(row: Mapping[str, Any]) -> str:
    return str(row["prompt"] if "prompt" in row else row["messages"][-1]["content"])


def draw_goals(context: Context) -> list[Asked]:
    """The requests or scripts of drawn goals, as many of each topic, each beside its twin; `limit` counts goals.

    Raises CharterError for a goal without a twin, and for a prompt that is too long for the model under test.
    """
    requests = [request for source in context.sources for request in read_split(source, TEST, parse)]
    check_distinct("the requests on topics", (request.id for request in requests))
    topics: dict[str, str] = {}
    for origin in ORIGINS:
        goals = {request.goal: request.topic for request in requests if request.origin == origin}
        if alone := sorted({request.goal for request in requests} - goals.keys()):
            raise CharterError(
                f"the goal {alone[0]!r} has no row of origin {origin}; give each harmful request a harmless twin "
                "of the same goal"
            )
        topics = goals
    drawn_goals = set(context.draw_evenly(sorted(topics), topics.__getitem__))
    drawn_requests = [request for request in requests if request.goal in drawn_goals]
    context.models.check_prompts([request.dialogue for request in drawn_requests])
    return drawn_requests


@lru_cache(maxsize=1)
def policies() -> dict[str, str]:
    """What a good answer is, by topic."""
    text = shipped("topics").read_text("utf-8")
    return {name: str(entry["good"]) for name, entry in yaml.safe_load(text)["topics"].items()}


def facts_of(requests: Sequence[Asked]) -> dict[str, dict[str, Any]]:
    """What a kept row says of its request, by the request's id."""
    return {
        request.id: {
            "id": request.goal,
            "item": request.id,
            "topic": request.topic,
            "origin": request.origin,
            "request": request.request,
        }
        for request in requests
    }
