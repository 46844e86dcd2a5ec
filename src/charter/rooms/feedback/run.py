"""AI feedback: soft labels on pairs of the policy's replies, under drawn principles (Bai 2022b, section 4.1).

The labeller is first tested on known pairs in both orders. If it is no better than chance, its labels weigh less or
nothing in a loss, or the step fails; the manifest records this.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.constitution.constitution import ComparisonPrinciple, draw, load
from charter.ground.generate.assistant import Assistant, check_prompts, open_assistant
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.choice import How, Labeller, Question, choose, clamp, open_labeller
from charter.ground.measure.metrics import OF_LABELLERS
from charter.ground.measure.reporting import record
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.examples import read_shots
from charter.ground.text.records import read_comparisons, read_prompts
from charter.rooms.feedback.labels import axis_of, comparisons, draw_known, known_rows, label_weight
from charter.rooms.feedback.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: comparisons.jsonl with soft labels; samples/known_pairs.jsonl, which give the labeller's accuracy."""
    principles = load(inputs.one("constitution").folder).comparisons_of(settings.principle_set)
    how = _how(settings, read_shots(inputs.one("shots").folder)[: settings.shots], out.seed)
    prompts = read_prompts([s.folder for s in inputs.many("prompts")], settings.limit, out.seed)

    pairs = _all_pairs(settings, prompts, inputs, out)
    labeller = open_labeller(inputs.one("labeller"), out.device, out.precision)
    sets = {source.name: read_comparisons(source.folder) for source in inputs.many("known")}
    known_pairs = draw_known(sets, settings.known_limit, out.seed)
    known_results = out.chunks(
        "known", known_pairs, settings.chunk, lambda part, _: known_rows(labeller, part, principles, how), "known pairs"
    )
    weight = label_weight(settings, known_results)
    labelled = out.chunks(
        "labels", pairs, settings.chunk, lambda part, _: _labels(labeller, settings, part, principles, how), "labels"
    )
    rows, counts = comparisons(labelled, weight)
    # prompts may be harmful, and of two replies one is the worse
    out.write_jsonl("comparisons.jsonl", rows, restricted=True)
    out.write_jsonl("samples/known_pairs.jsonl", known_results)
    counts["label_weight"] = weight
    out.counts(counts)
    record(out, OF_LABELLERS)


def _how(settings: Settings, shots: Sequence[dict[str, Any]], seed: int) -> How:
    thought = settings.thought
    return How(
        shots=shots,
        thought_tokens=thought.tokens if thought else 0,
        thought_samples=thought.samples if thought else 1,
        votes=settings.votes,
        seed=derive_seed(seed, "choice"),
    )


def _all_pairs(settings: Settings, prompts: Sequence[Dialogue], inputs: Inputs, out: Workspace) -> list[dict[str, Any]]:
    """Two replies to every prompt. The policy leaves memory before the labeller is loaded."""
    policy = open_assistant(inputs.one("policy"), out.device, precision=out.precision)
    check_prompts(policy, prompts)
    return out.chunks(
        "pairs", prompts, settings.chunk, lambda part, _: _pairs(policy, settings, part, out.seed), "reply pairs"
    )


def _pairs(policy: Assistant, settings: Settings, prompts: Sequence[Dialogue], seed: int) -> list[dict[str, Any]]:
    with naming_prompts(d.id for d in prompts):
        replies = policy.reply(
            [list(d.messages) for d in prompts],
            Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens),
            n=2,
            seeds=[derive_seed(seed, "pair", d.id) for d in prompts],
        )
    return [
        {"id": d.id, "topic": d.topic, "messages": list(d.messages), "first": a.text.strip(), "second": b.text.strip()}
        for d, (a, b) in zip(prompts, replies, strict=True)
    ]


def _labels(
    labeller: Labeller,
    settings: Settings,
    pairs: Sequence[dict[str, Any]],
    principles: Sequence[ComparisonPrinciple],
    how: How,
) -> list[dict[str, Any]]:
    """Each pair with the mean label of its drawn principles."""
    principle_sets = [
        draw(principles, random.Random(derive_seed(how.seed, "principle", p["id"])), settings.principles) for p in pairs
    ]
    questions = [
        Question(f"{p['id']}-{principle.key}", p["messages"], p["first"], p["second"], principle.principle)
        for p, pair_principles in zip(pairs, principle_sets, strict=True)
        for principle in pair_principles
    ]
    choices = iter(choose(labeller, questions, how))
    low = settings.thought.low if settings.thought else 0.0
    rows = []
    for p, pair_principles in zip(pairs, principle_sets, strict=True):
        answers = [next(choices) for _ in pair_principles]
        mean = sum(c.p_first for c in answers) / len(answers)
        keys = "+".join(principle.key for principle in pair_principles)
        label = {"p_first": clamp(mean, low), "principle": keys, "voted": answers[0].voted}
        rows.append({**p, **label, "axis": axis_of(pair_principles)})
    return rows
