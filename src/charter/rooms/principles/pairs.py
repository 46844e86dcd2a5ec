"""From replies to pairs with a known order: programs measure a trait, and a principle asks for more or for less of it.

Each pair is asked both ways, under a principle of each pole, so a rule that ignores the principle is right on half.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.wording import under_principle
from charter.ground.judge.traits import TRAITS
from charter.ground.settings.seed import derive_seed
from charter.ground.text.columns import raw_rows
from charter.ground.text.dialogue import Message
from charter.rooms.principles.settings import Settings

POLES = ("for", "against")
FEWEST_WORDS = 3


class Pair(NamedTuple):
    """Two replies to one prompt: `more` has more of the kind's trait than `less`."""

    prompt: str
    messages: Sequence[Message]
    more: str
    less: str


Wordings = Mapping[tuple[str, str], Sequence[str]]


def read_wordings(path: Path) -> Wordings:
    """Principles by kind and pole, from rows {kind, pole, principle}. Raises CharterError for another row, and for a
    kind that no program measures."""
    by_pole: dict[tuple[str, str], list[str]] = {}
    for place, row in raw_rows(path):
        kind, pole, text = (str(row.get(key, "")).strip() for key in ("kind", "pole", "principle"))
        if kind not in TRAITS or pole not in POLES or not text:
            raise CharterError(
                f"{place}: expected kind (one of {', '.join(TRAITS)}), pole (for or against) and principle"
            )
        by_pole.setdefault((kind, pole), []).append(text)
    for kind, pole in sorted((kind, pole) for kind, _ in by_pole for pole in POLES):
        if (kind, pole) not in by_pole:
            raise CharterError(f"{path}: no principle of {kind} ({pole}); each kind needs principles for and against")
    return by_pole


def measured(replies: Mapping[str, Sequence[dict[str, Any]]], kind: str, settings: Settings, seed: int) -> list[Pair]:
    """At most `per_kind` pairs of a kind, at most `per_prompt` of a prompt; in about half, the longer reply has more of
    the trait, where there are enough. `replies`: rows by prompt."""
    trait, pairs = TRAITS[kind], list[Pair]()
    for prompt, rows in sorted(replies.items()):
        texts = sorted({row["reply"] for row in rows if len(row["reply"].split()) >= FEWEST_WORDS})
        numbers = [trait.measure(prompt, text) for text in texts]
        for a, b in combinations(range(len(texts)), 2):
            if abs(numbers[a] - numbers[b]) >= trait.apart:
                more, less = (a, b) if numbers[a] > numbers[b] else (b, a)
                pairs.append(Pair(prompt, rows[0]["messages"], texts[more], texts[less]))
    random.Random(derive_seed(seed, "pairs", kind)).shuffle(pairs)
    used = Counter[str]()
    longer, shorter = list[Pair](), list[Pair]()
    for pair in pairs:
        if used[pair.prompt] < settings.per_prompt:
            used[pair.prompt] += 1
            (longer if len(pair.more) > len(pair.less) else shorter).append(pair)
    most = settings.per_kind
    chosen = longer[: max(most // 2, most - len(shorter))] + shorter[: max(most // 2, most - len(longer))]
    return chosen[:most]


def asked_both_ways(pairs: Sequence[Pair], kind: str, wordings: Wordings, seed: int) -> Iterator[dict[str, Any]]:
    """Two comparisons a pair: under a principle for the trait, and under one against it."""
    for number, pair in enumerate(pairs):
        for pole, chosen, rejected in (("for", pair.more, pair.less), ("against", pair.less, pair.more)):
            principle = random.Random(derive_seed(seed, "wording", kind, pole, number)).choice(wordings[kind, pole])
            yield {
                "id": f"{kind}-{number:04d}-{pole}",
                "topic": kind,
                "messages": under_principle(pair.messages, principle),
                "chosen": chosen,
                "rejected": rejected,
                "p_chosen": 1.0,
                "axis": "principle",
                "source": f"principle:{kind}",
                "meta": {"pole": pole},
            }
