"""Scores of all replies under all graders, in one unit, and their margins over the fixed reply and drafts.

Scores of a grader are standardised over all replies of the run: z = (score - mean) / sd. The fixed reply and drafts
have the same scale but don't count in mean and sd.
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
from charter.rooms.select.replies import Pool
from charter.rooms.select.settings import Settings

# score of each text as a reply to one prompt
Texts = dict[str, float]


@dataclass(frozen=True, slots=True)
class Grades:
    """The grades of one prompt's replies, in order: each grader's own scores, the joined score, and the margins over
    the fixed reply and over the highest draft (None without drafts).

    A margin is the difference under each grader, joined: with `min` every grader must put the reply above.
    """

    raw: list[list[float]]
    scores: list[float]
    fixed: float
    above_fixed: list[float]
    above_draft: list[float] | None


def grades(settings: Settings, pools: Sequence[Pool], inputs: Inputs, out: Workspace) -> list[Grades | None]:
    """The grades of each prompt's replies; None without graders or replies."""
    graders, answered_pools = inputs.many("graders"), [pool for pool in pools if pool.replies]
    if not graders or not answered_pools:
        return [None] * len(pools)
    texts = [
        list(dict.fromkeys([FIXED_REPLY, *pool.drafts, *(r.text for r in pool.replies)])) for pool in answered_pools
    ]
    raw = [_scores(settings, number, grader, answered_pools, texts, out) for number, grader in enumerate(graders, 1)]
    scaled = [_standardise(scores, answered_pools) for scores in raw]
    of_answered = (
        _grades(settings, pool, [scores[place] for scores in raw], [scores[place] for scores in scaled])
        for place, pool in enumerate(answered_pools)
    )
    return [next(of_answered) if pool.replies else None for pool in pools]


def _scores(
    settings: Settings, number: int, grader: Input, pools: Sequence[Pool], texts: Sequence[list[str]], out: Workspace
) -> list[Texts]:
    """One grader's scores of each prompt's texts. It leaves memory before the next one is loaded."""
    model = PreferenceModel.open(checkpoint_folder(grader), out.device, out.precision)
    items = [(pool.prompt.messages, pool_texts) for pool, pool_texts in zip(pools, texts, strict=True)]
    score = in_chunks(model.score, out, f"grader-{number}", f"scores of {grader.name}", settings.chunk)
    return [dict(zip(pool_texts, row, strict=True)) for pool_texts, row in zip(texts, score(items), strict=True)]


def _standardise(scores: Sequence[Texts], pools: Sequence[Pool]) -> list[Texts]:
    over = [by_text[r.text] for by_text, pool in zip(scores, pools, strict=True) for r in pool.replies]
    flat = iter(standardise(list(chain.from_iterable(s.values() for s in scores)), over))
    return [{text: next(flat) for text in by_text} for by_text in scores]


def _grades(settings: Settings, pool: Pool, raw: Sequence[Texts], scaled: Sequence[Texts]) -> Grades:
    replies = [reply.text for reply in pool.replies]
    weights = settings.weights or None

    def join(by_grader: Sequence[Sequence[float]]) -> list[float]:
        return combine(by_grader, weights, settings.join)

    def above(text: str) -> list[float]:
        return join([[z[reply] - z[text] for reply in replies] for z in scaled])

    drafts = [above(draft) for draft in pool.drafts]
    return Grades(
        raw=[[scores[text] for text in replies] for scores in raw],
        scores=join([[z[text] for text in replies] for z in scaled]),
        fixed=join([[z[FIXED_REPLY]] for z in scaled])[0],
        above_fixed=above(FIXED_REPLY),
        above_draft=[min(margins) for margins in zip(*drafts, strict=True)] if drafts else None,
    )
