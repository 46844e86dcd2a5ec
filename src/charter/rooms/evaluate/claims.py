"""Checks what report.json says of models, settings, judges, detectors and wins against its sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Manifest
from charter.ground.judge.detect import precision_recall, training_digest
from charter.ground.judge.fitness import HELPFUL_PAIRS, KEPT_PAIRS, Fitness, HelpfulFitness
from charter.ground.judge.rater import RaterVerdict
from charter.ground.measure import position
from charter.ground.measure.essays import ExaminerVerdict
from charter.ground.measure.honesty import Verdict, choose_threshold
from charter.ground.measure.metrics import HELP, TRIPLES, WINS
from charter.ground.measure.reporting import TABLES, read_reported
from charter.ground.model.generation import decoding_of, read_generation
from charter.ground.settings.packages import package_of
from charter.ground.settings.sources import resolve_again
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.corrections import missing_corrections
from charter.rooms.evaluate.gates import shown_as
from charter.rooms.evaluate.honesty import outcomes_before
from charter.rooms.evaluate.settings import Settings
from charter.rooms.evaluate.task import Protocol, Task

Judge = Callable[[list[dict[str, Any]]], Fitness | HelpfulFitness | RaterVerdict | ExaminerVerdict]
# (role, prefix of its keys, file of the verdict's rows, function that judges them, name of the rows)
VERDICTS: tuple[tuple[str, str, str, Judge, str], ...] = (
    ("grader", "", TRIPLES, Fitness, "triples"),
    ("grader", "helpful_", HELPFUL_PAIRS, HelpfulFitness, "helpful pairs"),
    ("reward", "", "fitness_reward.jsonl", Fitness, "triples"),
    ("rater", "", "rater.jsonl", RaterVerdict, "ratings"),
    ("examiner", "", "essay_grader.jsonl", ExaminerVerdict, "scored essays"),
)
MODELS = {"policy": "model"} | {role: role for role in ("grader", "reward", "rater", "judge", "start")}
DECODED = ("temperature", "top_p", "top_k")


def report_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each claim of a report that doesn't follow. Raises CharterError if the report is damaged."""
    report = read_object(folder / "report.json")
    settings = Settings.model_validate(manifest.resolved)
    yield from _verdict_problems(folder, report)
    yield from _absence_problems(folder, report)
    yield from _model_problems(manifest, report)
    if (report.get("model") or {}).get("show", "") != shown_as(settings):
        yield "report.json shows its model in another way than the settings in its manifest"
    yield from _identity_problems(manifest, settings, report)
    yield from _decoding_problems(folder, manifest, settings, report)
    yield from _win_problems(folder, manifest)
    yield from _honesty_problems(folder, manifest, settings, report)
    yield from _pair_problems(folder, manifest)
    yield from _detector_problems(folder, manifest, report)


def _verdict_problems(folder: Path, report: Mapping[str, Any]) -> Iterator[str]:
    """A report's verdicts on its grader, reward model and rater, and their words, must follow from the kept rows."""
    for role, begin, file, judge, rows in VERDICTS:
        model, path = report.get(role) or {}, folder / "samples" / file
        if not path.exists():
            continue
        verdict = judge(read_objects(path))
        if (fit := model.get(f"{begin}fit")) is not verdict.fit:
            word = "fit" if fit is True else "unfit" if fit is False else f"{fit!r}"
            yield f"report.json calls its {role} {word}; the kept {rows} say otherwise"
        if (why := model.get(f"{begin}why")) != verdict.why:
            yield f"report.json says of its {role}: {why}; the kept {rows} give: {verdict.why}"


def _absence_problems(folder: Path, report: Mapping[str, Any]) -> Iterator[str]:
    """A metric that a report calls absent must be absent, and one that is must be so for the reason given."""
    reported = read_reported(folder)
    for name, task in TASKS.items():
        absent = (report.get(name) or {}).get("absent") or {}
        for metric in sorted(absent.keys() & reported.metrics.keys()):
            yield f"report.json says that there is no {metric}; {TABLES} has it"
        for lacking, why in missing_corrections(reported, task.numbers):
            if (stated := absent.get(lacking.name, "nothing")) != why:
                yield f"report.json says of {lacking.name}: {stated}; its tables say: {why}"
    path = folder / "samples" / "position.jsonl"
    if path.exists():
        sums = position.bucket_table(read_objects(path), position.fit).sums.sum(axis=0)
        stated = (report.get("position") or {}).get("absent") or {}
        if stated.get("position_exponent", "") != (why := position.why_no_law(sums)):
            reason = why or "a law"
            yield f"report.json says of the fit of position: {stated or 'nothing'}; the kept rows give: {reason}"


def _model_problems(manifest: Manifest, report: Mapping[str, Any]) -> Iterator[str]:
    """A report must name the models of its manifest."""
    for role, name in MODELS.items():
        ids = [str(report[name]["id"])] if report.get(name) else []
        if ids != manifest.inputs.get(role, []):
            yield f"report.json names another {role} than its manifest"
    helper = manifest.inputs.get("helper") or manifest.inputs.get("policy")
    if report.get("helper") and [str(report["helper"]["id"])] != helper:
        yield "report.json names another helper than its manifest"
    examiner = manifest.inputs.get("examiner") or helper
    if report.get("examiner") and [str(report["examiner"]["id"])] != examiner:
        yield "report.json names another examiner than its manifest"


def _identity_problems(manifest: Manifest, settings: Settings, report: Mapping[str, Any]) -> Iterator[str]:
    """What a report says of its tasks must agree with the settings and inputs of its manifest."""
    identity = report.get("identity") or {}
    filled = manifest.inputs
    expected = {t.name for t in settings.evaluations if t.role.required or filled.get(t.data_role)}
    if expected != identity.keys() - {"fitness"}:
        yield f"report.json has the tasks {', '.join(sorted(identity))}; its settings ask {', '.join(sorted(expected))}"
    for name, facts in identity.items():
        role = TASKS[name].data_role if name in TASKS else name
        data = facts.get("data") or []
        ids = [str(entry["id"]) for entry in (data if isinstance(data, list) else [data])]
        if sorted(ids) != sorted(manifest.inputs.get(role, [])):
            yield f"report.json names another {role} than its manifest"
        if name in expected:
            yield from _protocol_problems(TASKS[name], facts, settings)


def _protocol_problems(task: Task, facts: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """A task's protocol must follow from the settings; `_decoding_problems` checks the decoding."""
    change = settings.change_of(task.name)
    protocol = task.protocol.apply_change(settings.limit, change)
    expected: dict[str, Any] = {key: getattr(protocol, key) for key in ("limit", "form", "samples", "max_tokens")}
    # quality takes as many examples as fit
    if "shots" in task.takes and task.name != "quality":
        expected["shots"] = protocol.shots
    if settings.decoding == "protocol" or change.temperature is not None or not protocol.temperature:
        expected["temperature"] = protocol.temperature
    for key, value in (expected | {"draw_seed": settings.draw_seed}).items():
        if key in facts and facts[key] != value:
            yield f"report.json: {key} of {task.name} is {facts[key]}; the settings in its manifest say {value}"


def _decoding_problems(
    folder: Path, manifest: Manifest, settings: Settings, report: Mapping[str, Any]
) -> Iterator[str]:
    """A report's decoding must be that of its settings or of its checkpoint, and its tasks must have it. Nothing is
    kept to check the decoding of a model from elsewhere."""
    decoding = report.get("decoding") or {}
    if decoding and decoding.get("kind", "") != settings.decoding:
        yield "report.json names another decoding than the settings in its manifest"
    if decoding.get("kind") != "own":
        return
    facts = {key: decoding[key] for key in DECODED if key in decoding}
    for name, task_facts in (report.get("identity") or {}).items():
        task = TASKS.get(name)
        protocol = task.protocol if task else Protocol()
        free = protocol.temperature and protocol.max_tokens and settings.change_of(name).temperature is None
        if free and {key: task_facts[key] for key in DECODED if key in task_facts} != facts:
            yield f"report.json: {name} has another temperature, top_p or top_k than its decoding"
    fields = [read_generation(find_parent(run_of(folder), p)[1]) for p in manifest.parents if p.role == "policy"]
    packages = [package_of(e.ref) for e in manifest.external if e.role == "policy"]
    fields += [dict(package.generation) for package in packages if package is not None]
    if fields and (model_facts := decoding_of(fields[0]).facts) != facts:
        yield f"report.json says that its model was sampled at {_words(facts)}; the model says {_words(model_facts)}"


def _words(facts: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in facts.items())


def _win_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Rows of wins must hold the scores of the kept replies and of the baseline's."""
    path = folder / "samples" / WINS
    baseline = next((p for p in manifest.parents if p.role == "baseline"), None)
    if baseline is None or not path.exists():
        return
    places = {"score": folder, "baseline": find_parent(run_of(folder), baseline)[1]}
    scores = {
        name: {(r["id"], r["sample"]): r["grader"] for r in read_objects(place / "samples" / HELP)}
        for name, place in places.items()
    }
    for row in read_objects(path):
        for name, scores_of in scores.items():
            if (score := scores_of.get((row["id"], row["sample"]))) != row[name]:
                yield (
                    f"samples/{WINS}: {name} of {row['id']} sample {row['sample']} is {row[name]}; the report that "
                    f"it comes from says {score}"
                )
                return


def _honesty_problems(folder: Path, manifest: Manifest, settings: Settings, report: Mapping[str, Any]) -> Iterator[str]:
    """Verdicts on honesty, thresholds and the outcomes in the baseline must follow from the kept rows."""
    parent = next((p for p in manifest.parents if p.role == "baseline"), None)
    base = find_parent(run_of(folder), parent)[1] if parent else None
    for name in sorted(report.keys() & TASKS.keys()):
        facts, path = report[name], folder / "samples" / f"{name}.jsonl"
        if "verdict" in facts:
            rows = read_objects(path)
            if any(facts.get(key) != value for key, value in Verdict(rows).facts.items()):
                yield f"report.json: the verdict on {name} doesn't follow from the kept rows"
            before = outcomes_before(read_objects(base / "samples" / path.name)) if base else {}
            if any(row.get("before") != before.get((row["item"], row["question"])) for row in rows):
                yield f"samples/{path.name}: an outcome in the baseline is not the one of its report"
        if "threshold" in facts:
            pilot, target = read_objects(folder / "pilot" / path.name), settings.honesty.abstain
            threshold = None if target is None else choose_threshold(pilot, target)
            if facts["threshold"] != threshold or any(r["threshold"] != threshold for r in read_objects(path)):
                yield f"report.json: the threshold of {name} is not the one that its pilot gives"


def _pair_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """The helpful pairs behind a verdict on the grader must be those that the grader's step held out."""
    path = folder / "samples" / HELPFUL_PAIRS
    grader = next((p for p in manifest.parents if p.role == "grader"), None)
    if grader is None or not path.exists():
        return
    pairs_file = find_parent(run_of(folder), grader)[1] / KEPT_PAIRS
    pairs = read_objects(pairs_file) if pairs_file.exists() else []
    if read_objects(path) != list(HelpfulFitness.of(pairs).rows):
        yield f"samples/{HELPFUL_PAIRS} does not hold the helpful pairs that the grader {grader.step} held out"


def _detector_problems(folder: Path, manifest: Manifest, report: Mapping[str, Any]) -> Iterator[str]:
    """A report's precision and recall of the detectors must follow from the labelled replies that it names."""
    source = next((e for e in manifest.external if e.role == "detectors"), None)
    versions = [facts["detectors"] for facts in (report.get("identity") or {}).values() if "detectors" in facts]
    if source is None or any(version != training_digest() for version in versions) or "detectors" not in report:
        return
    now = resolve_again(source, run_of(folder))
    if now.digest != source.digest or now.path is None:
        yield f"{source.ref} (detectors) has changed since the report was made"
    elif json.loads(json.dumps(precision_recall(read_jsonl(now.path)))) != report["detectors"]:
        yield f"report.json: precision and recall of the detectors are not what {source.ref} gives"
