"""Exact training state on disk: weights, optimizer moments and counters, in safetensors and JSON, never pickle.

A state folder is written beside its final name and renamed last, so a kill leaves the previous one whole; only
the newest is kept. Loading it back makes the next step equal, bit for bit, to the step of a run never stopped.
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


class Saver:
    """Decides when to save (every `every` steps, or when `seconds` have passed) and keeps only the newest state."""

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
        target = self.folder / f"step-{step:08d}"
        part = self.folder / f".{target.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        parameters = _trainable(self.modules)
        tensors: dict[str, Tensor] = {f"weight.{n}": p.detach().contiguous() for n, p in parameters.items()}
        counts: dict[str, float] = {}
        for name, parameter in parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if torch.is_tensor(value) and value.ndim:
                    tensors[f"{key}.{name}"] = value.contiguous()
                else:
                    counts[f"{key}.{name}"] = float(value)
        save_file(tensors, part / "state.safetensors")
        text = json.dumps({"step": step, "counts": counts, "extra": dict(extra)})
        (part / "state.json").write_text(text)
        _sync(part)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        fsync_folder(self.folder)
        for old in self.folder.glob("step-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        self.last = time.monotonic()

    def load(self) -> tuple[int, dict[str, Any]]:
        """Put the newest state back into the modules and the optimizer: (finished steps, extra); (0, {}) if none."""
        states = sorted(self.folder.glob("step-*"))
        if not states:
            return 0, {}
        try:
            note = json.loads((states[-1] / "state.json").read_text())
            tensors = load_file(states[-1] / "state.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise CharterError(
                f"resume state {states[-1].name} can't be read ({error}); "
                "remove it with `charter gc RUN --partial` and run again"
            ) from error
        with torch.no_grad():
            for name, parameter in _trainable(self.modules).items():
                parameter.copy_(tensors.pop(f"weight.{name}"))
                state: dict[str, Tensor] = {}
                for key in ("exp_avg", "exp_avg_sq"):
                    if f"{key}.{name}" in tensors:
                        state[key] = tensors[f"{key}.{name}"].to(parameter.device)
                if f"step.{name}" in note["counts"]:
                    state["step"] = torch.tensor(note["counts"][f"step.{name}"], device=parameter.device)
                if state:
                    self.optimizer.state[parameter] = state
        return int(note["step"]), dict(note["extra"])
