"""Which replies to a prompt are taken: those that pass the filters, the best or the median of them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charter.ground.judge.sampling_strategy import best_first, nearest_median, order_statistic_kl
from charter.rooms.select.filter import fault
from charter.rooms.select.grading import Grades
from charter.rooms.select.replies import Asked
from charter.rooms.select.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """Why each reply of a prompt is dropped (None: it passes), and the places of those kept, in order."""

    dropped: list[str | None]
    kept: list[int]


def choose(settings: Settings, one: Asked, grades: Grades | None) -> Choice:
    """Filters first, then the order: by score, by distance from the median in rank, or without graders as they come."""
    first: dict[str, int] = {}
    dropped: list[str | None] = []
    for place, reply in enumerate(one.replies):
        why = fault(settings.filters, one.role, reply.text, reply.cut)
        if why is None and first.setdefault(reply.text, place) != place:
            why = "repeat"
        dropped.append(why or _below(settings, one, grades, place))
    return Choice(dropped, _ordered(settings, one, grades, dropped, first)[: settings.keep or None])


def _ordered(
    settings: Settings,
    one: Asked,
    grades: Grades | None,
    dropped: Sequence[str | None],
    first: Mapping[str, int],
) -> list[int]:
    """Places of the replies that pass, each text once; a text that was said twice counts twice for the median."""
    places = [place for place, why in enumerate(dropped) if why in (None, "repeat")]
    if grades is not None:
        order = best_first if settings.choose == "best" else nearest_median
        draws = [place for place in places if dropped[first[one.replies[place].text]] is None]
        places = [draws[at] for at in order([grades.scores[place] for place in draws])]
    texts = dict.fromkeys(first[one.replies[place].text] for place in places)
    return [place for place in texts if dropped[place] is None]


def _below(settings: Settings, one: Asked, grades: Grades | None, place: int) -> str | None:
    """Whether graders put a reply below what it must be above; an equal score is not above."""
    if grades is None:
        return None
    filters = settings.filters
    if filters.above_fixed and one.role == "prompts" and grades.above_fixed[place] <= 0:
        return "below_fixed"
    if filters.above_draft and grades.above_draft is not None and grades.above_draft[place] <= 0:
        return "below_draft"
    return None


def rank_of(scores: Sequence[float], place: int) -> int:
    """Which place a score has among all, 1 being the highest; equal scores share it."""
    return 1 + sum(score > scores[place] for score in scores)


def kl_bound(settings: Settings) -> float:
    """At most how many nats the choice alone moves a reply from the policy: ln k - (k - 1)/k for the best of k."""
    return order_statistic_kl(settings.k, 1 if settings.choose == "best" else settings.k // 2 + 1)
