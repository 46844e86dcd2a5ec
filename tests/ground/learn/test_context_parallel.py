"""Context parallelism: several processes attend as one, forward and backward, alone and under sharded weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.learn.loss import cross_entropy_sum
from charter.ground.learn.parallel import World, distribute, start, stop, whole
from charter.ground.learn.step import autocast
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer
from charter.rooms.pretrain.context_parallel import Team, team

SHAPE = replace(toys.SHAPE, max_positions=8192, qk_norm=True)
SHORT, LONG = (37, 5, 64, 1), (6200, 9)  # the second is long enough for the blocks that keep little
CASES = {"short": (SHORT, False, "float32"), "lean": (LONG, True, "float32"), "half": (SHORT, True, "bfloat16")}


def texts(lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    ids = torch.randint(0, SHAPE.vocab_size, (sum(lengths) + 1,), generator=rng)
    return ids[:-1], ids[1:]


def learn_row(model: Transformer, own: Team, case: str) -> dict[str, Tensor]:
    """Loss and gradients of this process's part of a case."""
    lengths, model.recompute, precision = CASES[case]
    model.zero_grad(set_to_none=True)
    row = own.row(*texts(lengths), documents(lengths))
    with autocast("cpu", precision):
        hidden = model.hidden(row.inputs, row.layout)
        weights = row.real / sum(lengths)
        loss = cross_entropy_sum(hidden, model.head_weight(), row.targets, weights)
    loss.backward()  # type: ignore[no-untyped-call]
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach()} | {name: whole(grad) for name, grad in grads.items()}


def work(rank: int, size: int, folder: Path) -> None:
    """One of the processes of a test: every case with plain weights, summed here, and one with sharded ones."""
    torch.set_num_threads(1)
    start(dist.FileStore(str(folder / "store"), size), rank, size)
    own = team(size)
    model = toys.model(shape=SHAPE, scale=2.0)
    for case in CASES:
        results = learn_row(model, own, case)
        for tensor in results.values():
            dist.all_reduce(tensor)
        if rank == 0:
            save_file(results, folder / f"{case}.safetensors")
    distribute(model)
    sharded = learn_row(model, own, "short")
    dist.all_reduce(sharded["loss"])
    if rank == 0:
        save_file(sharded, folder / "sharded.safetensors")
    stop()


@pytest.fixture(scope="module")
def alone() -> Mapping[str, dict[str, Tensor]]:
    model = toys.model(shape=SHAPE, scale=2.0)
    return {case: learn_row(model, Team(0, 1, World()), case) for case in CASES}


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_team_learns_what_one_process_does(size: int, alone: Mapping[str, dict[str, Tensor]], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, __file__, str(size), str(tmp_path)]
    started = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(size)]
    assert [process.wait(timeout=100) for process in started] == [0] * size
    for case in (*CASES, "sharded"):
        results, expected = (load_file(tmp_path / f"{case}.safetensors"), alone[case.replace("sharded", "short")])
        assert results.keys() == expected.keys() and len(expected) > 15
        for name, value in expected.items():
            most = (3e-2 if case == "half" else 1e-5) * max(1.0, float(value.abs().max()))
            assert float((results[name] - value).abs().max()) < most, (case, name)


def test_every_token_is_read_once_at_its_position_and_work_is_even() -> None:
    inputs, targets = texts(SHORT)
    seen: dict[int, list[tuple[int, int]]] = {}
    for rank in range(3):
        row = Team(rank, 3, World()).row(inputs, targets, documents(SHORT))
        for token, target, place, real in zip(
            row.inputs.tolist(), row.targets.tolist(), row.layout.positions.tolist(), row.real.tolist(), strict=True
        ):
            if real:
                seen.setdefault(place, []).append((token, target))
    wanted: dict[int, list[tuple[int, int]]] = {}
    at = 0
    for length in SHORT:
        for place in range(length):
            wanted.setdefault(place, []).append((int(inputs[at + place]), int(targets[at + place])))
        at += length
    assert {place: sorted(places) for place, places in seen.items()} == {p: sorted(w) for p, w in wanted.items()}
    positions = [
        Team(rank, 3, World()).row(inputs[:102], targets[:102], documents([102])).layout.positions for rank in range(3)
    ]
    assert {int(own.sum()) for own in positions} == {int(positions[0].sum())}  # tokens seen, over all queries


def test_processes_that_make_no_whole_teams_are_refused() -> None:
    assert team(1) == Team(0, 1, World())
    with pytest.raises(CharterError, match="1 processes don't make teams of 2"):
        team(2)


if __name__ == "__main__":
    work(int(sys.argv[3]), int(sys.argv[1]), Path(sys.argv[2]))
