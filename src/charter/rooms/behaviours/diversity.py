"""How varied the kept statements are, beside what people wrote of the same behaviour: sets of equal size, drawn at
random, since a larger set repeats itself more."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.measure import counts
from charter.ground.measure.metric import Metric
from charter.ground.measure.question_sets import PEOPLE
from charter.ground.settings.seed import derive_seed
from charter.rooms.behaviours.definition import SIDES, Behaviour
from charter.rooms.behaviours.filter import pairs_of
from charter.rooms.behaviours.known import read_known
from charter.rooms.behaviours.writing import Statement

DIVERSITY = "diversity.jsonl"
GENERATED = "generated"
# Fewest statements of each set.
FEWEST = 5
Row = dict[str, Any]
WORDS = {GENERATED: "kept statements", PEOPLE: "as many statements of people"}


def keep_sets(
    behaviours: Sequence[Behaviour], kept: Sequence[Mapping[str, Any]], inputs: Inputs, out: Workspace
) -> None:
    """Keeps the statements of both sets of each behaviour that has enough of both."""
    known = [statement for source in inputs.many("known") for statement in read_known(source.folder, people=True)]
    if rows := list(sets_of(behaviours, kept, known, out.seed)):
        out.write_jsonl(f"samples/{DIVERSITY}", rows)


def sets_of(
    behaviours: Sequence[Behaviour], kept: Sequence[Mapping[str, Any]], known: Sequence[Statement], seed: int
) -> Iterator[Row]:
    """A row a statement of each behaviour's two sets: kept ones, and people's (its gold ones and known ones)."""
    for behaviour in behaviours:
        gold = [text for side in SIDES for text in behaviour.gold.get(side, ())]
        others = [statement.text for statement in known if _plain(statement.behaviour.name) == _plain(behaviour.name)]
        both = {
            GENERATED: [str(row["statement"]) for row in kept if row["behavior"] == behaviour.name],
            PEOPLE: list(dict.fromkeys(gold + others)),
        }
        size = min(map(len, both.values()))
        if size >= FEWEST:
            for name, texts in both.items():
                rng = random.Random(derive_seed(seed, "diversity", behaviour.name, name))
                yield from measured(behaviour.name, name, rng.sample(texts, size))


def _plain(name: str) -> str:
    return name.replace("_", "-").lower()


def measured(behaviour: str, name: str, texts: Sequence[str]) -> Iterator[Row]:
    """A row a statement of one set: `nearest`, the greatest share of word pairs (Jaccard) with another one; its pairs,
    and those that none before it has."""
    pairs = [pairs_of(text) for text in texts]
    for n, (text, text_pairs) in enumerate(zip(texts, pairs, strict=True)):
        others = pairs[:n] + pairs[n + 1 :]
        yield {
            "id": f"{behaviour}/{name}/{n}",
            "behavior": behaviour,
            "set": name,
            "statement": text,
            "nearest": max(len(text_pairs & other) / len(text_pairs | other) for other in others),
            "pairs": len(text_pairs),
            "new": len(text_pairs.difference(*pairs[:n])),
        }


def problems(rows: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each row that its set's statements don't give, or that claims a statement which wasn't kept."""
    sets: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        sets.setdefault((row["behavior"], row["set"]), []).append(row["statement"])
    if [dict(row) for row in rows] != [row for key, texts in sets.items() for row in measured(*key, texts)]:
        yield f"samples/{DIVERSITY} isn't what its statements give"
    known = {(row["behavior"], row["statement"]) for row in kept}
    for (behaviour, name), texts in sets.items():
        if name == GENERATED and any((behaviour, text) not in known for text in texts):
            yield f"samples/{DIVERSITY} has a generated statement of {behaviour} that wasn't kept"


METRICS: tuple[Metric, ...] = tuple(
    metric
    for name, whose in WORDS.items()
    for metric in (
        Metric(
            f"{name}_nearest",
            DIVERSITY,
            counts.mean("nearest", counts.equal(set=name)),
            "neither",
            f"word pairs shared with the nearest other statement of the set, mean over {whose}",
            about="data",
            label=f"Nearest neighbour, {whose}",
        ),
        Metric(
            f"{name}_distinct_2",
            DIVERSITY,
            counts.per("new", "pairs", counts.equal(set=name)),
            "neither",
            f"word pairs that none before them has, of all of {whose}",
            about="data",
            label=f"Distinct word pairs, {whose}",
        ),
    )
)
