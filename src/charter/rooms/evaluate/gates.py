"""The preference models of a report and their verdicts, each with the rows that it follows from.

A grader passes both gates of `judge/fitness.py`, or fails them: harm on the triples given to this step, help on the
pairs that the step which made it held out.
"""

from __future__ import annotations

from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.fitness import (
    HELPFUL_PAIRS,
    KEPT_PAIRS,
    Fitness,
    HelpfulFitness,
    fitness,
    in_chunks,
)
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.text.examples import read_triples
from charter.rooms.evaluate.context import Context


def named(inputs: Inputs, role: str) -> dict[str, Any]:
    """What a report calls the model of a role."""
    source = inputs.one(role)
    return {"name": source.name, "id": source.id}


def judged(context: Context, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """What report.json says of grader and reward; their rows are kept under samples/."""
    harm = _gate(context.grader, inputs.one("grader"), inputs.one("fitness"), out)
    out.write_jsonl("samples/fitness.jsonl", harm.rows)
    path = inputs.one("grader").folder / KEPT_PAIRS
    helps = HelpfulFitness.of(read_objects(path) if path.is_file() else [])
    out.write_jsonl(f"samples/{HELPFUL_PAIRS}", helps.rows)
    verdicts = {"fit": harm.fit, "why": harm.why, "helpful_fit": helps.fit, "helpful_why": helps.why}
    reward = None
    if context.reward is not None:
        second = _gate(context.reward, inputs.one("reward"), inputs.one("fitness"), out)
        out.write_jsonl("samples/fitness_reward.jsonl", second.rows)
        reward = named(inputs, "reward") | {"fit": second.fit, "why": second.why}
    return {"grader": named(inputs, "grader") | verdicts, "reward": reward}


def _gate(model: PreferenceModel, source: Input, triples: Input, out: Workspace) -> Fitness:
    """The verdict on these triples: the one kept by the step that made the model if it had the same, else judged."""
    if (source.folder / MANIFEST).is_file():
        used = {e.digest for e in read_manifest(source.folder).external if e.role == "fitness"}
        if triples.id in used:
            return Fitness(read_objects(source.folder / "samples/fitness.jsonl"))
    score = in_chunks(model.score, out, f"fitness-{source.role}", f"fitness of {source.name}")
    return fitness(score, read_triples(triples.folder))
