"""The preference models of a report and their verdicts, each with the rows that it follows from.

A grader has two gates (`judge/fitness.py`): harm on this step's triples, and help on the pairs that the grader's step
held out. A rater has one, on the conversations that its own step held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.fitness import HELPFUL_PAIRS, KEPT_PAIRS, Fitness, HelpfulFitness, fitness, in_chunks
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.rater import KEPT, RaterVerdict
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.measure.essays import ExaminerVerdict
from charter.ground.measure.metrics import TRIPLES
from charter.ground.text.examples import read_triples
from charter.rooms.evaluate.models import Models, examiner_role
from charter.rooms.evaluate.settings import Settings
from charter.rooms.evaluate.task import Context

EXAMINED = "essay_grader.jsonl"
JUDGES = ("grader", "reward", "rater")


def describe_model(inputs: Inputs, role: str) -> dict[str, Any]:
    """The name and id of a role's model, as a report has them."""
    source = inputs.one(role)
    return {"name": source.name, "id": source.id}


def describe_shown(settings: Settings, inputs: Inputs) -> dict[str, Any]:
    """The model under test, and how it was sampled if not by itself: two ways of one model are two models."""
    decoding = shown_as(settings)
    return describe_model(inputs, "policy") | ({"show": decoding} if decoding else {})


def shown_as(settings: Settings) -> str:
    """How the model under test was sampled; "" if by itself."""
    return "" if settings.show == SamplingStrategy() else settings.show.words


def judges(contexts: Sequence[Context], inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """What report.json says of grader, reward model and rater. If a task needs them, this judges them and keeps the
    rows behind the verdicts under samples/."""
    needed = {role for context in contexts for role in context.task.needs}
    if "grader" not in needed:
        descriptions: dict[str, Any] = {role: describe_model(inputs, role) for role in JUDGES if inputs.many(role)}
        return descriptions | ({"rater": _rater(inputs, out)} if "rater" in needed else {})
    models = contexts[0].models
    rater = _rater(inputs, out)
    triples = inputs.one("fitness")
    identity = {"fitness": {"data": {"ref": triples.name, "id": triples.id}}}
    return {**_graders(models, inputs, out), "rater": rater, "identity": identity}


def examiner(contexts: Sequence[Context], inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """What report.json says of the model that reads essays first, if some were read; `fit` is None if this report
    didn't hold it against people's scores."""
    if not any("examiners" in context.facts for context in contexts):
        return {}
    path = out.path / "samples" / EXAMINED
    verdict = ExaminerVerdict(read_objects(path)) if path.is_file() else None
    fit_fields = (
        {"fit": verdict.fit, "why": verdict.why} if verdict else {"fit": None, "why": "not held against people"}
    )
    return {"examiner": describe_model(inputs, examiner_role(inputs)) | fit_fields}


def _graders(models: Models, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    triples = inputs.one("fitness")
    # refuses one model in both roles before it scores anything
    second = models.reward
    harm = _gate(models.grader, inputs.one("grader"), triples, out)
    out.write_jsonl(f"samples/{TRIPLES}", harm.rows)
    path = inputs.one("grader").folder / KEPT_PAIRS
    helps = HelpfulFitness.of(read_objects(path) if path.is_file() else [])
    out.write_jsonl(f"samples/{HELPFUL_PAIRS}", helps.rows)
    verdicts = {"fit": harm.fit, "why": harm.why, "helpful_fit": helps.fit, "helpful_why": helps.why}
    reward = None
    if second is not None:
        gate = _gate(second, inputs.one("reward"), triples, out)
        out.write_jsonl("samples/fitness_reward.jsonl", gate.rows)
        reward = describe_model(inputs, "reward") | {"fit": gate.fit, "why": gate.why}
    return {"grader": describe_model(inputs, "grader") | verdicts, "reward": reward}


def _gate(model: PreferenceModel, source: Input, triples: Input, out: Workspace) -> Fitness:
    """The verdict on these triples: that of the step that made the model if it had the same ones, else a new one."""
    if (source.folder / MANIFEST).is_file():
        used = {e.digest for e in read_manifest(source.folder).external if e.role == "fitness"}
        if triples.id in used:
            return Fitness(read_objects(source.folder / "samples" / TRIPLES))
    score = in_chunks(model.score, out, f"fitness-{source.role}", f"fitness of {source.name}")
    return fitness(score, read_triples(triples.folder))


def _rater(inputs: Inputs, out: Workspace) -> dict[str, Any] | None:
    """Name, id and verdict of the rater; None without one. Keeps its held-out rows as samples/rater.jsonl.

    Raises CharterError for a rater without these rows.
    """
    source = inputs.optional("rater")
    if source is None:
        return None
    path = source.folder / KEPT
    if not path.is_file():
        raise CharterError(
            f"the rater {source.name} comes without {KEPT}, which judges it; give the product of a rating step"
        )
    verdict = RaterVerdict(read_objects(path))
    out.write_jsonl("samples/rater.jsonl", verdict.rows)
    return {"name": source.name, "id": source.id, "fit": verdict.fit, "why": verdict.why}
