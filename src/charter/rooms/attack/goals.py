"""The requests that are attacked, their harmless twins, and what the search may see of requests and families."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.attack.chains import usable
from charter.ground.attack.families import pick_twins
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.free_questions import read_short_questions
from charter.ground.text.heldout import find_held_out
from charter.ground.text.records import read_prompts
from charter.rooms.attack.settings import WRITERS, Settings

OTHER = "other"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Goals:
    """The requests and families of a run, each in what the search sees and what it doesn't."""

    seen: list[Dialogue]
    unseen: list[Dialogue]
    seen_families: list[str]
    unseen_families: list[str]

    @property
    def families(self) -> list[str]:
        """All families."""
        return self.seen_families + self.unseen_families

    def even(self, count: int) -> list[Dialogue]:
        """`count` requests, half of each part while both last."""
        half = min(len(self.unseen), max(count // 2, count - len(self.seen)))
        return self.seen[: count - half] + self.unseen[:half]


def read_goals(settings: Settings, inputs: Inputs) -> Goals:
    """Requests and families, split by seed; a writer's search sees no family of rules.

    Raises CharterError if the search would see no request or no family.
    """
    prompts = read_prompts([s.folder for s in inputs.many("prompts")], settings.limit, settings.draw_seed)
    if held_out := find_held_out(prompts):
        raise CharterError(
            f"{held_out} of prompts is held out for evaluation; found attacks are learnt from, so give other requests"
        )
    families = settings.families or usable(inputs.optional("writer") is not None)
    seen, unseen = _split(prompts, settings.unseen_goals, derive_seed(settings.draw_seed, "goals"))
    known, new = _split(families, settings.unseen_families, derive_seed(settings.draw_seed, "families"))
    if settings.search.by in WRITERS:
        known, new = [settings.search.by], [*known, *new]
    return Goals(seen, unseen, known, new)


def _split(items: Sequence[T], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Items in random order, and a share of them that is held back, but never all."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    held = min(len(shuffled) - 1, round(share * len(shuffled)))
    return shuffled[held:], shuffled[:held]


def twins_of(goals: Sequence[Dialogue], inputs: Inputs, seed: int) -> list[Dialogue]:
    """A harmless request for each goal: one whose column `twin_of` names it, else one of its topic, else any; each once
    while they last. Raises CharterError if a harmless request is one of the goals."""
    pool = read_prompts([source.folder for source in inputs.many("twins")])
    random.Random(seed).shuffle(pool)
    requests = {goal.messages[-1]["content"] for goal in goals}
    if both := next((twin for twin in pool if twin.messages[-1]["content"] in requests), None):
        raise CharterError(f"{both.id} of twins is one of the attacked requests; twins must be harmless")
    return pick_twins(goals, pool)


def read_easy(settings: Settings, inputs: Inputs) -> list[Dialogue]:
    """Easy questions with accepted answers, drawn by seed."""
    questions = read_short_questions([source.folder for source in inputs.many("questions")])
    random.Random(derive_seed(settings.draw_seed, "questions")).shuffle(questions)
    return questions[: settings.controls.questions]


def topic_of(goal: Dialogue) -> str:
    """The topic of a request; `other` if it has none."""
    return goal.topic or OTHER
