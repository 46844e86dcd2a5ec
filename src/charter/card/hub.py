"""What the Hugging Face hub reads: the front matter of README.md and `.eval_results/*.yaml`.

The hub's model-index is legacy; scores go to `.eval_results`, one list of entries a file, in the form of
huggingface_hub's EvalResultEntry. Intervals in the notes are in the unit of the value.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from charter.card.facts import base_model
from charter.card.gather import Run
from charter.card.number import Ledger
from charter.card.sections import unfit
from charter.card.settings import Settings
from charter.ground.measure.metrics import OF_POLICY

FILES = {
    "harmlessness.jsonl": "red_team",
    "lookalikes.jsonl": "lookalikes",
    "helpful.jsonl": "helpful",
    "wins.jsonl": "helpful",
    "hhh.jsonl": "hhh",
    "text.jsonl": "text",
}


# OWNER/NAME; a path of this disk is no name of the hub's
HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def front_matter(settings: Settings, run: Run) -> str:
    """The YAML block of a model page, between its two lines of dashes."""
    base = base_model(settings, run)
    fields: dict[str, Any] = {
        "license": settings.license,
        "language": list(settings.language),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(settings.tags),
    }
    if HUB_NAME.fullmatch(base):
        fields["base_model"] = base
    return "---\n" + yaml.safe_dump(fields, sort_keys=True, allow_unicode=True) + "---\n"


def eval_results(settings: Settings, run: Run, ledger: Ledger) -> dict[str, str]:
    """File name -> YAML of the final model's scores, a file for each set of prompts; each score is a number shown. None
    where no data set is named that holds the prompts."""
    groups: dict[str, list[EvalResultEntry]] = {}
    for metric in OF_POLICY if settings.eval_dataset else ():
        number = run.final.numbers.get(metric.name)
        if metric.file not in FILES or number is None or number.value is None:
            continue
        ledger.note(number)
        notes = [metric.meaning, ledger.count(number).replace("\u00a0", " "), f"version {number.version}"]
        if number.low is not None and number.high is not None:
            notes.append(f"95 % interval {number.low:.4g} to {number.high:.4g}")
        notes += ["graded by a model that failed its fitness gate"] if unfit(run.final, metric.name) else []
        group = FILES[metric.file]
        entry = EvalResultEntry(
            dataset_id=settings.eval_dataset,
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
