"""Exact training state on disk: weights, optimizer moments and counters, in safetensors and JSON, never
pickle.

A state folder is written beside its final name and renamed last, so a kill leaves the previous one whole;
only the newest is kept. Loading it back makes the next step equal, bit for bit, to the step of a run never
stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import fsync_folder


def _trainable(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for label, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{label}.{name}"] = parameter
    return found


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)


def _moments(
    name: str, parameter: nn.Parameter, tensors: Mapping[str, Tensor], counts: Mapping[str, float]
) -> dict[str, Tensor]:
    """AdamW's state of one parameter; moments take the parameter's strides, which the fused step relies
    on."""
    state: dict[str, Tensor] = {}
    for key in ("exp_avg", "exp_avg_sq"):
        if f"{key}.{name}" in tensors:
            state[key] = torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"])
    if f"step.{name}" in counts:
        state["step"] = torch.tensor(counts[f"step.{name}"], device=parameter.device)
    return state


class Saver:
    """Decides when to save (every `every` steps, or when `seconds` have passed) and keeps only the newest
    state."""

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        every: int = 0,
        seconds: float = 180.0,
    ) -> None:
        self.folder, self.modules, self.optimizer = folder, modules, optimizer
        self.every, self.seconds = every, seconds
        self.last = time.monotonic()

    def due(self, step: int) -> bool:
        return step % self.every == 0 if self.every else time.monotonic() - self.last > self.seconds

    def maybe(self, step: int, extra: Mapping[str, Any] | None = None) -> None:
        """Save the state after `step` finished steps, if it is time."""
        if self.due(step):
            self.save(step, extra or {})

    def save(self, step: int, extra: Mapping[str, Any]) -> None:
        """Write the state after `step` finished steps, then drop all older ones. Raises CharterError when the
        disk refuses; the previous state is kept then."""
        try:
            self._write(step, extra)
        except (OSError, SafetensorError) as error:
            self._drop_parts()
            raise CharterError(
                f"the resume state of step {step} can't be written to {self.folder} ({error}); "
                "make room on the disk and run again: the state before it is kept"
            ) from error
        self.last = time.monotonic()

    def _drop_parts(self) -> None:
        for part in self.folder.glob(".step-*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def _write(self, step: int, extra: Mapping[str, Any]) -> None:
        target = self.folder / f"step-{step:08d}"
        while target.exists():  # saved again: both are whole until the new one is in place
            target = target.with_name(target.name + "-again")
        part = self.folder / f".{target.name}.part"
        self._drop_parts()
        part.mkdir(parents=True)
        parameters = _trainable(self.modules)
        tensors: dict[str, Tensor] = {f"weight.{n}": p.detach().contiguous() for n, p in parameters.items()}
        counts: dict[str, float] = {}
        for name, parameter in parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if key == "step":
                    counts[f"{key}.{name}"] = float(value)
                else:
                    tensors[f"{key}.{name}"] = value.contiguous()
        save_file(tensors, part / "state.safetensors")
        text = json.dumps({"step": step, "counts": counts, "extra": dict(extra)})
        (part / "state.json").write_text(text)
        _sync(part)
        part.rename(target)
        fsync_folder(self.folder)
        for old in self.folder.glob("step-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)

    def load(self) -> tuple[int, dict[str, Any]]:
        """Put the newest state back into the modules and the optimizer: (finished steps, extra); (0, {}) if
        none."""
        states = sorted(self.folder.glob("step-*"))
        if not states:
            return 0, {}
        try:
            note = json.loads((states[-1] / "state.json").read_text())
            step, extra, counts = int(note["step"]), dict(note["extra"]), dict(note["counts"])
            tensors = load_file(states[-1] / "state.safetensors")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CharterError(
                f"resume state {states[-1].name} can't be read ({error}); "
                "remove it with `charter gc RUN --partial` and run again"
            ) from error
        parameters = _trainable(self.modules)
        saved = {n.removeprefix("weight."): t.shape for n, t in tensors.items() if n.startswith("weight.")}
        if saved != {name: parameter.shape for name, parameter in parameters.items()}:
            raise CharterError(
                f"resume state {states[-1].name} is of other weights than those to be trained; "
                "remove it with `charter gc RUN --partial` and run again"
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
                if state := _moments(name, parameter, tensors, counts):
                    self.optimizer.state[parameter] = state
        return step, extra
