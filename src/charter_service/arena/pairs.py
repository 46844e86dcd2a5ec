"""Pairs for simulated raters: the models of each prompt, the sides of their replies, and the replies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.best_of_n import apply_strategy, scores_of
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.sampling_strategy import SamplingStrategy, display_name
from charter.ground.settings.problems import suggest
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import HARMLESS, Side
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import read_prompts
from charter_service.arena.settings import Settings
from charter_service.people.collection import Collection, Task


@dataclass(frozen=True, slots=True)
class Pair:
    """Two unnamed models on one prompt, "a" and "b", and which of the two replies is on the left."""

    id: str
    axis: str
    prompt: Dialogue
    models: tuple[str, str]
    left: Side


@dataclass(frozen=True, slots=True)
class Hidden:
    """A model in one of its modes, and its name in votes."""

    name: str
    source: Input
    showing: SamplingStrategy


SideRequest = tuple[Pair, tuple[int, ...]]  # a pair, and the sides that one request answers


def hidden_models(settings: Settings, inputs: Inputs) -> list[Hidden]:
    """The models in their modes, each with its own name: that of the step, or the reference as written, with the mode.
    Raises CharterError if two have one name, and if `show` names an unknown model."""
    sources = inputs.many("models")
    source_names = [source.name for source in sources]
    if lost := next((name for name in settings.show if name not in source_names), None):
        raise CharterError(f"show names {lost!r}, which is not a model here; {suggest(lost, source_names)}")
    models = [
        Hidden(display_name(source.name, showing), source, showing)
        for source in sources
        for showing in settings.show.get(source.name) or (SamplingStrategy(),)
    ]
    names = [hidden.name for hidden in models]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise CharterError(f"models has two of the name {twice[0]}, which votes could not tell apart; name one")
    return models


def model_names(settings: Settings, inputs: Inputs) -> list[str]:
    """The models' names in votes. Raises CharterError as `hidden_models` does."""
    return [hidden.name for hidden in hidden_models(settings, inputs)]


def prompts_of(settings: Settings, inputs: Inputs, seed: int) -> dict[str, list[Dialogue]]:
    """The prompts of each axis in a random order: those of `red_team` on the harmless axis."""
    by_axis: dict[str, list[Dialogue]] = {}
    for axis in settings.axes:
        role = "red_team" if axis == HARMLESS else "prompts"
        prompts = read_prompts([source.folder for source in inputs.many(role)])
        random.Random(derive_seed(seed, "prompts", axis)).shuffle(prompts)
        by_axis[axis] = prompts
    return by_axis


def draw_pairs(
    settings: Settings, models: Sequence[str], prompts: Mapping[str, Sequence[Dialogue]], out: Workspace
) -> list[Pair]:
    """The pairs of all axes. Prompts take turns, so that all are used equally often."""
    tasks: dict[str, Task] = {axis: Task(pairing=settings.pairing) for axis in settings.axes}
    rules = Collection(models=tuple(models), tasks=tasks, seed=derive_seed(out.seed, "pairs"))
    pairs = []
    for axis in settings.axes:
        for number in range(settings.comparisons):
            name = f"{out.step}-{axis}-{number}"
            prompt = prompts[axis][number % len(prompts[axis])]
            pairs.append(Pair(name, axis, prompt, rules.models_of(axis, name, 1), rules.left_of(name)))
    return pairs


def reply_texts(settings: Settings, pairs: Sequence[Pair], inputs: Inputs, out: Workspace) -> list[tuple[str, str]]:
    """Both replies of each pair, sampled model by model: one is in memory at a time."""
    ranker = inputs.optional("ranker")
    texts: dict[tuple[str, int], str] = {}
    for number, hidden in enumerate(hidden_models(settings, inputs)):
        requests = _requests_of(hidden, pairs)
        replies = _replies_of(settings, f"replies-{number}", hidden, ranker, requests, out)
        for (pair, sides), texts_of_pair in zip(requests, replies, strict=True):
            texts |= {(pair.id, side): text for side, text in zip(sides, texts_of_pair, strict=True)}
    return [(texts[pair.id, 0], texts[pair.id, 1]) for pair in pairs]


def _requests_of(hidden: Hidden, pairs: Sequence[Pair]) -> list[SideRequest]:
    """A model's requests: one a side, or one for both sides of its own pair if they are chosen together."""
    requests: list[SideRequest] = []
    for pair in pairs:
        sides = tuple(side for side in (0, 1) if pair.models[side] == hidden.name)
        requests += [(pair, sides)] if hidden.showing.ranks and sides else [(pair, (side,)) for side in sides]
    return requests


def _replies_of(
    settings: Settings, key: str, hidden: Hidden, ranker: Input | None, requests: Sequence[SideRequest], out: Workspace
) -> list[list[str]]:
    model = open_assistant(hidden.source, out.device, precision=out.precision)
    check_prompts(model, [pair.prompt for pair, _ in requests])
    score = None
    if hidden.showing.ranks and ranker is not None:
        score = scores_of(PreferenceModel.open(ranker.folder, out.device, out.precision))
    model = apply_strategy(model, hidden.showing, score)
    return out.chunks(
        key,
        requests,
        settings.chunk,
        lambda part, _: _sampled(settings, model, part, out.seed),
        f"replies of {hidden.name}",
    )


def _sampled(settings: Settings, model: Assistant, requests: Sequence[SideRequest], seed: int) -> list[list[str]]:
    with naming_prompts(pair.prompt.id for pair, _ in requests):
        replies = model.reply(
            [list(pair.prompt.messages) for pair, _ in requests],
            Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens),
            len(requests[0][1]),
            [derive_seed(seed, "reply", pair.id, sides[0]) for pair, sides in requests],
        )
    return [[reply.text.strip() for reply in samples] for samples in replies]
