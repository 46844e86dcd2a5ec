"""Scores of all replies under all graders, in one unit, and how far each reply is above the fixed one and its draft.

Scores of a grader are standardised over all replies of the run: z = (score - mean) / sd. The fixed reply and drafts
are measured on the same scale and are not among those that make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.combine import combine, standardise
from charter.ground.judge.fitness import FIXED_REPLY, in_chunks
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.model.opening import checkpoint_folder
from charter.rooms.select.replies import Asked
from charter.rooms.select.settings import Settings

Texts = dict[str, float]  # by text: a score of it as a reply to one prompt


@dataclass(frozen=True, slots=True)
class Grades:
    """What graders say of one prompt's replies, in their order: each grader's own scores, the joined score, and how
    far a reply is above the fixed one and above the highest draft (None without drafts).

    A margin is the difference under each grader, joined: with `min` every grader must put the reply above.
    """

    raw: list[list[float]]
    scores: list[float]
    fixed: float
    above_fixed: list[float]
    above_draft: list[float] | None


def grades(settings: Settings, asked: Sequence[Asked], inputs: Inputs, out: Workspace) -> list[Grades | None]:
    """The grades of each prompt's replies; None without graders, and for a prompt without replies."""
    graders, answered = inputs.many("graders"), [one for one in asked if one.replies]
    if not graders or not answered:
        return [None] * len(asked)
    texts = [
        list(dict.fromkeys([FIXED_REPLY, *one.drafts, *(r.text for r in one.replies)])) for one in answered
    ]
    raw = [
        _scores(settings, number, grader, answered, texts, out) for number, grader in enumerate(graders, 1)
    ]
    scaled = [_standardised(scores, answered) for scores in raw]
    of_answered = (
        _grades(settings, one, [scores[place] for scores in raw], [scores[place] for scores in scaled])
        for place, one in enumerate(answered)
    )
    return [next(of_answered) if one.replies else None for one in asked]


def _scores(
    settings: Settings,
    number: int,
    grader: Input,
    asked: Sequence[Asked],
    texts: Sequence[list[str]],
    out: Workspace,
) -> list[Texts]:
    """One grader's scores of each prompt's texts; it leaves memory before the next one comes."""
    model = PreferenceModel.open(checkpoint_folder(grader), out.device, out.precision)
    items = [(one.prompt.messages, some) for one, some in zip(asked, texts, strict=True)]
    score = in_chunks(model.score, out, f"grader-{number}", f"scores of {grader.name}", settings.chunk)
    return [dict(zip(some, row, strict=True)) for some, row in zip(texts, score(items), strict=True)]


def _standardised(scores: Sequence[Texts], asked: Sequence[Asked]) -> list[Texts]:
    over = [by_text[r.text] for by_text, one in zip(scores, asked, strict=True) for r in one.replies]
    flat = iter(standardise(list(chain.from_iterable(s.values() for s in scores)), over))
    return [{text: next(flat) for text in by_text} for by_text in scores]


def _grades(settings: Settings, one: Asked, raw: Sequence[Texts], scaled: Sequence[Texts]) -> Grades:
    said = [reply.text for reply in one.replies]
    weights = settings.weights or None

    def joined(by_grader: Sequence[Sequence[float]]) -> list[float]:
        return combine(by_grader, weights, settings.join)

    def above(text: str) -> list[float]:
        return joined([[z[reply] - z[text] for reply in said] for z in scaled])

    drafts = [above(draft) for draft in one.drafts]
    return Grades(
        raw=[[scores[text] for text in said] for scores in raw],
        scores=joined([[z[text] for text in said] for z in scaled]),
        fixed=joined([[z[FIXED_REPLY]] for z in scaled])[0],
        above_fixed=above(FIXED_REPLY),
        above_draft=[min(margins) for margins in zip(*drafts, strict=True)] if drafts else None,
    )
