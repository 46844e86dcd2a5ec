"""Times of the steps on either side: of a room through its progress bar, of a trainer through its callbacks.

Marks are taken when the loop starts and after each optimizer step or round; loading, tokenising and saving are outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.progress import Bar
from charter.ground.artifact.workspace import Workspace


class LoopDone(Exception):
    """Leaves a room right after its loop: what follows is saving and measuring."""


class Clock:
    """A progress display that notes the time instead."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        """Itself."""
        return self

    def note(self, text: str) -> None:
        """Says nothing."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """One step is over."""
        self.marks.append(time.perf_counter())

    def __enter__(self) -> Clock:
        self.marks = [time.perf_counter()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            raise LoopDone


def room_marks(
    run: Callable[[Any, Inputs, Workspace], None],
    settings: object,
    inputs: Sequence[Input],
    folder: Path,
    precision: str = "float32",
) -> list[float]:
    """Run a room's loop in `folder`; the time at its start and after each step."""
    clock = Clock()
    with suppress(LoopDone):
        run(settings, Inputs(inputs), Workspace(folder, seed=1, precision=precision, progress=clock))
    return clock.marks


def trainer_marks(trainer: Any, callback: type) -> list[float]:
    """Train with a transformers trainer (`callback`: its TrainerCallback); the same marks."""
    marks: list[float] = []

    def mark(*_: object, **__: object) -> None:
        marks.append(time.perf_counter())

    timer = type("Timer", (callback,), {"on_train_begin": mark, "on_step_end": mark})
    trainer.add_callback(timer())
    trainer.train()
    return marks


def plain_training(folder: Path) -> dict[str, Any]:
    """Arguments that make a transformers trainer do nothing but train, in float32 on the CPU, with fused AdamW."""
    return {
        "output_dir": str(folder),
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "optim": "adamw_torch_fused",
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-5,
        "seed": 1,
    }
