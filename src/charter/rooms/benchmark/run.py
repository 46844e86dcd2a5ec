"""One report on one model: the card's capability and bias evaluations, each by its protocol (card sections 3 and 4).

Every answer is kept with what was read in it; every number is taken from the kept rows by `measure.metrics`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import open_assistant, own_decoding
from charter.ground.generate.response_cache import Memory
from charter.ground.measure.benchmarks import OF_BENCHMARKS
from charter.ground.measure.reporting import record
from charter.rooms.benchmark import (
    arc,
    bbq,
    decisions,
    gsm8k,
    humaneval,
    mmlu,
    mmlu_plain,
    occupations,
    position,
    quality,
    race,
    recall,
    translation,
    triviaqa,
    truthfulqa,
    winogender,
)
from charter.rooms.benchmark.contamination import contamination
from charter.rooms.benchmark.context import Context, check_questions
from charter.rooms.benchmark.settings import Change, Settings, Task

# A module has PROTOCOL, questions(context) -> the drawn ones, and rows(context, questions) -> what is kept.
EVALUATIONS: dict[Task, ModuleType] = {
    "gsm8k": gsm8k,
    "mmlu_plain": mmlu_plain,
    "arc": arc,
    "race": race,
    "quality": quality,
    "position": position,
    "recall": recall,
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
    contexts = open_contexts(settings, inputs, out)
    drawn = {
        c.task: EVALUATIONS[c.task].questions(c) for c in contexts
    }  # what is wrong is said before hours of work
    for task, questions in drawn.items():
        check_questions(task, questions)
    for context in contexts:
        rows = EVALUATIONS[context.task].rows(context, drawn[context.task])
        out.write_jsonl(f"samples/{context.task}.jsonl", rows)
    overlap = contamination(inputs.one("policy"), drawn, out)
    out.write_json("report.json", _report(settings, inputs, contexts) | {"contamination": overlap})
    record(out, OF_BENCHMARKS)


def open_contexts(settings: Settings, inputs: Inputs, out: Workspace) -> list[Context]:
    """Every task of a report on its models, which are loaded once."""
    memory = Memory.of(out)
    model = open_assistant(inputs.one("policy"), out.device, precision=out.precision, memory=memory)
    second = inputs.optional("helper")
    helper = open_assistant(second, out.device, precision=out.precision, memory=memory) if second else model
    contexts = []
    for task in settings.tasks:
        change = settings.change.get(task, Change())
        protocol = EVALUATIONS[task].PROTOCOL.changed(settings.limit, change)
        if settings.decoding == "own":
            protocol = protocol.sampled(own_decoding(model), change)
        contexts.append(Context(settings, inputs, out, model, helper, task, protocol))
    return contexts


def _report(settings: Settings, inputs: Inputs, contexts: list[Context]) -> dict[str, Any]:
    policy, helper = inputs.one("policy"), inputs.optional("helper") or inputs.one("policy")
    own = own_decoding(contexts[0].assistant)
    return {
        "stage": settings.stage,
        "model": {"name": policy.name, "id": policy.id},
        "decoding": {"kind": settings.decoding} | (own.facts if settings.decoding == "own" else {}),
        "helper": {"name": helper.name, "id": helper.id},
        "identity": {context.task: context.identity() for context in contexts},
    }
