"""What may be set of a report, without the list of evaluations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.settings.frozen import Frozen

Decoding = Literal["own", "protocol"]
Form = Literal["text", "chat"]


class Change(Frozen):
    """Changes to a task's protocol; all of them are part of the score's identity."""

    limit: int | None = Field(None, ge=0, description="questions asked, drawn by seed; 0: all")
    shots: int | None = Field(None, ge=0, description="worked examples before each question")
    form: Form | None = Field(None, description="text: one running text; chat: turns of the model's chat template")
    temperature: float | None = Field(None, ge=0, description="sampling temperature")
    samples: int | None = Field(None, ge=1, description="answers sampled per question")
    max_tokens: int | None = Field(None, ge=1, description="longest answer")


class AcceptableUse(Frozen):
    """The screen that the task acceptable_use measures."""

    classifiers: tuple[Literal["encoder", "probe", "words", "grader", "preference"], ...] = Field(
        ("probe",),
        min_length=1,
        description="encoder and words need no model; probe reads states of `reader`, else `policy`; grader asks "
        "`policy`; preference asks `grader`",
    )
    limit: int = Field(0, ge=0, description="texts of each set, drawn by seed; 0: all")
    placed: int = Field(
        0, ge=0, description="prompts of each kind that are also screened in every place of a conversation and encoding"
    )


class Long(Frozen):
    """Lengths of the tasks on long texts; all of them are part of their scores' identity."""

    positions: int = Field(262_144, ge=256, description="positions of a document to measure, at most")
    joined: bool = Field(False, description="join documents in the order of their file into texts of the full length")
    lengths: tuple[int, ...] | None = Field(
        None, min_length=1, description="tokens of the texts of recall; None: 512, 1024 ... up to the context"
    )


class Honesty(Frozen):
    """How the tasks on honesty are asked; all of it is part of their scores' identity."""

    instruction: str = Field("", description="words before each question, such as leave to decline")
    abstain: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decline below the confidence that scores best at this target accuracy; half of the questions "
        "choose it and aren't scored",
    )
    twins: int = Field(1, ge=1, description="invented things asked about beside each real one")


class Options(Frozen):
    """What a recipe may set of a report. `Settings` also checks names of tasks."""

    stage: str = Field("model", description="what the card calls this model: start, taught, SL-CAI, RL ...")
    tasks: tuple[str, ...] = Field(
        ("assistant",),
        min_length=1,
        description="evaluations, in this order; suites such as assistant, battery and agieval stand for several",
    )
    limit: int = Field(
        0,
        ge=0,
        description="questions asked per task, drawn by seed; 0: all, but 200 sentences a language of translation and "
        "1,000 documents of position",
    )
    change: dict[str, Change] = Field({}, description="by task or suite, changes to its protocol")
    decoding: Decoding = Field(
        "own", description="of free answers, unless the task is greedy; own: the checkpoint's; protocol: the task's"
    )
    show: SamplingStrategy = Field(
        SamplingStrategy(),
        description="how replies are sampled from the model under test, as the arena can show it; a ranking mode needs "
        "the role ranker",
    )
    long: Long = Field(Long(), description="lengths of the tasks on long texts")
    rollouts: int = Field(5, ge=1, description="conversations on each area of a constitution (adherence)")
    screen: tuple[Literal["encoder", "probe", "words"], ...] = Field(
        (),
        description="classifiers of the acceptable-use screen that the replies to `requests` are also put behind, as "
        "`charter serve` has them; none: the model alone",
    )
    honesty: Honesty = Field(Honesty(), description="how the tasks on honesty are asked")
    acceptable_use: AcceptableUse = Field(AcceptableUse(), description="the screen to measure")
    chunk: int | None = Field(None, ge=1, description="answers sampled together and saved at once; None: the task's")
    workers: int = Field(2, ge=1, description="programs that run at a time (humaneval)")
    draw_seed: int = Field(0, ge=0, description="seed of draws and of sampling; the same for every stage")
