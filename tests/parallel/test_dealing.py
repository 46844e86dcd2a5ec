"""How work is dealt to processes, as pure functions of who one is; and what a process alone finds."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.learn import parallel
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.parallel import World
from charter.ground.text.packing import microbatches
from charter.runner.company import company
from charter.terminal import launch


def _each(monkeypatch: pytest.MonkeyPatch, size: int, lengths: list[int], most: int) -> list[list[list[int]]]:
    found = []
    for rank in range(size):
        monkeypatch.setattr(parallel, "world", lambda rank=rank: World(rank, size))
        found.append(parallel.portion(lengths, most))
    return found


def test_portions_cover_all_once_within_the_budget_and_are_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    for size in (2, 3, 5):
        lengths = [draw.randrange(1, 90) for _ in range(40)]
        dealt = _each(monkeypatch, size, lengths, 100)
        assert sorted(i for own in dealt for group in own for i in group) == list(range(40))
        assert all(sum(lengths[i] for i in group) <= 100 for own in dealt for group in own)
        assert len({len(own) for own in dealt}) == 1
        tokens = [sum(lengths[i] for group in own for i in group) for own in dealt]
        assert max(tokens) - min(tokens) <= max(lengths)


def test_a_process_without_items_gets_as_many_empty_microbatches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _each(monkeypatch, 3, [50, 40], 60) == [[[0]], [[1]], [[]]]
    assert _each(monkeypatch, 2, [90, 30, 30, 30], 30) == [[[0], [], []], [[1], [2], [3]]]


def test_alone_portions_are_microbatches_and_shares_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [5, 70, 20, 20, 64, 1]
    assert parallel.portion(lengths, 64) == microbatches(lengths, 64)
    assert parallel.share(["a", "b"]) == ["a", "b"]
    assert [parallel.share("abc", World(rank, 2)) for rank in (0, 1)] == [["a", "c"], ["b", None]]


def test_alone_nothing_is_copied_or_exchanged() -> None:
    model = toys.model()
    parallel.distribute(model)
    with parallel.full(model) as whole:
        assert whole is model
    assert parallel.totals([1.5, 2.0]) == [1.5, 2.0] and parallel.each(3.0) == [3.0]
    assert parallel.gather(b"x") == [b"x"] and parallel.broadcast(b"y") == b"y" and parallel.agree(True)
    assert parallel.divide([1, 2], lambda items: [item * item for item in items]) == [1, 4]
    assert parallel.Work().add(7) == {}


def test_cores_are_divided_among_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "physical_cores", lambda: 8)
    for local, threads in (("", "8"), ("1", "8"), ("2", "4"), ("3", "2"), ("16", "1")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        assert launch.settings()["OMP_NUM_THREADS"] == threads


def test_half_an_environment_of_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for name in ("RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(CharterError, match="WORLD_SIZE is 2, but RANK and MASTER_PORT aren't set: start the command"),
        company(),
    ):
        pass


def _cut(folder: Path, at: int) -> None:
    """Writes a state of one process as two would have, each of whose tensors is cut after `at` rows."""
    (state,) = folder.glob("step-*")
    tensors = load_file(state / "rank-00000.safetensors")
    save_file({name: t[:at].clone() for name, t in tensors.items()}, state / "rank-00000.safetensors")
    rest = {name: t[at:].clone() for name, t in tensors.items() if len(t) > at}
    save_file(rest, state / "rank-00001.safetensors")
    note = json.loads((state / "state.json").read_text())
    note["starts"] = [dict.fromkeys(tensors, 0), dict.fromkeys(rest, at)]
    (state / "state.json").write_text(json.dumps(note))


def _saver(folder: Path, seed: int) -> Saver:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 1))
    optimizer = adamw([(model.parameters(), 0.1)])
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return Saver(folder, {"model": model}, optimizer)


def test_a_state_in_pieces_is_put_together(tmp_path: Path) -> None:
    first, second = _saver(tmp_path, 1), _saver(tmp_path, 2)
    first.save(3, {})
    _cut(tmp_path, 2)
    assert second.load()[0] == 3
    for mine, its in zip(first.modules["model"].parameters(), second.modules["model"].parameters(), strict=True):
        assert torch.equal(mine, its)
        mine_kept, its_kept = first.optimizer.state[mine], second.optimizer.state[its]
        assert mine_kept.keys() == its_kept.keys()
        assert all(torch.equal(mine_kept[key], its_kept[key]) for key in mine_kept)


def test_a_state_that_lacks_rows_is_refused(tmp_path: Path) -> None:
    saver = _saver(tmp_path, 1)
    saver.save(3, {})
    _cut(tmp_path, 2)
    (state,) = tmp_path.glob("step-*")
    note = json.loads((state / "state.json").read_text())
    note["starts"][1] = {}
    (state / "state.json").write_text(json.dumps(note))
    with pytest.raises(CharterError, match=r"can't be read \(3 rows of weight.model.0.weight are missing\)"):
        _saver(tmp_path, 2).load()
