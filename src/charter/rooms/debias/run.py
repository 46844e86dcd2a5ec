"""Debiasing before reinforcement learning (model card of Claude 2, section 3.2; moral self-correction, Ganguli 2023).

The policy answers questions of training-only templates under a request for fairness and with reasoning. Answers that
are right by construction are kept, the request and the reasoning are stripped, the kept set is balanced, and the policy
is finetuned on it: it learns to answer so without being asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.curves import last_logged
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import open_assistant
from charter.ground.learn.product import save_learnt
from charter.ground.learn.supervised import finetune
from charter.ground.measure.debias import OF_DEBIAS
from charter.ground.measure.reporting import record
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.moved import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import dialogue_row
from charter.ground.text.template import Template
from charter.rooms.debias.answers import answer_rows
from charter.rooms.debias.filter import choose_asked, choose_taught
from charter.rooms.debias.lessons import cut_steps, lesson, replayed
from charter.rooms.debias.questions import Question, make_questions
from charter.rooms.debias.settings import Settings
from charter.rooms.debias.templates import read_templates


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint; beside it samples/debias.jsonl (every answer) and dialogues.jsonl (what is taught
    of them)."""
    templates = read_templates(inputs.one("templates").folder)
    questions = make_questions(templates, out.seed)
    asked = choose_asked(settings, questions, derive_seed(out.seed, "asked"))
    rows = _answers(settings, asked, inputs, out)
    taught = choose_taught(settings, asked, rows, derive_seed(out.seed, "taught"))
    chosen = {question.id for question in taught}
    out.write_jsonl("samples/debias.jsonl", [row | {"taught": row["item"] in chosen} for row in rows])
    lessons = [lesson(question, out.seed) for question in taught]
    out.write_jsonl("dialogues.jsonl", map(dialogue_row, lessons))
    more = [source.folder for source in inputs.many("replay")]
    replay = replayed(more, round(settings.replay * len(taught)), out.seed)

    counts = {"templates": len(templates), "questions": len(questions), "asked": len(asked)}
    counts |= {"kept": sum(row["kept"] for row in rows), "taught": len(taught), "replayed": len(replay)}
    counts |= _finetune(settings, lessons + replay, inputs, out)
    out.counts(counts)
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/token")
    record(out, OF_DEBIAS)


def _answers(
    settings: Settings, asked: Sequence[Question], inputs: Inputs, out: Workspace
) -> list[dict[str, Any]]:
    """All answers; who gives them, the policy unless a teacher is named, leaves memory before the finetuning."""
    who = inputs.optional("teacher") or inputs.one("policy")
    assistant = open_assistant(who, out.device, precision=out.precision)
    return out.chunks(
        "answers",
        asked,
        settings.chunk,
        lambda part, _: answer_rows(assistant, settings, part, out.seed),
        "fair answers",
    )


def _finetune(
    settings: Settings, lessons: Sequence[Dialogue], inputs: Inputs, out: Workspace
) -> dict[str, int]:
    """Finetunes the policy on the lessons and saves it; returns counts of steps and tokens."""
    train = settings.train
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    choose_weights(model, train, derive_seed(out.seed, "adapters"))
    bounded = train.model_copy(update={"context": min(train.context, model.shape.context)})
    steps, counts = cut_steps(lessons, Template(tokenizer, tokenizer.template), bounded, out.seed)
    finetune(model, steps, train, out)
    save_learnt(model, tokenizer, out)
    return counts
