"""One report on one model: the card's capability and bias evaluations, each by its protocol (card sections 3 and 4).

Every answer is kept with what was read in it; every number is taken from the kept rows by `measure.metrics`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from charter.benchmark import (
    arc,
    bbq,
    decisions,
    gsm8k,
    humaneval,
    mmlu,
    mmlu_plain,
    occupations,
    race,
    translation,
    triviaqa,
    truthfulqa,
    winogender,
)
from charter.benchmark.context import Context, check_questions
from charter.benchmark.settings import Change, Settings, Task
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import open_assistant
from charter.ground.measure.metrics import scores

# A module has PROTOCOL, questions(context) -> the drawn ones, and rows(context, questions) -> what is kept.
EVALUATIONS: dict[Task, ModuleType] = {
    "gsm8k": gsm8k,
    "mmlu_plain": mmlu_plain,
    "arc": arc,
    "race": race,
    "humaneval": humaneval,
    "mmlu": mmlu,
    "triviaqa": triviaqa,
    "translation": translation,
    "bbq": bbq,
    "truthfulqa": truthfulqa,
    "winogender": winogender,
    "occupations": occupations,
    "decisions": decisions,
}


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: report.json and samples/<task>.jsonl."""
    model = open_assistant(inputs.one("policy"), out.device, precision=out.precision)
    second = inputs.optional("helper")
    helper = open_assistant(second, out.device, precision=out.precision) if second else model
    contexts = []
    for task in settings.tasks:
        protocol = EVALUATIONS[task].PROTOCOL.changed(settings.limit, settings.change.get(task, Change()))
        contexts.append(Context(settings, inputs, out, model, helper, task, protocol))
    drawn = {
        c.task: EVALUATIONS[c.task].questions(c) for c in contexts
    }  # what is wrong is said before hours of work
    for task, questions in drawn.items():
        check_questions(task, questions)
    for context in contexts:
        rows = EVALUATIONS[context.task].rows(context, drawn[context.task])
        out.write_jsonl(f"samples/{context.task}.jsonl", rows)
    out.write_json("report.json", _report(settings, inputs, contexts))
    for s in scores(out.path):
        out.metric(s.name, s.value, low=s.low, high=s.high, n=s.n, version=s.version, unit=s.unit or None)


def _report(settings: Settings, inputs: Inputs, contexts: list[Context]) -> dict[str, Any]:
    policy, helper = inputs.one("policy"), inputs.optional("helper")
    return {
        "stage": settings.stage,
        "model": {"name": policy.name, "id": policy.id},
        "helper": {"name": helper.name, "id": helper.id} if helper else None,
        "identity": {context.task: context.identity() for context in contexts},
    }
