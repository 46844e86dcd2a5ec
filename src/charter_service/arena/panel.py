"""The votes of a panel of simulated raters on sampled pairs; a judge's scores give their preferences."""

from __future__ import annotations

import random
from collections.abc import Sequence

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.settings.seed import derive_seed
from charter.ground.text.ballot import ballot_of
from charter.ground.text.judgments import SIMULATED
from charter.ground.text.votes import Choice
from charter_service.arena.pairs import Pair, draw_pairs, model_names, prompts_of, reply_texts
from charter_service.arena.settings import Settings
from charter_service.people.simulation import Rater, Seen, Simulated, panel, raters_of

Texts = tuple[str, str]


def simulated_choices(settings: Settings, simulated: Simulated, inputs: Inputs, out: Workspace) -> list[Choice]:
    """Draws pairs, samples replies, scores them by the judge of their axis, and has the panel vote."""
    judges = _judges(settings, inputs)
    prompts = prompts_of(settings, inputs, out.seed)
    pairs = draw_pairs(settings, model_names(settings, inputs), prompts, out)
    texts = reply_texts(settings, pairs, inputs, out)
    scores: dict[str, list[float]] = {}
    for axis, judge in judges.items():
        items = [(pair, both) for pair, both in zip(pairs, texts, strict=True) if pair.axis == axis]
        rows = _scores(settings, f"scores-{axis}", judge, items, out)
        scores |= {pair.id: row for (pair, _), row in zip(items, rows, strict=True)}
    raters = panel(simulated, derive_seed(out.seed, "panel"))
    return [
        _choice(pair, both, scores[pair.id], rater)
        for pair, both in zip(pairs, texts, strict=True)
        for rater in raters_of(pair.id, raters, _votes_on(pair, settings, out.seed), out.seed)
    ]


def _judges(settings: Settings, inputs: Inputs) -> dict[str, Input]:
    """The judge of each axis: one for all, or one each in the order of the axes."""
    judges = inputs.many("judge")
    if len(judges) not in (1, len(settings.axes)):
        raise CharterError(
            f"judge has {len(judges)} models for the axes {', '.join(settings.axes)}: give one for all, or one "
            "each in this order"
        )
    return dict(zip(settings.axes, judges if len(judges) > 1 else judges * len(settings.axes), strict=True))


def _scores(
    settings: Settings, key: str, judge: Input, items: Sequence[tuple[Pair, Texts]], out: Workspace
) -> list[list[float]]:
    model = PreferenceModel.open(judge.folder, out.device, out.precision)
    return out.chunks(
        key,
        items,
        settings.chunk,
        lambda part, _: model.score([(pair.prompt.messages, both) for pair, both in part]),
        f"scores of {judge.name}",
    )


def _votes_on(pair: Pair, settings: Settings, seed: int) -> int:
    """Number of raters of a pair: two in the share that overlaps, else one."""
    return 1 + (random.Random(derive_seed(seed, "overlap", pair.id)).random() < settings.overlap)


def _choice(pair: Pair, texts: Texts, scores: Sequence[float], rater: Rater) -> Choice:
    sides = [Seen(text, score) for text, score in zip(texts, scores, strict=True)]
    left, right = sides if pair.left == "a" else sides[::-1]
    answer = rater.answer(pair.id, pair.axis, left, right)
    ballot = ballot_of(answer, pair.left)
    assert ballot is not None
    return Choice(
        id=f"{pair.id}-{rater.name}",
        item=pair.id,
        axis=pair.axis,
        kind="given",
        messages=pair.prompt.messages,
        replies=texts,
        models=pair.models,
        ballot=ballot,
        rater=rater.name,
        source=SIMULATED,
        topic=pair.prompt.topic,
        left=pair.left,
    )
