"""Settings and roles of the debias room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen, Training
from charter.ground.settings.room import LEARNT, Estimate, Role, Room, Sizes
from charter.rooms.debias.balance import CELLS

ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "teacher": Role(kind="assistant", required=False),
    "templates": Role(kind="templates", default="shipped:debias.train"),
    "replay": Role(kind="dialogues", rows="lessons", many=True, required=False),
}

# of the shipped templates, with three pairs each, after balancing
QUESTIONS_PER_TEMPLATE = 24
TOKENS_PER_QUESTION = 130


class Train(Training):
    """Finetuning on the kept answers; only answers have a loss."""

    epochs: int = Field(2, ge=1, description="passes over kept questions and replay")
    context: int = Field(1024, ge=16, description="longer dialogues are dropped and counted")


class Settings(Frozen):
    """Debiasing: fair answers to training-only templates, and finetuning on the right ones."""

    limit: int = Field(0, ge=0, description="most questions asked, balanced over cells; 0 asks all")
    samples: int = Field(
        3, ge=1, description="times each question is asked, options rotated each time; the mean decides"
    )
    thought_tokens: int = Field(256, ge=0, description="longest reasoning in tokens (the paper: 256); 0: none")
    temperature: float = Field(1.0, gt=0, description="temperature of the reasoning")
    votes: int = Field(8, ge=1, description="answers sampled if an engine can't score letters")
    chunk: int = Field(48, ge=1, description="questions asked and saved together")
    teach: Literal["kept", "all"] = Field(
        "kept", description="kept: questions answered right (the card); all: the others too"
    )
    keep_at_least: int = Field(4, ge=1, description="fewest questions of each context, polarity and letter")
    replay: float = Field(
        1.0, ge=0, description="dialogues of `replay` per taught question, at most as many as there are"
    )
    train: Train = Field(Train(), description="the finetuning")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    per_cell = settings.limit // len(CELLS)
    if settings.limit and per_cell < settings.keep_at_least:
        return (
            f"limit: {settings.limit} asks {per_cell} questions for each of {len(CELLS)} cells, and keep_at_least is "
            f"{settings.keep_at_least}; raise limit or lower keep_at_least"
        )
    if "replay" in roles and not settings.replay:
        return "the role replay is filled, but replay: 0 takes nothing from it; leave the role out or raise replay"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled, 700 read and LEARNT learnt tokens/s of a 135M model on two cores, if half is kept."""
    policy, templates = sizes.parameters.get("policy"), sizes.rows.get("templates")
    if not policy or not templates:
        return Estimate()
    questions = QUESTIONS_PER_TEMPLATE * templates
    questions = min(questions, settings.limit) if settings.limit else questions
    teacher = sizes.speed(sizes.parameters.get("teacher", policy))
    passes = 2 if settings.thought_tokens else 1
    read_tokens = questions * settings.samples * (passes * TOKENS_PER_QUESTION + settings.thought_tokens)
    sampled_tokens = questions * settings.samples * settings.thought_tokens * 0.7
    taught = questions if settings.teach == "all" else questions / 2
    replay = settings.replay if "replay" in sizes.each else 0.0
    learnt_tokens = settings.train.epochs * taught * (1 + replay) * TOKENS_PER_QUESTION
    learnt_tokens *= sizes.training_share(settings.train.frozen_layers)
    seconds = (sampled_tokens / 250 + read_tokens / 700) / teacher + learnt_tokens / LEARNT / sizes.speed(policy)
    return Estimate(
        minutes=seconds / 60,
        memory_gib=(16 * policy + 4 * 3000 * settings.train.microbatch_tokens * 30) / 2**30,
        disk_gib=4 * policy / 2**30,
    )


ROOM = Room(
    product="checkpoint",
    settings=Settings,
    roles=ROLES,
    variant="policy",
    estimate=estimate,
    check=check,
    learns=True,
    method="a finetuning on fair answers",
    against_harm=(
        "Before reinforcement learning the policy learnt to answer questions about social groups from "
        "what is said, and to say that it can't be known if nothing is."
    ),
)
