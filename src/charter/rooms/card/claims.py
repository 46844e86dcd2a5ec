"""What a report says of itself: its models, settings, graders, detectors and wins, held against what they are of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Manifest
from charter.ground.judge.detect import learnt_from, precision_recall
from charter.ground.judge.fitness import HELPFUL_PAIRS, KEPT_PAIRS, Fitness, HelpfulFitness
from charter.ground.judge.rater import RaterVerdict
from charter.ground.measure.metrics import HELP, WINS
from charter.ground.model.generation import decoding_of, read_generation
from charter.ground.settings.packages import package_of
from charter.ground.settings.sources import resolve_again
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.card.artifact import read_report
from charter.rooms.card.decodings import OWN, SHORT, words
from charter.rooms.card.gather import BENCHMARK

Judge = Callable[[list[dict[str, Any]]], Fitness | HelpfulFitness | RaterVerdict]
# (role, beginning of its keys, the rows of its verdict, what follows from them, and what they are)
VERDICTS: tuple[tuple[str, str, str, Judge, str], ...] = (
    ("grader", "", "fitness.jsonl", Fitness, "triples"),
    ("grader", "helpful_", HELPFUL_PAIRS, HelpfulFitness, "helpful pairs"),
    ("reward", "", "fitness_reward.jsonl", Fitness, "triples"),
    ("rater", "", "rater.jsonl", RaterVerdict, "ratings"),
)
MODELS = {"policy": "model", "grader": "grader", "reward": "reward", "rater": "rater", "start": "start"}


def report_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each thing that a report says and that doesn't follow; none for artifacts of other kinds."""
    report = read_report(folder)
    if report:
        yield from _verdict_problems(folder, report)
        yield from _identity_problems(manifest, report)
        yield from _decoding_problems(folder, manifest, report)
        yield from _win_problems(folder, manifest)
        yield from _pair_problems(folder, manifest)
        yield from _detector_problems(folder, manifest, report)


def _verdict_problems(folder: Path, report: Mapping[str, Any]) -> Iterator[str]:
    """A report's verdicts on its grader, reward model and rater, and their words, must follow from the kept rows."""
    for role, begin, file, judge, rows in VERDICTS:
        model, path = report.get(role) or {}, folder / "samples" / file
        if not path.exists():
            continue
        kept = judge(read_objects(path))
        if (told := model.get(f"{begin}fit")) is not kept.fit:
            word = "fit" if told is True else "unfit" if told is False else f"{told!r}"
            yield f"report.json calls its {role} {word}; the kept {rows} say otherwise"
        if (why := model.get(f"{begin}why")) != kept.why:
            yield f"report.json says of its {role}: {why}; the kept {rows} give: {kept.why}"


def _identity_problems(manifest: Manifest, report: Mapping[str, Any]) -> Iterator[str]:
    """What a report says of its models, sets and settings must be what its manifest says."""
    by_task = manifest.room == BENCHMARK
    identity = {} if by_task else report.get("identity") or {}
    said = {role: [str(entry["id"]) for entry in sets] for role, sets in identity.get("sets", {}).items()}
    for role, name in MODELS.items():
        said[role] = [str(report[name]["id"])] if report.get(name) else []
    for role, names in said.items():
        if sorted(names) != sorted(manifest.inputs.get(role, [])):
            yield f"report.json names another {role} than its manifest"
    own = manifest.resolved.get("decoding") == OWN  # its temperature is the model's, see `_decoding_problems`
    for key, value in identity.items():
        if (
            key in manifest.resolved
            and not (own and key == "temperature")
            and manifest.resolved[key] != value
        ):
            yield f"report.json: {key} is {value}; the settings in its manifest say {manifest.resolved[key]}"


def _decoding_problems(folder: Path, manifest: Manifest, report: Mapping[str, Any]) -> Iterator[str]:
    """A report's decoding must be that of its settings, or what the checkpoint says that it was made on, and its
    identity must have it. Of a model from elsewhere nothing is kept to hold it against."""
    said = report.get("decoding") or {}
    facts = {key: said[key] for key in SHORT if key in said}
    identity = report.get("identity") or {}
    if (said or identity) and said.get("kind", "") != manifest.resolved.get("decoding", ""):
        yield "report.json names another decoding than the settings in its manifest"
    if manifest.room != BENCHMARK and said and {k: identity[k] for k in SHORT if k in identity} != facts:
        yield "report.json: its identity has another temperature, top_p or top_k than its decoding"
    fields = [
        read_generation(find_parent(run_of(folder), p)[1]) for p in manifest.parents if p.role == "policy"
    ]
    packages = [package_of(e.ref) for e in manifest.external if e.role == "policy"]
    fields += [dict(package.generation) for package in packages if package is not None]
    if said.get("kind") == OWN and fields:
        own = decoding_of(fields[0]).facts
        if own != facts:
            yield f"report.json says that its model was sampled at {words(facts)}; the model says {words(own)}"


def _win_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Rows of wins must hold the scores of the kept replies, and of the baseline's."""
    path = folder / "samples" / WINS
    baseline = next((p for p in manifest.parents if p.role == "baseline"), None)
    if baseline is None or not path.exists():
        return
    places = {"score": folder, "baseline": find_parent(run_of(folder), baseline)[1]}
    kept = {
        name: {(r["id"], r["sample"]): r["grader"] for r in read_objects(place / "samples" / HELP)}
        for name, place in places.items()
    }
    for row in read_objects(path):
        for name, scores_of in kept.items():
            if (made := scores_of.get((row["id"], row["sample"]))) != row[name]:
                yield (
                    f"samples/{WINS}: {name} of {row['id']} sample {row['sample']} is {row[name]}; the report that "
                    f"it comes from says {made}"
                )
                return


def _pair_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """The helpful pairs behind a verdict on the grader must be those that the step which made it held out."""
    path = folder / "samples" / HELPFUL_PAIRS
    grader = next((p for p in manifest.parents if p.role == "grader"), None)
    if grader is None or not path.exists():
        return
    kept = find_parent(run_of(folder), grader)[1] / KEPT_PAIRS
    pairs = read_objects(kept) if kept.exists() else []
    if read_objects(path) != list(HelpfulFitness.of(pairs).rows):
        yield f"samples/{HELPFUL_PAIRS} does not hold the helpful pairs that the grader {grader.step} held out"


def _detector_problems(folder: Path, manifest: Manifest, report: Mapping[str, Any]) -> Iterator[str]:
    """What a report says of its detectors must be what they do on the labelled replies that it names."""
    source = next((e for e in manifest.external if e.role == "detectors"), None)
    others = (report.get("identity") or {}).get("detectors") != learnt_from()
    if source is None or others or "detectors" not in report:
        return
    found = resolve_again(source, run_of(folder))
    if found.digest != source.digest or found.path is None:
        yield f"{source.ref} (detectors) has changed since the report was made"
    elif json.loads(json.dumps(precision_recall(read_jsonl(found.path)))) != report["detectors"]:
        yield f"report.json: precision and recall of the detectors are not what {source.ref} gives"
