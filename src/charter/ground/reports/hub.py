"""Writes the scores that the Hugging Face hub reads, `.eval_results/*.yaml`.

The hub's model-index is legacy. Scores go to `.eval_results`, one list of entries a file, in the format of
huggingface_hub's EvalResultEntry. Intervals in the notes have the unit of the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from charter.ground.measure.metric import Metric
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import Number, words_of_size
from charter.ground.reports.stages import words

# OWNER/NAME; a path on this disk is not a hub name.
HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def eval_results(dataset: str, report: Artifact, note: Callable[[Number], str] = words_of_size) -> dict[str, str]:
    """File name -> YAML of the scores of a report and of those beside it, a file for each set of prompts.

    `dataset` holds the prompts that are on this disk; a score on other prompts names their own data set. Scores
    without a data set are left out. `note` gets each number written, and gives its size in words.
    """
    groups: dict[str, list[EvalResultEntry]] = {}
    scores = [(artifact, *score) for artifact in (report, *report.beside) for score in of_model(artifact)]
    for artifact, number, metric in scores:
        refs = [ref for ref, _ in data_of(artifact, metric.name)]
        on_hub = refs[0].removeprefix("hf:").partition("@")[0].partition("#")[0] if refs else ""
        holds = on_hub if len(refs) == 1 and refs[0].startswith("hf:") else dataset
        if not holds or not metric.file or number.value is None:
            continue
        decoding = words(artifact.find_identities(metric.name).get(metric.task) or {})
        notes = [metric.meaning, decoding, note(number).replace("\u00a0", " "), f"version {number.version}"]
        if number.low is not None and number.high is not None:
            notes.append(f"95 % interval {number.low:.4g} to {number.high:.4g}")
        notes += ["graded by a model that failed its fitness gate"] if unfit(artifact, metric.name) else []
        group = metric.task
        entry = EvalResultEntry(
            dataset_id=holds,
            task_id=f"{group}_{metric.name}",
            value=number.value,
            notes="; ".join(n for n in notes if n),
        )
        groups.setdefault(group, []).append(entry)
    return {
        f".eval_results/{group}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=110
        )
        for group, entries in groups.items()
    }


def of_model(report: Artifact) -> list[tuple[Number, Metric]]:
    """The numbers of a report's manifest that measure its model, each with its metric.

    Numbers of judges, screens and helpers are left out, and so are those of questions met in training and of replies
    that another model revised.
    """
    names = {m.name for m in report.manifest.metrics} & report.own.keys()
    metrics = report.reported.metrics
    return [(report.own[n], m) for n, m in metrics.items() if m.about == "model" and n in names]


def data_of(report: Artifact, name: str) -> list[tuple[str, str]]:
    """(reference, digest or "") of the data behind a number, as its report's identity names it."""
    data = [identity.get("data") or [] for identity in report.find_identities(name).values()]
    entries = [entry for source in data for entry in (source if isinstance(source, list) else [source])]
    return [
        (str(entry["ref"]), str(entry.get("id", ""))) if isinstance(entry, dict) else (str(entry), "")
        for entry in entries
    ]
