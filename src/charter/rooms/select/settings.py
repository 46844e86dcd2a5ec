"""Settings and roles of the select room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Filled, Role, Room, Sizes

ROLES = {
    "policy": Role(kind="assistant", required=False),
    "graders": Role(kind="checkpoint", variant="preference", many=True, required=False),
    "start": Role(kind="assistant", required=False),
    "prompts": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "harmless": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "candidates": Role(kind="dialogues", rows="lessons", many=True, required=False),
}


class Filters(Frozen):
    """Which replies may be chosen; never loops, repeated texts and empty replies."""

    cut: Literal["drop", "sentence", "keep"] = Field(
        "drop", description="replies cut at the token limit: dropped, kept up to their last sentence, or kept"
    )
    words: int = Field(1, ge=1, description="fewest words")
    above_fixed: bool = Field(False, description="replies to `prompts` must be above the fixed reply by the graders")
    above_draft: bool = Field(False, description="replies must be above their prompt's drafts, if candidates have any")
    refusal: Literal["any", "require"] = Field("any", description="replies to `prompts`: any, or refusals only")
    no_refusal: bool = Field(True, description="replies to `harmless` must not refuse")
    keep_at_least: float = Field(0.0, ge=0, le=1, description="least share of prompts that must get a reply")


class Settings(Frozen):
    """Best-of-k sampling: of k replies to a prompt the one that graders rank first is learnt."""

    k: int = Field(8, ge=0, description="replies sampled for each prompt; 0: only candidates are filtered")
    temperature: float = Field(1.0, ge=0, description="temperature of the samples; 0 is greedy")
    max_tokens: int = Field(96, ge=1, description="longest reply")
    limit: int = Field(0, ge=0, description="most prompts of each role, drawn at random; 0 takes all")
    draw_seed: int = Field(
        0, description="seed of that draw; steps with equal draw_seed and limit take the same prompts"
    )
    choose: Literal["best", "median"] = Field(
        "best", description="the reply with the highest score, or the one with the median score"
    )
    keep: int = Field(1, ge=0, description="replies kept for each prompt, in that order; 0: all that pass")
    join: Literal["mean", "min"] = Field(
        "mean", description="with several graders, the mean or the least of their standardised scores"
    )
    weights: tuple[float, ...] = Field((), description="weights of the graders in the mean; empty: equal")
    filters: Filters = Field(Filters(), description="which replies may be chosen")
    chunk: int = Field(16, ge=1, description="prompts sampled, or graded, and saved together")

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.weights and (min(self.weights) < 0 or not sum(self.weights)):
            raise ValueError("weights of graders: expected none below 0 and one above it")
        if self.weights and self.join == "min":
            raise ValueError("the least score has no weights: leave weights out, or set join: mean")
        if self.k > 1 and not self.temperature:
            raise ValueError(f"{self.k} greedy replies are one and the same: set k: 1, or a temperature")
        return self


def check(settings: Settings, roles: Filled) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    return _check_replies(settings, roles) or _check_graders(settings, len(roles.get("graders", ())))


def _check_replies(settings: Settings, roles: Filled) -> str:
    filters = settings.filters
    if not {"prompts", "harmless"} & set(roles):
        return "there are no prompts: give the role prompts (may be refused) or harmless (must be answered), or both"
    if settings.k and "policy" not in roles:
        return f"k: {settings.k} needs the role policy (assistant) to sample from: give one, or set k: 0"
    if not settings.k and "policy" in roles:
        return "the role policy is filled, but k: 0 samples nothing; leave the role out or raise k"
    if not settings.k and not {"candidates", "start"} & set(roles):
        return "k: 0 samples nothing, so it needs other replies: the role candidates, or start"
    if "start" in roles and "harmless" not in roles:
        return "the role start answers the prompts of harmless, which isn't filled; fill it or leave start out"
    if filters.above_draft and "candidates" not in roles:
        return "above_draft needs the role candidates, which gives the drafts to compare with"
    for name, value in (("above_fixed", filters.above_fixed), ("refusal", filters.refusal == "require")):
        if value and "prompts" not in roles:
            return f"{name} applies to the role prompts, which isn't filled; fill it or leave {name} out"
    return ""


def _check_graders(settings: Settings, graders: int) -> str:
    filters = settings.filters
    needed = {
        "choose: median": settings.choose == "median",
        "weights": bool(settings.weights),
        "above_fixed": filters.above_fixed,
        "above_draft": filters.above_draft,
    }
    for name, value in needed.items():
        if value and not graders:
            return f"{name} needs scores: give preference models as the role graders, or leave it out"
    if settings.weights and len(settings.weights) != graders:
        return f"{len(settings.weights)} weights for {graders} graders; give one per grader"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at 250 sampled and 700 read tokens/s of a 135M model on two cores, each grader counted if weights give their
    number; rows if every prompt gets its reply."""
    counts = [sizes.rows.get(role, 0) for role in ("prompts", "harmless")]
    prompts, harmless = [min(n, settings.limit) if settings.limit else n for n in counts]
    prompt_count = prompts + harmless
    row_tokens = sizes.mean_tokens("prompts", "harmless") + 0.8 * settings.max_tokens
    if not prompt_count:
        return Estimate()
    answering = sizes.model("policy", "start")
    grading = sizes.parameters.get("graders", 0)
    sample_count = settings.k * prompt_count + harmless * ("start" in sizes.parameters)
    replies = sample_count + sizes.rows.get("candidates", 0)
    seconds = 0.8 * settings.max_tokens * sample_count / (250 * sizes.speed(answering))
    if grading:
        # the fixed reply of each prompt that has a reply is read beside them
        read_rows = replies + min(replies, prompt_count)
        read_tokens = read_rows * settings.max_tokens * max(1, len(settings.weights))
        seconds += read_tokens / (700 * sizes.speed(grading))
    rows = prompt_count * settings.keep or replies
    memory = 10 * max(answering, grading) / 2**30
    return Estimate(minutes=seconds / 60, memory_gib=memory, disk_gib=0.01, rows=rows, row_tokens=row_tokens)


ROOM = Room(
    product="dialogues",
    settings=Settings,
    roles=ROLES,
    estimate=estimate,
    check=check,
    method="the best of several sampled replies, by preference models",
)
