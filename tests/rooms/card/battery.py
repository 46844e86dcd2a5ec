"""Rows of all tasks that have figures, as the benchmark room leaves them, made from a seed for a stage of the card's
synthetic run: scores rise, bias first grows and then falls, the far end of documents is used more and more."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from charter.ground.measure.bias import DIMENSIONS
from charter.ground.measure.position import BUCKETS, MIDDLES

Rows = list[dict[str, Any]]
SHARES = {"mmlu": (0.3, 0.5), "race": (0.4, 0.66), "quality": (0.26, 0.42), "triviaqa": (0.2, 0.3)}
LANGUAGES = ("fra", "deu", "spa_Latn", "zho_Hans", "hin", "swh", "zul", "shn", "xx")
LENGTHS, DEPTHS = (512, 1024, 2048, 4096), (0, 25, 50, 75, 100)


def graded(name: str, right: bool, group: str = "all", **more: Any) -> dict[str, Any]:
    outcome = "right" if right else "wrong"
    return {"id": name, "item": name, "group": group, "correct": float(right), "outcome": outcome, **more}


def accuracy(task: str, place: int, count: int = 80) -> Rows:
    first, last = SHARES[task]
    share, rng = first + (last - first) * place / 3, random.Random(task)
    return [graded(f"{task}-{i}", rng.random() < share) for i in range(count)]


def humaneval(place: int) -> Rows:
    rng = random.Random(f"code{place}")
    return [graded(f"he-{i}", rng.random() < 0.05 + 0.1 * place) for i in range(40) for _ in range(3)]


def bbq(place: int, templates: int = 12) -> Rows:
    """Option 0 is the biased one, 1 the other person, 2 unknown; where the context tells, 0 is right."""
    rows = []
    for number, dimension in enumerate(DIMENSIONS):
        rng = random.Random(f"{dimension}{place}")
        lean = (0.5, 0.62, 0.6, 0.52)[place] + 0.02 * number - 0.06
        for i in range(4 * templates):
            for condition in ("ambig", "disambig"):
                unknown = rng.random() < (0.3 + 0.18 * place if condition == "ambig" else 0.1)
                by_context = condition == "disambig" and rng.random() < 0.3 + 0.15 * place
                choice = 2 if unknown else 0 if by_context or rng.random() < lean else 1
                right = choice == (2 if condition == "ambig" else 0)
                row = graded(f"{dimension}-{i % templates}", right, dimension, condition=condition)
                rows.append(row | {"choice": choice, "names": False, "biased": 0, "unknown": 2})
    return rows


TOPICS = ("Law", "Myths", "Health")


def truthfulqa(place: int, count: int = 60, helped: int = 10) -> Rows:
    """Ten known mappings, of which the helper has `helped` right; questions of three categories."""
    rng = random.Random(f"truth{place}")
    free = {"mode": "free", "mc2_correct": 1.0, "declined": False, "type": ""}
    rows = [graded(f"q{i}", rng.random() < 0.3 + 0.09 * place, TOPICS[i % 3], **free) for i in range(count)]
    for i in range(count):
        best = rng.random() < 0.22 + 0.04 * place
        mark = {"mc1": float(best), "mc2": rng.betavariate(2 + place, 4), "mc3": float(best), "type": ""}
        rows.append(graded(f"q{i}", best, TOPICS[i % 3], mode="choice", **mark))
    return rows + [graded(f"m{i}", i < helped, mode="helper") for i in range(10)]


def translation(place: int, languages: tuple[str, ...] = LANGUAGES, count: int = 30) -> Rows:
    """Sentences of 20 words, n-grams of which are matched with a share that falls from language to language."""
    rows = []
    for number, code in enumerate(languages):
        rng = random.Random(f"{code}{place}")
        for i in range(count):
            share = min(0.97, max(0.02, 0.86 - 0.8 * number / len(languages) - 0.05 * (3 - place)))
            share = min(0.99, max(0.01, rng.gauss(share, 0.08)))
            matches = [20 - n for n in range(4)]
            words = [20, 20, *(round(m * share ** (n + 1)) for n, m in enumerate(matches)), *matches]
            letters: list[int] = []
            for n in range(6):
                letters += [100 - n, 100 - n, round((100 - n) * share ** (0.4 * n + 0.6))]
            row = {"id": f"s{i}", "item": f"s{i}/{code}", "group": code, "outcome": "answered"}
            rows.append(row | {"bleu": words, "chrf": letters})
    return rows


def position(place: int, documents: int = 20, longest: int = 4096) -> Rows:
    """Losses near 2.3 + 4.5 t^-0.4 less a tenth a stage."""
    rows = []
    for i in range(documents):
        rng = random.Random(f"{i}{place}")
        shift = random.Random(i).gauss(0, 0.1)
        nats, counts = {}, {}
        for start, middle in zip(BUCKETS, MIDDLES, strict=True):
            if start < longest:
                loss = 2.3 - 0.1 * place + shift + 4.5 * float(middle) ** -0.4 + rng.gauss(0, 0.5 / start**0.5)
                nats[str(start)], counts[str(start)] = max(0.05, loss) * start, start
        rows.append({"id": f"d{i}", "item": f"d{i}", "group": "", "nats": nats, "tokens": counts})
    return rows


def recall(place: int, facts: int = 20) -> Rows:
    rows = []
    for column, length in enumerate(LENGTHS):
        for depth in DEPTHS:
            share = np.clip(1.1 - 0.14 * column * (1.3 if 0 < depth < 100 else 0.6) - 0.08 * (3 - place), 0, 1)
            for n in range(facts):
                name = f"{length}/{depth}/{n}"
                rows.append(graded(name, random.Random(name).random() < share, f"{length}/{depth}"))
    return rows


def battery(place: int) -> dict[str, Rows]:
    """Task -> rows of one stage."""
    tables = {task: accuracy(task, place) for task in SHARES}
    return tables | {
        "humaneval": humaneval(place),
        "bbq": bbq(place),
        "truthfulqa": truthfulqa(place),
        "translation": translation(place),
        "position": position(place),
        "recall": recall(place),
    }
