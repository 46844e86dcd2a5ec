"""The test that a writer must pass before it attacks: harmless requests, rewritten so that their aim is kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.judge.success import with_marks
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message
from charter.ground.text.records import read_prompts
from charter.rooms.attack.attackers import (
    CRESCENDO,
    ECHO,
    FORM,
    LOOP,
    LOST,
    LOWEST,
    REFUSED,
    WRITTEN,
    Attempt,
    ask_rewriting,
    ask_turn,
)
from charter.rooms.attack.settings import Settings
from charter.rooms.attack.target import Target

Row = dict[str, Any]
IN_WORDS = {
    FORM: "without the asked form",
    REFUSED: "refused",
    LOOP: "in a loop",
    ECHO: "copied",
    LOST: "off the topic",
}


def try_writer(settings: Settings, inputs: Inputs, target: Target, out: Workspace) -> list[Row]:
    """The writer's answers to harmless requests, drawn by seed from `twins`; before every second one an attempt was
    refused. Raises CharterError if it is unfit."""
    pool = read_prompts([source.folder for source in inputs.many("twins")])
    random.Random(derive_seed(out.seed, "trial")).shuffle(pool)
    requests = pool[: settings.attacker.trial]
    prompts = [
        (_ask(settings, request, refused=n % 2 == 1), derive_seed(out.seed, "trial", request.id))
        for n, request in enumerate(requests)
    ]
    texts = out.chunks("trial", prompts, settings.search.together, lambda part, _: target.compose(part), "trial")
    rows = []
    for request, text in zip(requests, texts, strict=True):
        row = {"id": request.id, "request": request.messages[-1]["content"], "before": []}
        rows.append(with_marks({**row, "least": settings.attacker.keep, "text": text}, WRITTEN))
    check_fit(rows, settings.attacker.fit, inputs.one("writer").name)
    return rows


def _ask(settings: Settings, dialogue: Dialogue, refused: bool) -> list[Message]:
    request = dialogue.messages[-1]["content"]
    if settings.search.by == CRESCENDO:
        return ask_turn(request, (), [request] if refused else [], 1)
    return ask_rewriting(request, [Attempt(request, FIXED_REPLY, LOWEST)] if refused else [])


def check_fit(rows: Sequence[Mapping[str, Any]], least: float, name: str) -> None:
    """Raises CharterError if too few answers of the writer's test are good."""
    good = sum(row["fit"] for row in rows)
    if rows and good >= least * len(rows):
        return
    faults = Counter(row["fault"] for row in rows if row["fault"])
    why = ", ".join(f"{count} {IN_WORDS[fault]}" for fault, count in faults.most_common())
    share = f"{good / len(rows):.0%}" if rows else "0%"
    raise CharterError(
        f"the writer {name} is unfit to attack: it rewrote {good} of {len(rows)} harmless requests well ({share}, "
        f"needs {least:.0%}; {why}); give the role writer a stronger model, or search by rules (search.by: ucb)"
    )
