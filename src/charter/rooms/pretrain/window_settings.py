"""Settings of the long-context stage, which enlarges the window of a finished model in stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Given

# tokens that a token of an unchanged document sees on average, about
REST_SEES = 500.0


class Stage(Frozen):
    """One window, and its number of steps."""

    window: int = Field(ge=16, description="most tokens read at once")
    steps: int = Field(
        ge=1,
        description="optimizer steps of about `batch_tokens`, at least one whole window with its share of documents",
    )


class Window(Frozen):
    """How the window of a policy is enlarged; without stages it stays unchanged."""

    stages: tuple[Stage, ...] = Field(
        (), description="windows one after the other, each larger than the last"
    )
    method: Literal["base", "yarn"] = Field(
        "base", description="base: RoPE's base grows with the window; yarn: Peng et al. 2023"
    )
    base: float | None = Field(None, gt=0, description="base of RoPE in all stages, instead of the rule's")
    long: float = Field(
        0.75,
        gt=0,
        le=1,
        description="share of a step's tokens in texts that fill the window; the rest is unchanged documents",
    )
    lookups: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of these texts into which meaningless facts and questions about them are written",
    )

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def spans(window: Window, batch_tokens: int) -> list[tuple[int, float]]:
    """(tokens learnt, tokens that each of them sees on average) of whole windows and of the rest, stage by stage."""
    rows: list[tuple[int, float]] = []
    for stage in window.stages:
        count, beside = share(window, stage.window, batch_tokens)
        rows.append((stage.steps * count * stage.window, stage.window / 2))
        rows.append((stage.steps * round(beside), REST_SEES))
    return rows


def share(how: Window, window: int, batch_tokens: int) -> tuple[int, float]:
    """(texts that fill the window, tokens of unchanged documents) of a step: at least one such text, and documents in
    proportion."""
    count = max(1, round(how.long * batch_tokens / window))
    return count, count * window * (1 - how.long) / how.long


def problem(window: Window, policy: Given | None) -> str:
    """What contradicts itself or the continued policy, or ""."""
    windows = [stage.window for stage in window.stages]
    if not windows and (idle := sorted(window.model_fields_set - {"stages"})):
        return f"window.{idle[0]} has no effect without window.stages; name the windows, or remove it"
    if windows and policy is None:
        return "window.stages enlarges the window of a model; name it under `policy`, or remove the stages"
    if windows != sorted(set(windows)):
        return (
            f"window.stages has the windows {', '.join(map(str, windows))}; each must be larger than the last"
        )
    if windows and policy and policy.context and windows[0] <= policy.context:
        return (
            f"window.stages begins at {windows[0]} tokens, and {policy.name} already reads {policy.context}; begin "
            "with more"
        )
    if window.base is not None and window.method == "yarn":
        return "window.base has no effect on method yarn, which keeps the base; remove one of them"
    return ""
