"""Debiasing before reinforcement learning (model card of Claude 2, section 3.2; moral self-correction, Ganguli 2023).

The policy answers questions of training-only templates under a request for fairness and with reasoning. Answers that
are right by construction are kept, and the request and the reasoning are stripped. The policy is finetuned on the
balanced rest, so that it answers fairly without the request.
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
from charter.ground.measure.reporting import record
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.lora import choose_weights
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import dialogue_row
from charter.ground.text.template import Template
from charter.rooms.debias.answers import answer_rows
from charter.rooms.debias.filter import choose_lessons, choose_questions
from charter.rooms.debias.lessons import cut_steps, draw_replay, lesson
from charter.rooms.debias.metrics import OF_DEBIAS
from charter.rooms.debias.questions import Question, make_questions
from charter.rooms.debias.settings import Settings
from charter.rooms.debias.templates import read_templates


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy checkpoint; beside it samples/debias.jsonl (every answer) and dialogues.jsonl (the taught
    ones)."""
    templates = read_templates(inputs.one("templates").folder)
    questions = make_questions(templates, out.seed)
    chosen_questions = choose_questions(settings, questions, derive_seed(out.seed, "asked"))
    rows = _answers(settings, chosen_questions, inputs, out)
    taught = choose_lessons(settings, chosen_questions, rows, derive_seed(out.seed, "taught"))
    taught_ids = {question.id for question in taught}
    out.write_jsonl("samples/debias.jsonl", [row | {"taught": row["item"] in taught_ids} for row in rows])
    lessons = [lesson(question, out.seed) for question in taught]
    out.write_jsonl("dialogues.jsonl", map(dialogue_row, lessons))
    more = [source.folder for source in inputs.many("replay")]
    replay = draw_replay(more, round(settings.replay * len(taught)), out.seed)

    counts = {"templates": len(templates), "questions": len(questions), "asked": len(chosen_questions)}
    counts |= {"kept": sum(row["kept"] for row in rows), "taught": len(taught), "replayed": len(replay)}
    counts |= _finetune(settings, lessons + replay, inputs, out)
    out.counts(counts)
    out.metric("loss", last_logged(out.path, "loss"), unit="nats/token")
    record(out, OF_DEBIAS)


def _answers(settings: Settings, questions: Sequence[Question], inputs: Inputs, out: Workspace) -> list[dict[str, Any]]:
    """All answers, by the teacher if there is one, else by the policy. The model leaves memory before finetuning."""
    source = inputs.optional("teacher") or inputs.one("policy")
    assistant = open_assistant(source, out.device, precision=out.precision)
    return out.chunks(
        "answers",
        questions,
        settings.chunk,
        lambda part, _: answer_rows(assistant, settings, part, out.seed),
        "fair answers",
    )


def _finetune(settings: Settings, lessons: Sequence[Dialogue], inputs: Inputs, out: Workspace) -> dict[str, int]:
    """Finetunes the policy on the lessons and saves it; returns counts of steps and tokens."""
    train = settings.train
    model, tokenizer = load_policy(checkpoint_folder(inputs.one("policy")), out.device)
    choose_weights(model, train, derive_seed(out.seed, "adapters"))
    bounded = train.model_copy(update={"context": min(train.context, model.shape.context)})
    steps, counts = cut_steps(lessons, Template(tokenizer, tokenizer.template), bounded, out.seed)
    finetune(model, steps, train, out)
    save_learnt(model, tokenizer, out)
    return counts
