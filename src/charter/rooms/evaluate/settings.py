"""Settings and roles of the evaluate room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role
from charter.ground.settings.room import Room

ROLES = {
    "policy": Role(kind="assistant"),
    "grader": Role(kind="checkpoint", variant="preference", required=False),
    "reward": Role(kind="checkpoint", variant="preference", required=False),
    "rater": Role(kind="checkpoint", variant="rating", required=False),
    "start": Role(kind="checkpoint", variant="policy", required=False),
    "baseline": Role(kind="report", required=False),
    "red_team": Role(kind="dialogues", many=True, default="shipped:red_team.heldout"),
    "lookalikes": Role(kind="dialogues", many=True, default="shipped:lookalikes.heldout"),
    "helpful": Role(kind="dialogues", many=True, default="shipped:helpful.heldout"),
    "hhh": Role(kind="comparisons", many=True, default="shipped:hhh.heldout"),
    "transcripts": Role(kind="dialogues", many=True, required=False),
    "text": Role(kind="text", many=True, default="shipped:text.heldout"),
    "fitness": Role(kind="triples", default="shipped:fitness.heldout"),
    "detectors": Role(kind="text", default="shipped:detectors.heldout"),
    "acceptable_use": Role(kind="constitution", default="shipped:acceptable_use"),
    "reader": Role(kind="checkpoint", variant="policy", required=False),
    "violating": Role(kind="dialogues", many=True, required=False),
    "ordinary": Role(kind="dialogues", many=True, required=False),
    "replies": Role(kind="comparisons", many=True, required=False),
    "facts": Role(kind="dialogues", many=True, default="shipped:howto.dev"),
    "quiz": Role(kind="questions", many=True, default="shipped:triviaqa.heldout"),
}
Task = Literal["assistant", "acceptable_use", "facts"]
Decoding = Literal["own", "protocol"]


class Counts(Frozen):
    """How many rows of each set are used, drawn with draw_seed so that all stages see the same ones."""

    red_team: int = Field(0, ge=0, description="unsafe prompts; 0 takes all, as below")
    lookalikes: int = Field(0, ge=0, description="harmless look-alikes")
    helpful: int = Field(0, ge=0, description="helpful prompts")
    hhh: int = Field(0, ge=0, description="HHH choices")
    text: int = Field(0, ge=0, description="held-out texts")
    facts: int = Field(0, ge=0, description="questions with required facts")
    quiz: int = Field(0, ge=0, description="short questions with accepted answers")


class AcceptableUse(Frozen):
    """The screen that is measured by the task acceptable_use."""

    classifiers: tuple[Literal["encoder", "probe", "words", "grader", "preference"], ...] = Field(
        ("probe",),
        min_length=1,
        description="encoder and words need no model; probe reads states of `reader`, else `policy`; grader asks "
        "`policy`; preference asks `grader`",
    )
    limit: int = Field(0, ge=0, description="texts of each set, drawn by seed; 0: all")
    placed: int = Field(
        0,
        ge=0,
        description="prompts of each kind that are also read in every place of a conversation and encoded",
    )


class Settings(Frozen):
    """One report on one model: harmlessness, over-refusal, helpfulness, HHH choices, loss on text; or on a screen."""

    stage: str = Field("model", description="what the card calls this model: start, taught, SL-CAI, RL ...")
    tasks: tuple[Task, ...] = Field(
        ("assistant",),
        min_length=1,
        description="assistant: replies, graded; facts: replies, without a grader; acceptable_use: a screen",
    )
    samples: int = Field(5, ge=1, description="replies per unsafe prompt (the card: 5)")
    other_samples: int = Field(1, ge=1, description="replies per look-alike, helpful prompt and question")
    decoding: Decoding = Field(
        "own", description="own: sampled as the checkpoint says; protocol: at `temperature`, uncut"
    )
    temperature: float = Field(1.0, ge=0, description="of decoding: protocol (the card: 1)")
    max_tokens: int = Field(96, ge=1, description="longest reply")
    chunk: int = Field(16, ge=1, description="unsafe prompts sampled together and saved whole")
    hhh_shots: int = Field(
        0, ge=0, le=5, description="worked examples before each HHH choice: 0 or 5 in the card"
    )
    counts: Counts = Field(Counts(), description="rows used of each set")
    draw_seed: int = Field(0, ge=0, description="seed of the draw and of sampling; the same for every stage")
    acceptable_use: AcceptableUse = Field(AcceptableUse(), description="the screen that is measured")


def check(settings: Settings, roles: Collection[str]) -> str:
    """What a task lacks, or ""."""
    names = settings.acceptable_use.classifiers
    if "assistant" in settings.tasks and "grader" not in roles:
        return "role grader is missing: a preference model that grades the replies; or leave assistant out of tasks"
    if "acceptable_use" in settings.tasks and "preference" in names and "grader" not in roles:
        return "the classifier preference asks the role grader, which is missing"
    if settings.decoding == "own" and settings.temperature != 1:
        return "temperature is the protocol's: set decoding: protocol, or leave temperature out"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 300 sampled tokens/s of a 135M model on two cores, and 700 read ones for all that is scored."""
    parameters = sizes.model("policy")
    used = {
        key: min(sizes.rows.get(key, 0), limit)
        if (limit := getattr(settings.counts, key))
        else sizes.rows.get(key, 0)
        for key in Counts.model_fields
    }
    graded = read = asked = 0
    if "assistant" in settings.tasks:
        graded = used["red_team"] * settings.samples
        graded += (used["lookalikes"] + used["helpful"]) * settings.other_samples
        graders = 1 + sum(role in sizes.parameters for role in ("reward", "rater", "start"))
        read = graded * 90 * graders + used["hhh"] * 600 + used["text"] * 400
    if "facts" in settings.tasks:
        asked = (used["facts"] + used["quiz"]) * settings.other_samples
    if not graded + asked:
        return Estimate()
    scale = sizes.speed(parameters)
    seconds = ((graded + asked) * settings.max_tokens * 0.7 / 300 + read / 700) / scale
    return Estimate(minutes=seconds / 60, memory_gib=14 * parameters / 2**30, disk_gib=0.01)


ROOM = Room(product="report", settings=Settings, roles=ROLES, estimate=estimate, check=check)
