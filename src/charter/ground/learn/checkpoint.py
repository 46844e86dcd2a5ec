"""Exact training state on disk: weights, optimizer moments and counters, in safetensors and JSON, never pickle.

A state folder is written beside its final name and renamed last, so a kill leaves the previous one whole; only the
newest is kept. After loading it, the next step equals, bit for bit, the step of a run that was never stopped.

    step-00000012/rank-00000.safetensors   the rows of each tensor in process 0 (all rows, if it is alone)
    step-00000012/state.json               finished steps, counters, shapes, and each file's first row of each tensor

Several processes write side by side and read only the rows that they need. So any number of processes can load a state;
the next steps then equal those of a run that was never stopped, up to the order in which floats are added.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import fsync_folder
from charter.ground.learn.parallel import agree, broadcast, gather, rows_here, settle, world

_ERRORS = (OSError, SafetensorError)


def _trainable(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    settle(*modules.values())
    parameters: dict[str, nn.Parameter] = {}
    ids: set[int] = set()
    for label, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in ids:
                ids.add(id(parameter))
                parameters[f"{label}.{name}"] = parameter
    return parameters


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _file(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


class _Pieces:
    """Tensors of a state, each spread over some files by rows; reads only the rows needed."""

    def __init__(self, note: Mapping[str, Any], files: list[Any]) -> None:
        self.shapes = {str(name): torch.Size(shape) for name, shape in note["shapes"].items()}
        self.starts = [{str(name): int(at) for name, at in starts.items()} for starts in note["starts"]]
        self.files = files

    def fill(self, target: Tensor, name: str) -> None:
        """Copies the rows of the tensor `name` into a tensor, or into this process's part of it. Raises OSError if the
        files lack some."""
        rows, first = rows_here(target)
        missing = len(rows)
        for file, starts in zip(self.files, self.starts, strict=True):
            if name not in starts:
                continue
            piece, start = file.get_slice(name), starts[name]
            begin, end = max(first, start), min(first + len(rows), start + piece.get_shape()[0])
            if begin < end:
                rows[begin - first : end - first] = piece[begin - start : end - start]
                missing -= end - begin
        if missing:
            raise OSError(f"{missing} rows of {name} are missing")


@contextmanager
def _open(folder: Path) -> Iterator[tuple[dict[str, Any], _Pieces]]:
    """The note of a state and its tensors."""
    try:
        note = json.loads((folder / "state.json").read_text())
        note = {"step": int(note["step"]), "extra": dict(note["extra"]), "counts": dict(note["counts"])} | {
            key: note[key] for key in ("shapes", "starts")
        }
        with ExitStack() as stack:
            files = [stack.enter_context(safe_open(folder / _file(rank), "pt")) for rank in range(len(note["starts"]))]
            yield note, _Pieces(note, files)
    except (*_ERRORS, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CharterError(
            f"resume state {folder.name} can't be read ({error}); "
            "remove it with `charter gc RUN --partial` and run again"
        ) from error


class Saver:
    """Decides when to save (every `every` steps, or after `seconds`) and keeps only the newest state."""

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
        """Whether it is time to save, by the leader's clock."""
        if self.every:
            return step % self.every == 0
        return agree(time.monotonic() - self.last > self.seconds)

    def maybe(self, step: int, extra: Mapping[str, Any] | None = None) -> None:
        """Save the state after `step` finished steps, if it is time."""
        if self.due(step):
            self.save(step, extra or {})

    def save(self, step: int, extra: Mapping[str, Any]) -> None:
        """Write the state after `step` finished steps, then drop all older ones. If the disk fails in one process, it
        raises CharterError in all, and the previous state stays."""
        target = self.folder / f"step-{step:08d}"
        while target.exists():  # saved before: both are whole until the new one is in place
            target = target.with_name(target.name + "-again")
        part = self.folder / f".{target.name}.part"
        counts, tensors = self._state()
        starts = [json.loads(each) for each in gather(json.dumps({n: at for n, (_, at) in tensors.items()}).encode())]
        note = {"step": step, "counts": counts, "shapes": self._shapes(), "starts": starts, "extra": dict(extra)}
        self._do_everywhere(step, lambda: self._begin(part))
        self._do_everywhere(
            step, lambda: _write(part / _file(world().rank), {name: rows for name, (rows, _) in tensors.items()})
        )
        self._do_everywhere(step, lambda: self._finish(part, target, json.dumps(note)))
        self.last = time.monotonic()

    def _do_everywhere(self, step: int, action: Callable[[], None]) -> None:
        """Runs an action in all processes. If it fails in one, all raise CharterError."""
        problem = ""
        try:
            action()
        except _ERRORS as error:
            problem = str(error) or type(error).__name__
        failed = [words.decode() for words in gather(problem.encode()) if words]
        if failed:
            if world().leads:
                self._drop_parts()
            raise CharterError(
                f"the resume state of step {step} can't be written to {self.folder} ({failed[0]}); "
                "make room on the disk and run again: the state before it is kept"
            )

    def _drop_parts(self) -> None:
        for part in self.folder.glob(".step-*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def _begin(self, part: Path) -> None:
        if world().leads:
            self._drop_parts()
            part.mkdir(parents=True)

    def _finish(self, part: Path, target: Path, note: str) -> None:
        if not world().leads:
            return
        (part / "state.json").write_text(note)
        _sync(part / "state.json")
        fsync_folder(part)
        part.rename(target)
        fsync_folder(self.folder)
        for old in self.folder.glob("step-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)

    def _list_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every trainable weight and the optimizer's tensors for it: `weight.NAME`, `exp_avg.NAME`."""
        for name, parameter in _trainable(self.modules).items():
            yield f"weight.{name}", parameter
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if torch.is_tensor(value) and value.ndim:
                    yield f"{key}.{name}", value

    def _shapes(self) -> dict[str, list[int]]:
        return {name: list(tensor.shape) for name, tensor in self._list_tensors()}

    def _state(self) -> tuple[dict[str, float], dict[str, tuple[Tensor, int]]]:
        """(the optimizer's counters, the rows of each tensor that this process writes and the number of the first
        row)."""
        counts = {
            f"{key}.{name}": float(value)
            for name, parameter in _trainable(self.modules).items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if not (torch.is_tensor(value) and value.ndim)
        }
        pieces = {name: rows_here(tensor) for name, tensor in self._list_tensors()}
        return counts, {
            name: (rows.contiguous(), first)
            for name, (rows, first) in pieces.items()
            if len(rows) and (world().leads or first)  # the leader writes tensors that aren't sharded
        }

    def load(self) -> tuple[int, dict[str, Any]]:
        """Put the newest state back into the modules and the optimizer: (finished steps, extra); (0, {})
        without one."""
        newest = broadcast(max((path.name for path in self.folder.glob("step-*")), default="").encode()).decode()
        if not newest:
            return 0, {}
        parameters = _trainable(self.modules)
        with _open(self.folder / newest) as (note, pieces), torch.no_grad():
            saved = {n.removeprefix("weight."): s for n, s in pieces.shapes.items() if n.startswith("weight.")}
            if saved != {name: parameter.shape for name, parameter in parameters.items()}:
                raise CharterError(
                    f"resume state {newest} is of other weights than those to be trained; "
                    "remove it with `charter gc RUN --partial` and run again"
                )
            for label in pieces.shapes:
                key, _, name = label.partition(".")
                if key == "weight":
                    pieces.fill(parameters[name], label)
                else:  # moments take the parameter's strides, which the fused step needs
                    moment = self.optimizer.state[parameters[name]][key] = torch.empty_like(parameters[name])
                    pieces.fill(moment, label)
            for label, count in note["counts"].items():
                key, _, name = label.partition(".")
                parameter = parameters[name]
                self.optimizer.state[parameter][key] = torch.tensor(count, device=parameter.device)
            return note["step"], note["extra"]


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file(dict(tensors), path)
    _sync(path)
