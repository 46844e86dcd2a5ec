"""Settings and roles of the debias room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen, Training
from charter.ground.settings.roles import Role
from charter.ground.settings.room import Room
from charter.rooms.debias.balance import CELLS

ROLES = {
    "policy": Role(kind="checkpoint", variant="policy"),
    "teacher": Role(kind="assistant", required=False),
    "templates": Role(kind="templates", default="shipped:debias.train"),
    "replay": Role(kind="dialogues", many=True, required=False),
}

QUESTIONS_PER_TEMPLATE = 24  # of the shipped templates, which have three pairs each, after balancing
TOKENS_PER_QUESTION = 130


class Train(Training):
    """The finetuning on what is kept, loss on the answers only."""

    epochs: int = Field(2, ge=1, description="passes over kept questions and replay")
    context: int = Field(1024, ge=16, description="longer dialogues are dropped and counted")


class Settings(Frozen):
    """Debiasing: fair answers on training-only templates, kept where right, and a finetuning on them."""

    limit: int = Field(0, ge=0, description="most questions asked, drawn evenly; 0 asks all")
    samples: int = Field(
        3, ge=1, description="times a question is asked, options one place further each; the mean decides"
    )
    thought_tokens: int = Field(
        256, ge=0, description="longest reasoning (the paper: 256); 0 asks without any"
    )
    temperature: float = Field(1.0, gt=0, description="of the reasoning")
    votes: int = Field(8, ge=1, description="answers sampled where an engine can't score letters")
    chunk: int = Field(48, ge=1, description="questions asked together and saved whole")
    teach: Literal["kept", "all"] = Field(
        "kept", description="kept: what was answered right (the card); all: also what was not"
    )
    keep_at_least: int = Field(
        4, ge=1, description="questions that each context, polarity and letter must have"
    )
    replay: float = Field(
        1.0, ge=0, description="dialogues of `replay` per taught question, as far as they go"
    )
    train: Train = Field(Train(), description="the finetuning")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with settings and the roles that are filled, taken together."""
    per_cell = settings.limit // len(CELLS)
    if settings.limit and per_cell < settings.keep_at_least:
        return (
            f"limit: {settings.limit} asks {per_cell} questions for each of {len(CELLS)} cells, and keep_at_least is "
            f"{settings.keep_at_least}; raise limit or lower keep_at_least"
        )
    if "replay" in roles and not settings.replay:
        return (
            "the role replay is filled, and replay: 0 takes nothing of it; leave the role out or raise replay"
        )
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled, 700 read and 210 learnt tokens/s of a 135M model on two cores, if half is kept."""
    policy, templates = sizes.parameters.get("policy"), sizes.rows.get("templates")
    if not policy or not templates:
        return Estimate()
    asked = QUESTIONS_PER_TEMPLATE * templates
    asked = min(asked, settings.limit) if settings.limit else asked
    teacher = sizes.speed(sizes.parameters.get("teacher", policy))
    passes = 2 if settings.thought_tokens else 1
    read = asked * settings.samples * (passes * TOKENS_PER_QUESTION + settings.thought_tokens)
    sampled = asked * settings.samples * settings.thought_tokens * 0.7
    taught = asked if settings.teach == "all" else asked / 2
    replay = settings.replay if "replay" in sizes.each else 0.0
    learnt = settings.train.epochs * taught * (1 + replay) * TOKENS_PER_QUESTION
    learnt *= sizes.training_share(settings.train.frozen_layers)
    seconds = (sampled / 250 + read / 700) / teacher + learnt / 210 / sizes.speed(policy)
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
