"""Several preference models of one start in one checkpoint: their weights are averaged (WARM, Rame 2024, 2401.12187).

Members share the start, the pairs and the zero head. Each has its own order of the pairs, and its own adapters if
adapters are trained. One member is in memory at a time. After training, its weights are added to a sum on disk, beside
its score gaps on the held-out pairs.

    members-00002.safetensors   sum of the weights of two members by their names, gaps [members, pairs]
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import TEMPORARY, fsync_folder
from charter.ground.learn.parallel import broadcast, world
from charter.ground.model.checkpoint import named_tensors
from charter.ground.model.folder import SCORE
from charter.ground.model.heads import ScoreHead
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed

GAPS = "gaps"
_ERRORS = (OSError, SafetensorError)


def member_seed(seed: int, number: int) -> int:
    """The seed of a member's order and adapters; member 0 has the step's seed."""
    return derive_seed(seed, "member", number) if number else seed


class Sum:
    """The sum of the trained members, in a folder that all processes share. It is replaced atomically, so a kill leaves
    the previous sum."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, count: int) -> Path:
        return self.folder / f"members-{count:05d}.safetensors"

    def state(self, number: int) -> Path:
        """The folder of a member's resume states, numbered from 0; it is removed once the sum includes the member."""
        return self.folder / f"member-{number}"

    def count(self) -> int:
        """How many members the sum includes, by the leader's disk."""
        last = max((path.stem for path in self.folder.glob("members-*.safetensors")), default="members-0")
        return int(broadcast(last.encode()).decode().removeprefix("members-"))

    def add(self, model: Transformer, head: ScoreHead, gaps: list[float]) -> None:
        """Add a member with whole weights. Raises CharterError in all processes if writing fails."""
        count, problem = self.count(), ""
        if world().leads:
            try:
                self._write(count, {**named_tensors(model, merged=True), SCORE: head.weight.detach()}, gaps)
            except CharterError as error:
                problem = str(error)
            except _ERRORS as error:
                problem = (
                    f"the sum of {count + 1} members can't be written to {self.folder} ({error}); make room on the "
                    "disk and run again: what was learnt is kept"
                )
        if shared_problem := broadcast(problem.encode()).decode():
            raise CharterError(shared_problem)

    def _write(self, count: int, weights: dict[str, Tensor], gaps: list[float]) -> None:
        tensors = {name: tensor.float().cpu().contiguous() for name, tensor in weights.items()}
        rows = torch.tensor([gaps], dtype=torch.float64)
        if count:
            tensors |= {name: tensor + tensors[name] for name, tensor in self._read(count, list(tensors))}
            rows = torch.cat([*(before for _, before in self._read(count, [GAPS])), rows])
        target = self._path(count + 1)
        part = target.with_name(TEMPORARY + target.name)
        save_file({**tensors, GAPS: rows}, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        fsync_folder(self.folder)
        self._path(count).unlink(missing_ok=True)
        shutil.rmtree(self.state(count), ignore_errors=True)

    @torch.no_grad()
    def mean(self, model: Transformer, head: ScoreHead) -> list[list[float]]:
        """Set a model of their shape to the mean of the members; returns their gaps [members][pairs]."""
        count, tensors = self.count(), {**named_tensors(model), SCORE: head.weight.detach()}
        for name, total in self._read(count, list(tensors)):
            tensors[name].copy_(total / count)
        ((_, gaps),) = self._read(count, [GAPS])
        rows: list[list[float]] = gaps.tolist()
        return rows

    def _read(self, count: int, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Tensors of the sum of `count` members, one at a time. Raises CharterError for a damaged file."""
        try:
            with safe_open(self._path(count), "pt") as file:
                for name in names:
                    yield name, file.get_tensor(name)
        except _ERRORS as error:
            raise CharterError(
                f"the sum of {count} members can't be read ({error}); remove it with `charter gc RUN --partial` and "
                "run again"
            ) from error
