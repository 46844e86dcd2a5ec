"""Pairs for simulated raters: which models answer which prompt, which reply stands on which side, and the replies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.arena.settings import Settings
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.people.collection import Collection, Task
from charter.ground.people.scale import HARMLESS, Side
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import read_prompts


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hidden models under one prompt, "a" and "b", and which of the two replies stands on the left."""

    id: str
    axis: str
    prompt: Dialogue
    models: tuple[str, str]
    left: Side


def model_names(inputs: Inputs) -> list[str]:
    """The models by name: of their step, or the reference as written. Raises CharterError for two of one name."""
    names = [source.name for source in inputs.many("models")]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise CharterError(
            f"models has two of the name {twice[0]}, which votes could not tell apart; name one"
        )
    return names


def prompts_of(settings: Settings, inputs: Inputs, seed: int) -> dict[str, list[Dialogue]]:
    """The prompts of each axis in a random order: those of `red_team` on the harmless axis."""
    found: dict[str, list[Dialogue]] = {}
    for axis in settings.axes:
        role = "red_team" if axis == HARMLESS else "prompts"
        prompts = read_prompts([source.folder for source in inputs.many(role)])
        random.Random(derive_seed(seed, "prompts", axis)).shuffle(prompts)
        found[axis] = prompts
    return found


def draw_pairs(
    settings: Settings, models: Sequence[str], prompts: Mapping[str, Sequence[Dialogue]], out: Workspace
) -> list[Pair]:
    """The pairs of all axes. Prompts are taken in turn, so that each is used as often as any other."""
    tasks: dict[str, Task] = {axis: Task(pairing=settings.pairing) for axis in settings.axes}
    rules = Collection(models=tuple(models), tasks=tasks, seed=derive_seed(out.seed, "pairs"))
    pairs = []
    for axis in settings.axes:
        for number in range(settings.comparisons):
            name = f"{out.step}-{axis}-{number}"
            prompt = prompts[axis][number % len(prompts[axis])]
            pairs.append(Pair(name, axis, prompt, rules.models_of(axis, name, 1), rules.left_of(name)))
    return pairs


def reply_texts(
    settings: Settings, pairs: Sequence[Pair], inputs: Inputs, out: Workspace
) -> list[tuple[str, str]]:
    """Both replies of each pair, sampled model by model: one is in memory at a time."""
    texts: dict[tuple[str, str], str] = {}
    for number, source in enumerate(inputs.many("models")):
        asked = [(pair, side) for pair in pairs for side in (0, 1) if pair.models[side] == source.name]
        found = _replies_of(settings, f"replies-{number}", source, asked, out)
        texts |= {(pair.id, str(side)): text for (pair, side), text in zip(asked, found, strict=True)}
    return [(texts[pair.id, "0"], texts[pair.id, "1"]) for pair in pairs]


def _replies_of(
    settings: Settings, key: str, source: Input, asked: Sequence[tuple[Pair, int]], out: Workspace
) -> list[str]:
    model = open_assistant(source, out.device, precision=out.precision)
    check_prompts(model, [pair.prompt for pair, _ in asked])
    return out.chunks(
        key,
        asked,
        settings.chunk,
        lambda part, _: _sampled(settings, model, part, out.seed),
        f"replies of {source.name}",
    )


def _sampled(settings: Settings, model: Assistant, asked: Sequence[tuple[Pair, int]], seed: int) -> list[str]:
    with naming_prompts(pair.prompt.id for pair, _ in asked):
        replies = model.reply(
            [list(pair.prompt.messages) for pair, _ in asked],
            Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens),
            seeds=[derive_seed(seed, "reply", pair.id, side) for pair, side in asked],
        )
    return [reply.text.strip() for (reply,) in replies]
