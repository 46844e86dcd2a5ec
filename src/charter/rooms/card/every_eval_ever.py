"""A report in the format of Every Eval Ever: one JSON file of scores, and one JSONL file of the samples behind them.

The format is version 0.3.0 of EvalEval's `eval.schema.json` and `instance_level_eval.schema.json` (PyPI package
every-eval-ever). Scores are the manifest's, after the kept rows gave the same. What a report doesn't know is left out,
or called unknown if the format requires it. Numbers that measure a grader are not scores of the model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.eee import COLLECTION, HUB_NAME, SCHEMA, place_of, uncertainty
from charter.ground.measure.metric import Measure, Metric
from charter.ground.settings.packages import package_of
from charter.rooms.card.artifact import Artifact
from charter.rooms.card.hub import data_of, of_model
from charter.rooms.card.instances import instances
from charter.rooms.card.number import OF_A_HUNDRED, PLAIN, SHARE, Number

BOUNDS: dict[str, tuple[float | str, float | str]] = {
    SHARE: (0, 1),
    "score": (-1, 1),
    **dict.fromkeys(OF_A_HUNDRED, (0, 100)),
    PLAIN: ("-Infinity", "Infinity"),
}
# Differences of two shares.
GAPS = (
    *("refusal_gap", "decisions_gap_race", "decisions_gap_gender", "sycophancy_shift"),
    *("sycophancy", "sycophancy_politics", "sycophancy_philosophy", "sycophancy_research"),
)
DIFFERENCES = ("_less_negated", "_less_control", "_less_stated")
METHOD = "Wilson, or a bootstrap over prompts, as charter's measure/intervals.py of this version chooses"


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes and when: an organisation, the model's hub name (made up if it is empty), Unix time."""

    organization: str = "unknown"
    model: str = ""
    now: int = 0


def files(report: Artifact, publisher: Publisher, measures: Mapping[str, Measure]) -> dict[str, str]:
    """Path below the data store -> content: the scores, and the samples of the metrics in `measures`, which says how
    rows become a table.

    Raises CharterError if the rows don't give the manifest's numbers, or if there is no score.
    """
    model = _model_info(report, publisher)
    key = f"{COLLECTION}/{model['id']}/{report.manifest.id[:16]}"
    place = place_of(key, model["id"])
    scores = [(number, metric) for number, metric in of_model(report) if number.value is not None]
    if not scores:
        raise CharterError(
            f"{report.path} has no score of a model; name a report, such as runs/demo/eval_threshold"
        )
    record: dict[str, Any] = {
        "schema_version": SCHEMA,
        "evaluation_id": key,
        "evaluation_timestamp": report.manifest.timing.started,
        "retrieved_timestamp": str(publisher.now),
        "source_metadata": _source(report, publisher),
        "eval_library": _library(report),
        "model_info": model,
        "evaluation_results": [_result(report, key, number, metric) for number, metric in scores],
    }
    contents: dict[str, str] = {}
    rows = [
        {"schema_version": SCHEMA, "evaluation_id": key, "model_id": model["id"]} | row
        for number, metric in scores
        if metric.name in measures
        for row in instances(report, replace(metric, table=measures[metric.name]), number, _name(metric), key)
    ]
    if rows:
        path = f"{place}_samples.jsonl"
        contents[path] = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": path,
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(contents[path].encode()).hexdigest(),
            "total_rows": len(rows),
        }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    return {f"{place}.json": text + "\n", **contents}


def _source(report: Artifact, publisher: Publisher) -> dict[str, Any]:
    """Who ran it: the model's maker if the model is an artifact, a third party if it came from outside."""
    own = any(parent.role == "policy" for parent in report.manifest.parents)
    return {
        "source_name": "charter",
        "source_type": "evaluation_run",
        "source_organization_name": publisher.organization,
        "evaluator_relationship": "first_party" if own else "third_party",
        "additional_details": {
            "recipe": report.manifest.recipe,
            "stage": report.label,
            "report": report.manifest.id,
        },
    }


def _library(report: Artifact) -> dict[str, Any]:
    source = report.manifest.source
    return {
        "name": "charter",
        "version": source.commit or "unknown",
        "additional_details": _strings({"source_digest": source.digest, "dirty": source.dirty}),
    }


def _model_info(report: Artifact, publisher: Publisher) -> dict[str, Any]:
    model = report.report.get("model") or {}
    name = str(model.get("name", report.label))
    hub = name.removeprefix("hf:").partition("@")[0] if name.startswith("hf:") else ""
    if (package := package_of(name)) is not None:
        hub = package.hub
    made_up = "_".join(part for part in (report.manifest.recipe, name) if part).replace("/", "_")
    remote = name.startswith(("openai:", "anthropic:"))
    identity = publisher.model or hub or f"unpublished/{made_up}".replace(":", "_").replace("#", "_")
    if not HUB_NAME.fullmatch(identity):
        raise CharterError(f"{identity!r} is not a model name; give one as OWNER/NAME with --model")
    environment = report.manifest.environment
    return {
        "name": name,
        "id": identity,
        "inference_engine": {"name": "unknown" if remote else "charter", "version": "unknown"},
        "additional_details": _strings(
            {
                "deployment_type": "unknown" if remote else "self_deployed",
                "model_availability": "open_weights" if hub else "unknown",
                "charter_id": model.get("id"),
                "device": environment.device,
                "precision": environment.precision,
                "torch": environment.torch,
            }
        ),
    }


def _name(metric: Metric) -> str:
    """The evaluation that a metric belongs to: the file of its rows, or the metric itself if it has two files."""
    return f"{COLLECTION}.{metric.file.removesuffix('.jsonl') or metric.name}"


def _result(report: Artifact, key: str, number: Number, metric: Metric) -> dict[str, Any]:
    details: dict[str, Any] = {"score": number.value, "details": {"measures_version": str(number.version)}}
    if number.clusters is not None:
        details["details"]["clusters"] = str(number.clusters)
    sure = uncertainty(number.n, number.low, number.high, METHOD)
    return {
        "evaluation_result_id": f"{key}#{metric.name}",
        "evaluation_name": _name(metric),
        "evaluation_timestamp": report.manifest.timing.started,
        "source_data": _data(report, number),
        "metric_config": _metric(report, number, metric),
        "score_details": details | ({"uncertainty": sure} if sure else {}),
        "generation_config": _generation(report, metric),
    }


def _metric(report: Artifact, number: Number, metric: Metric) -> dict[str, Any]:
    low, high = _bounds(number)
    judge = report.report.get(metric.judge) or {} if metric.judge else {}
    return {
        "evaluation_description": metric.meaning,
        "metric_id": f"{COLLECTION}.{metric.name}",
        "metric_name": metric.label,
        "metric_unit": "proportion" if number.unit == SHARE else number.unit or "points",
        # The format has no word for "nearer to 0 is better"; additional_details says it.
        "lower_is_better": metric.better in ("lower", "zero"),
        "score_type": "continuous",
        "min_score": low,
        "max_score": high,
        "additional_details": _strings(
            {
                "better": metric.better,
                "judge": judge.get("name"),
                "judge_id": judge.get("id"),
                "judge_fit": judge.get("fit"),
            }
        ),
    }


def _bounds(number: Number) -> tuple[float | str, float | str]:
    """The range of a score: a share is in 0..1, a difference of two and a bias score in -1..1, BLEU and chrF in
    0..100, a length or loss is at least 0.

    A score beyond its range has no known bound on that side.
    """
    if number.name in GAPS or number.name.endswith(DIFFERENCES):
        return -1, 1
    low, high = BOUNDS.get(number.unit, (0, "Infinity"))
    value = number.value or 0.0
    return (
        low if value >= float(low) else "-Infinity",
        high if value <= float(high) else "Infinity",
    )


def _data(report: Artifact, number: Number) -> dict[str, Any]:
    """Where the prompts come from: a set of the hub by its name there, others by the reference in the recipe."""
    sets = data_of(report, number.name)
    names = {"dataset_name": " + ".join(ref for ref, _ in sets) or number.name}
    details = _strings({f"digest of {ref}": digest for ref, digest in sets})
    if len(sets) == 1 and sets[0][0].startswith("hf:"):
        repository, _, rest = sets[0][0].removeprefix("hf:").partition("@")
        repository = repository.partition("#")[0]
        names = {"dataset_name": repository.partition("/")[2], "hf_repo": repository}
        details |= {"revision": rest} if rest else {}
        return names | {"source_type": "hf_dataset", "additional_details": details}
    return names | {"source_type": "other", "additional_details": details}


def _generation(report: Artifact, metric: Metric) -> dict[str, Any]:
    """What decided the replies: the part of the report's identity that this metric's rows depend on."""
    identity = dict(report.find_identities(metric.name).get(metric.task) or {})
    args = {
        key: identity[key]
        for key in ("temperature", "top_p", "top_k", "max_tokens")
        if isinstance(identity.get(key), int | float)
    }
    rest = {k: v for k, v in identity.items() if k not in args and k != "data"}
    return {"generation_args": args, "additional_details": _strings(rest)}


def _strings(values: dict[str, Any]) -> dict[str, str]:
    """Details in the form that the format requires: every value is text, and unknown values are left out."""
    return dict(_flat(values))


def _flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            yield from _flat(value, name)
        elif value is not None and not (isinstance(value, float) and not math.isfinite(value)):
            yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
