"""The candidates of a round, and the one that the labeller keeps.

A small critic seldom changes what the principle is about, so a round may make several replies, in three ways: by
critique and revision (Bai 2022b, section 3.1), by revision without a critique (section 3.5), and as an answer with
the instructions of the kept rounds before and of the drawn principle behind the message. The labeller compares each
with the reply before under all comparison principles, so that no round undoes what another gained; the best one is
kept if it beats the reply before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from charter.ground.constitution.constitution import ComparisonPrinciple, CritiquePrinciple
from charter.ground.constitution.wording import (
    critique_messages,
    direct_revision_messages,
    revision_messages,
    with_request,
)
from charter.ground.generate.assistant import Assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.choice import How, Labeller, Question, choose
from charter.ground.settings.seed import derive_seed
from charter.rooms.critique.product import fault
from charter.rooms.critique.settings import Settings

# records, each with the principles of its kept rounds and last the drawn one
Work = Sequence[tuple[dict[str, Any], Sequence[CritiquePrinciple]]]


def make(
    critic: Assistant, settings: Settings, shots: Sequence[Mapping[str, Any]], work: Work, seed: tuple[int, int]
) -> list[list[dict[str, Any]]]:
    """Candidates {way, critique, revision, dropped} of each record; `seed`: of the step, and the round."""

    def say(prompts: list[Any], tokens: int, kind: str, n: int) -> list[list[Any]]:
        seeds = [derive_seed(seed[0], kind, seed[1], record["id"]) for record, _ in work]
        sampling = Sampling(temperature=settings.temperature, max_tokens=tokens)
        with naming_prompts(record["id"] for record, _ in work):
            return critic.reply(prompts, sampling, n, seeds)

    critiques = [""] * len(work)
    if "critique" in settings.ways:
        asked = [critique_messages(r["messages"], r["reply"], drawn[-1], shots) for r, drawn in work]
        critiques = [said[0].text.strip() for said in say(asked, settings.critique_tokens, "critique", 1)]
    requests: dict[str, list[Any]] = {
        "critique": [
            revision_messages(r["messages"], r["reply"], drawn[-1], c, shots)
            for (r, drawn), c in zip(work, critiques, strict=True)
        ],
        "revision": [direct_revision_messages(r["messages"], r["reply"], drawn[-1].revision) for r, drawn in work],
        "answer": [
            with_request(r["messages"], " ".join(p.instruction or p.revision for p in drawn)) for r, drawn in work
        ],
    }
    made: list[list[dict[str, Any]]] = [[] for _ in work]
    for way, count in Counter(settings.ways).items():
        # the name that has seeded revisions since there was one way
        replies = say(requests[way], settings.revision_tokens, "revision" if way == "critique" else way, count)
        for candidates, (record, _), critique, texts in zip(made, work, critiques, replies, strict=True):
            candidates += [
                {
                    "way": way,
                    "critique": critique if way == "critique" else "",
                    "revision": text.text.strip(),
                    "dropped": fault(text.text.strip(), record["reply"], text.stop),
                }
                for text in texts
            ]
    return made


def judge(
    labeller: Labeller, work: Work, made: Sequence[list[dict[str, Any]]], principles: Sequence[ComparisonPrinciple]
) -> None:
    """Adds to each candidate `better`: the probability that it is better than the reply before, the mean over the
    principles; None for one that is dropped already."""
    asked, questions = list[dict[str, Any]](), list[Question]()
    for (record, _), candidates in zip(work, made, strict=True):
        for number, candidate in enumerate(candidates):
            candidate["better"] = None
            if candidate["dropped"] is None:
                asked.append(candidate)
                questions += [
                    Question(
                        f"{record['id']}-{number}-{p.key}",
                        record["messages"],
                        candidate["revision"],
                        record["reply"],
                        p.principle,
                    )
                    for p in principles
                ]
    choices = iter(choose(labeller, questions, How()))
    for candidate in asked:
        candidate["better"] = fmean(next(choices).p_first for _ in principles)


def keep(key: str, candidates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A round's step {key, way, critique, revision, dropped, ...}: the candidate that the labeller puts first; "worse"
    if it prefers the reply before. Without a labeller there is one candidate."""
    judged = [c for c in candidates if c.get("better") is not None]
    best = max(judged, key=lambda c: float(c["better"])) if judged else candidates[0]
    step = {"key": key, **best}
    if step.get("better") is not None and step["better"] <= 0.5:
        step["dropped"] = "worse"
    return step if len(candidates) == 1 else step | {"candidates": list(candidates)}
