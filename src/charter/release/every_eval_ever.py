"""A report in the format of Every Eval Ever: one JSON file of scores, and one JSONL file of the samples behind them.

The format is version 0.3.0 of EvalEval's `eval.schema.json` and `instance_level_eval.schema.json` (PyPI package
every-eval-ever). Scores are the manifest's, after the kept rows gave the same. What a report doesn't know is left out,
or called unknown if the format requires it. Numbers that measure a grader are not scores of the model.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.recount import same
from charter.ground.measure.metric import Measure, Metric
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.hub import HUB_NAME, data_of, of_model
from charter.ground.reports.number import OF_A_HUNDRED, PLAIN, SHARE, Number
from charter.ground.settings.packages import package_of

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
SCHEMA, COLLECTION = "0.3.0", "charter"
SAID_OF_A_ROW = ("sample", "topic", "group", "axis", "mode", "choice", "outcome", "stop")
NOT_ASKED = ("too long", "environment failed")


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
        raise CharterError(f"{report.path} has no score of a model; name a report, such as runs/demo/eval_threshold")
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
    has_policy = any(parent.role == "policy" for parent in report.manifest.parents)
    return {
        "source_name": "charter",
        "source_type": "evaluation_run",
        "source_organization_name": publisher.organization,
        "evaluator_relationship": "first_party" if has_policy else "third_party",
        "additional_details": {"recipe": report.manifest.recipe, "stage": report.label, "report": report.manifest.id},
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
    return (low if value >= float(low) else "-Infinity", high if value <= float(high) else "Infinity")


def _data(report: Artifact, number: Number) -> dict[str, Any]:
    """Where the prompts come from: a set of the hub by its name there, others by the reference in the recipe."""
    sets = data_of(report, number.name)
    names = {"dataset_name": " + ".join(ref for ref, _ in sets) or number.name}
    details = _strings({f"digest of {ref}": digest for ref, digest in sets})
    if len(sets) == 1 and sets[0][0].startswith("hf:"):
        repository, _, revision = sets[0][0].removeprefix("hf:").partition("@")
        repository = repository.partition("#")[0]
        names = {"dataset_name": repository.partition("/")[2], "hf_repo": repository}
        details |= {"revision": revision} if revision else {}
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
    details = {k: v for k, v in identity.items() if k not in args and k != "data"}
    return {"generation_args": args, "additional_details": _strings(details)}


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


def place_of(key: str, model: str) -> str:
    """The path of a record below the data store, without its ending: equal keys give equal names, whoever exports."""
    name = uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16], version=4)
    return f"data/{COLLECTION}/{model}/{name}"


def uncertainty(n: int | None, low: float | None, high: float | None, method: str) -> dict[str, object]:
    """How sure a score is; empty if nothing is known of it."""
    sure: dict[str, object] = {} if n is None else {"num_samples": n}
    if low is not None and high is not None:
        ends = {"lower": low, "upper": high, "confidence_level": 0.95, "method": method}
        sure["confidence_interval"] = ends
    return sure


def instances(report: Artifact, metric: Metric, number: Number, name: str, key: str) -> Iterator[dict[str, Any]]:
    """Records of one score, without the keys that all records of a report share. None unless the score is a share of
    right or wrong answers."""
    table = metric.table
    if number.unit != SHARE or metric.better == "neither" or table is None:
        return
    tables = [(row, table([row])) for row in report.rows(f"samples/{metric.file}")]
    scores = [(row, t.value) for row, t in tables if t.den.sum() > 0]
    equal = len({float(t.den.sum()) for _, t in tables} - {0.0}) == 1
    if not equal or not same(sum(score for _, score in scores) / len(scores), number.value):
        return
    for row, score in scores:
        yield {
            "evaluation_name": name,
            "evaluation_result_id": f"{key}#{metric.name}",
            "sample_id": str(row.get("item") or row["id"]),
            **_describe_exchange(row),
            "answer_attribution": [],
            "evaluation": {
                "score": score,
                "is_correct": score > 0.5 if metric.better == "higher" else score < 0.5,
                **_turns(row),
            },
            "metadata": {key: str(row[key]) for key in SAID_OF_A_ROW if row.get(key) not in (None, "")},
        }


def _turns(row: dict[str, Any]) -> dict[str, int]:
    messages = _dialogue(row)
    return {"num_turns": sum(m["role"] == "assistant" for m in messages)} if messages else {}


def _describe_exchange(row: dict[str, Any]) -> dict[str, Any]:
    """Question and answer of a row: one exchange, or the messages of a longer dialogue."""
    prompt, options = str(row.get("prompt") or row.get("question") or ""), row.get("options") or []
    references = row.get("accepted", [row["reference"]] if "reference" in row else [])
    right = [options[place] for place in row.get("right", ())] if options else list(references)
    question = {"raw": prompt, "reference": right}
    record: dict[str, Any] = {"input": question | ({"choices": options} if options else {})}
    if prompt:
        record["sample_hash"] = _digest(question)
    if row.get("outcome") in NOT_ASKED:
        record["error"] = row["outcome"]
    if messages := _dialogue(row):
        turns = [{"turn_idx": i, "role": m["role"], "content": m["content"]} for i, m in enumerate(messages)]
        return record | {"interaction_type": "multi_turn", "output": None, "messages": turns}
    replies = [row["reply"]] if "reply" in row else []
    return record | {"interaction_type": "single_turn", "output": {"raw": replies}}


def _dialogue(row: dict[str, Any]) -> list[dict[str, str]]:
    """All messages with the reply, if the dialogue has more than one user turn; else none."""
    messages = row.get("messages") or []
    if "reply" not in row or sum(m["role"] == "user" for m in messages) < 2:
        return []
    return [*messages, {"role": "assistant", "content": row["reply"]}]


def _digest(question: dict[str, Any]) -> str:
    """The format's own hash of a question: sorted keys, no white space."""
    return hashlib.sha256(json.dumps(question, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
