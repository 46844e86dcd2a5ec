"""Chooses replies to a prompt: those that pass the filters, the best or the median first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.ground.judge.sampling_strategy import best_first, nearest_median, order_statistic_kl
from charter.rooms.select.grading import Grades
from charter.rooms.select.replies import Pool, fault
from charter.rooms.select.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Why each reply to a prompt is dropped (None: it passes), and the places of the kept ones, in order."""

    dropped: list[str | None]
    kept: list[int]


def choose(settings: Settings, pool: Pool, grades: Grades | None) -> Choice:
    """Filter, then order: by score, by rank distance from the median, or as they come without graders."""
    first: dict[str, int] = {}
    dropped: list[str | None] = []
    for place, reply in enumerate(pool.replies):
        why = fault(settings.filters, pool.role, reply.text, reply.cut)
        if why is None and first.setdefault(reply.text, place) != place:
            why = "repeat"
        dropped.append(why or _below(settings, pool, grades, place))
    return Choice(dropped, _ordered(settings, pool, grades, dropped, first)[: settings.keep or None])


def _ordered(
    settings: Settings, pool: Pool, grades: Grades | None, dropped: Sequence[str | None], first: Mapping[str, int]
) -> list[int]:
    """Places of the replies that pass, each text once; repeated texts count repeatedly for the median."""
    places = [place for place, why in enumerate(dropped) if why in (None, "repeat")]
    if grades is not None:
        order = best_first if settings.choose == "best" else nearest_median
        draws = [place for place in places if dropped[first[pool.replies[place].text]] is None]
        places = [draws[at] for at in order([grades.scores[place] for place in draws])]
    texts = dict.fromkeys(first[pool.replies[place].text] for place in places)
    return [place for place in texts if dropped[place] is None]


def _below(settings: Settings, pool: Pool, grades: Grades | None, place: int) -> str | None:
    """The filter whose bound a reply's grades don't exceed, or None; an equal score is not above."""
    if grades is None:
        return None
    filters = settings.filters
    if filters.above_fixed and pool.role == "prompts" and grades.above_fixed[place] <= 0:
        return "below_fixed"
    if filters.above_draft and grades.above_draft is not None and grades.above_draft[place] <= 0:
        return "below_draft"
    return None


def rank_of(scores: Sequence[float], place: int) -> int:
    """The rank of a score among all, 1 for the highest; equal scores share a rank."""
    return 1 + sum(score > scores[place] for score in scores)


def kl_bound(settings: Settings) -> float:
    """The most nats by which the choice moves a reply from the policy: ln k - (k - 1)/k for the best of k."""
    return order_statistic_kl(settings.k, 1 if settings.choose == "best" else settings.k // 2 + 1)
