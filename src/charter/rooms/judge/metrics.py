"""Metrics of judges: models that say which of two replies is better, in both orders.

A row is one pair of replies under one judge. `straight` and `exchanged` are its probabilities of the reply in first
place, as given and with the replies exchanged; `relabelled` and `reworded` the same with the letters of both places
exchanged, and under another wording of the question (null: not asked). `people` counts people's votes for a, for b and
for a tie; null if nobody voted. What follows from these are the marks of `mark`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from charter.ground.measure.agreement import cohen
from charter.ground.measure.counts import Row, equal, mean
from charter.ground.measure.metric import Metric
from charter.ground.measure.reviews import fleiss_kappa, pair_agreement
from charter.ground.measure.score import Table, points, sum_by_cluster, tabulate

JUDGED = "judged.jsonl"
PEOPLE = "people.jsonl"
WINNERS = ("a", "b", "tie")
GROUPS = ("pandalm", "llmbar_natural", "llmbar_adversarial", "llmbar_processed")
Where = Callable[[Row], bool]
Measure = Callable[[Sequence[Row]], Table]


def winner(orders: Sequence[float]) -> str:
    """The reply that is preferred in both orders; a tie if the orders disagree or one of them is undecided."""
    straight, exchanged = orders
    if straight > 0.5 > exchanged:
        return "a"
    return "b" if straight < 0.5 < exchanged else "tie"


def flips(orders: Sequence[float]) -> bool:
    """Whether both orders prefer the same place, so that the place decides and not the reply."""
    return (orders[0] - 0.5) * (orders[1] - 0.5) > 0


def majority(votes: Sequence[int]) -> str:
    """What most people said, a tie if none has the most."""
    most = max(votes)
    return WINNERS[list(votes).index(most)] if list(votes).count(most) == 1 else "tie"


def mark(row: Mapping[str, Any]) -> dict[str, Any]:
    """The marks of a row; those of what wasn't asked are None.

    `agrees`: with the majority of people if it isn't a tie, a half for the judge's tie. `leans_right`: the same by the
    mean over both orders, which is hardly ever a tie. `longer_right`, `first_right`: the rules "the longer reply" and
    "the first as given".
    """
    orders_by_key = {key: row[key] for key in ("orders", "relabelled", "reworded")}
    verdicts = {key: None if orders is None else winner(orders) for key, orders in orders_by_key.items()}
    verdict, orders = verdicts["orders"], row["orders"]
    people = majority(row["people"]) if row["people"] else None
    one_sided = people in ("a", "b")
    gap = row["length_a"] - row["length_b"]

    def right(lean: float) -> float | None:
        """Points of a lean to a (above 0) or to b."""
        return points(lean if people == "a" else -lean, 0.0) if one_sided else None

    return {
        "winner": verdict,
        "flipped": None if orders is None else flips(orders),
        "on_first": None if orders is None else sum(orders) / 2,
        "relabelled_differs": _differs(verdict, verdicts["relabelled"]),
        "reworded_differs": _differs(verdict, verdicts["reworded"]),
        "people_say": people,
        "agrees": None if verdict is None else right((verdict == "a") - (verdict == "b")),
        "leans_right": None if orders is None else right(orders[0] - orders[1]),
        "longer_right": right(gap),
        "first_right": right(1.0),
        "picks_longer": points(gap if verdict == "a" else -gap, 0.0) if verdict in ("a", "b") and gap else None,
    }


def _differs(first: str | None, second: str | None) -> bool | None:
    return None if first is None or second is None else first != second


def _of(key: str, place: int, where: Where = lambda row: True) -> Measure:
    return mean(key, lambda row: row["judge_number"] == place and row[key] is not None and where(row))


def kappa_with(first: Callable[[Row], str | None], second: Callable[[Row], str | None], place: int) -> Measure:
    """Cohen's kappa of two columns with a, b or tie, over rows of a judge that have both."""

    def each(rows: Sequence[Row]) -> Iterator[tuple[str, list[float], int]]:
        for row in rows:
            pair = first(row), second(row)
            if row["judge_number"] == place and None not in pair:
                counted = [float(value == name) for value in pair for name in WINNERS]
                yield str(row["id"]), [1.0, float(pair[0] == pair[1]), *counted], 0

    return lambda rows: sum_by_cluster(each(rows), 2 + 2 * len(WINNERS), cohen)


def between_judges(rows: Sequence[Row]) -> Table:
    """Cohen's kappa of the first two judges over the pairs that both judged."""
    second = {str(r["item"]): r["winner"] for r in rows if r["judge_number"] == 1}
    return kappa_with(lambda r: r["winner"], lambda r: second.get(str(r["item"])), 0)(rows)


def agreement_between(rows: Sequence[Row]) -> Table:
    """Share of the pairs on which the first two judges say the same."""
    second = {str(r["item"]): r["winner"] for r in rows if r["judge_number"] == 1}
    both = ((r, second.get(str(r["item"]))) for r in rows if r["judge_number"] == 0 and r["winner"] is not None)
    return tabulate((str(r["id"]), float(r["winner"] == other), 1.0) for r, other in both if other is not None)


def _metric(
    name: str, table: Measure, better: Any, meaning: str, label: str, unit: str = "share", **more: Any
) -> Metric:
    file = more.pop("file", JUDGED)
    return Metric(name, file, table, better, meaning, unit, label=label, about="judge", **more)


def _judge(place: int) -> Iterator[Metric]:
    begin, who = ("judge", "Judge") if place == 0 else ("second_judge", "Second judge")
    yield _metric(
        f"{begin}_agreement",
        _of("agrees", place),
        "higher",
        "pairs on which the judge says what most people say; its ties, and its flips with the order, count half",
        f"{who} with people",
        chance=0.5,
    )
    yield _metric(
        f"{begin}_leans",
        _of("leans_right", place),
        "higher",
        "the same by the mean over both orders, without ties",
        f"{who} with people, by the mean",
        chance=0.5,
    )
    for group in GROUPS if place == 0 else ():
        words = group.replace("_", ", ").replace("pandalm", "PandaLM").replace("llmbar", "LLMBar")
        for key, name in (("agrees", "agreement"), ("leans_right", "leans")):
            yield _metric(
                f"{begin}_{name}_{group}",
                _of(key, place, equal(group=group)),
                "higher",
                f"{name} with people: {words}",
                f"{who}, {words}" + (", by the mean" if key == "leans_right" else ""),
                kind="part",
                chance=0.5,
            )
    yield _metric(
        f"{begin}_kappa",
        kappa_with(lambda row: row["winner"], lambda row: row["people_say"], place),
        "higher",
        "Cohen's kappa of the judge with most people, over a, b and tie: 0 is chance",
        f"{who} with people, kappa",
        "kappa",
    )
    yield from _habits(begin, who, place)


def _habits(begin: str, who: str, place: int) -> Iterator[Metric]:
    """What decides besides the replies themselves."""
    flips = {
        "flipped": ("flipped", "pairs on which the place of a reply decides", "flipped by order"),
        "relabelled": ("relabelled_differs", "verdicts that change if the letters are exchanged", "by letters"),
        "reworded": ("reworded_differs", "verdicts that change with the wording of the question", "by wording"),
    }
    for name, (key, meaning, label) in flips.items():
        yield _metric(f"{begin}_{name}", _of(key, place), "lower", meaning, f"{who}, {label}")
    yield _metric(
        f"{begin}_on_first",
        _of("on_first", place),
        "neither",
        "probability put on the reply shown first, over both orders; 0.5 without a bias for a place",
        f"{who}, put on the first",
    )
    yield _metric(
        f"{begin}_longer",
        _of("picks_longer", place),
        "neither",
        "clear verdicts for the longer reply",
        f"{who}, for the longer",
    )


OF_JUDGES: tuple[Metric, ...] = (
    *_judge(0),
    *_judge(1),
    _metric(
        "rule_longer",
        _of("longer_right", 0),
        "neither",
        "pairs on which the rule that the longer reply is better says what most people say",
        "Rule: the longer reply",
    ),
    _metric(
        "rule_first",
        _of("first_right", 0),
        "neither",
        "pairs on which the rule that the first reply is better says what most people say",
        "Rule: the first reply",
    ),
    _metric(
        "judges_kappa",
        between_judges,
        "higher",
        "Cohen's kappa of the first two judges, over a, b and tie: 0 is chance",
        "Two judges, kappa",
        "kappa",
    ),
    _metric("judges_agreement", agreement_between, "higher", "pairs on which both judges say the same", "Two judges"),
    _metric(
        "people_kappa",
        fleiss_kappa("vote", len(WINNERS)),
        "neither",
        "Fleiss' kappa of the people themselves, over a, b and tie",
        "People, kappa",
        "kappa",
        file=PEOPLE,
    ),
    _metric(
        "people_agreement",
        pair_agreement("vote", len(WINNERS)),
        "neither",
        "pairs of people who voted alike on a pair of replies",
        "People with people",
        file=PEOPLE,
    ),
)
