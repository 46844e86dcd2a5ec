"""Settings of the long-context stage: a finished model whose window is enlarged by steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Given

REST_SEES = 500.0  # tokens that a token of a document as it is sees on average, about


class Stage(Frozen):
    """One window, and how long it is learnt."""

    window: int = Field(ge=16, description="most tokens read at once")
    steps: int = Field(
        ge=1,
        description="optimizer steps, each of about `batch_tokens`, one whole window and its share at least",
    )


class Window(Frozen):
    """How the window of a policy is enlarged; without stages it stays as it is."""

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
        description="share of a step's tokens in texts that fill the window; the rest as it is",
    )
    lookups: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of these texts in which facts of no meaning are stated and asked for",
    )

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def spans(window: Window, batch_tokens: int) -> list[tuple[int, float]]:
    """(tokens learnt, tokens that each of them sees on average) of whole windows and of the rest, stage by stage."""
    found: list[tuple[int, float]] = []
    for stage in window.stages:
        count, beside = share(window, stage.window, batch_tokens)
        found.append((stage.steps * count * stage.window, stage.window / 2))
        found.append((stage.steps * round(beside), REST_SEES))
    return found


def share(how: Window, window: int, batch_tokens: int) -> tuple[int, float]:
    """(texts that fill the window, tokens of documents as they are) of a step: one such text at least, and documents
    in proportion."""
    count = max(1, round(how.long * batch_tokens / window))
    return count, count * window * (1 - how.long) / how.long


def problem(window: Window, policy: Given | None) -> str:
    """What contradicts itself or the policy that goes on, or ""."""
    windows = [stage.window for stage in window.stages]
    if not windows and (given := sorted(window.model_fields_set - {"stages"})):
        return f"window.{given[0]} has no effect without window.stages; name the windows, or remove it"
    if windows and policy is None:
        return (
            "window.stages enlarges the window of a given model; name it under `policy`, or remove the stages"
        )
    if windows != sorted(set(windows)):
        return (
            f"window.stages has the windows {', '.join(map(str, windows))}; each must be larger than the last"
        )
    if windows and policy and policy.context and windows[0] <= policy.context:
        return (
            f"window.stages begins at {windows[0]} tokens, and {policy.name} reads {policy.context} already; begin "
            "with more"
        )
    if window.base is not None and window.method == "yarn":
        return "window.base means nothing to method yarn, which leaves the base as it is; remove one of them"
    return ""
