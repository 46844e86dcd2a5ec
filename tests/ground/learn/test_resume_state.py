"""Resume states: exact, the newest only, and whole whatever happens while one is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from charter.ground.artifact.errors import CharterError
from charter.ground.learn import checkpoint
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.optimizer import adamw
from charter.ground.learn.step import update


def _network(seed: int = 1, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))


def _saver(folder: Path, model: nn.Module, every: int = 0, seconds: float = 180.0) -> Saver:
    return Saver(folder, {"model": model}, adamw([(model.parameters(), 0.05)], 0.1), every, seconds)


def _train(saver: Saver, model: nn.Module, steps: range) -> None:
    for step in steps:
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        update(saver.optimizer, 1 / (step + 1), 1.0)


def test_nothing_saved_is_step_zero(tmp_path: Path) -> None:
    assert _saver(tmp_path / "never", _network()).load() == (0, {})


def test_extra_comes_back(tmp_path: Path) -> None:
    saver = _saver(tmp_path, _network())
    extra = {"scale": {"mean": 0.1, "count": 3}, "names": ["a", "b"], "nothing": None}
    saver.save(4, extra)
    assert _saver(tmp_path, _network(2)).load() == (4, extra)


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    saver = _saver(tmp_path, _network(), every=2)
    for step in range(1, 8):
        saver.maybe(step)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000006"]


def test_due_by_steps_or_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    by_steps, by_time = _saver(tmp_path, _network(), every=3), _saver(tmp_path, _network(), seconds=60)
    assert [by_steps.due(s) for s in (1, 2, 3)] == [False, False, True]
    assert not by_time.due(3)
    now = 161.0
    assert by_time.due(1)
    by_time.save(1, {})
    assert not by_time.due(2)


def test_a_torn_part_is_ignored_and_swept(tmp_path: Path) -> None:
    model = _network()
    saver = _saver(tmp_path, model)
    _train(saver, model, range(2))
    saver.save(2, {})
    torn = tmp_path / ".step-00000003.part"
    torn.mkdir()
    (torn / "rank-00000.safetensors").write_bytes(b"half")
    again = _network(5)
    resumed = _saver(tmp_path, again)
    assert resumed.load()[0] == 2
    resumed.save(4, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000004"]


def test_a_failed_write_keeps_the_state_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = _saver(tmp_path, _network())
    saver.save(1, {"at": "one"})

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CharterError, match=r"step 2 can't be written.*No space left") as caught:
        saver.save(2, {})
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert saver.load() == (1, {"at": "one"})


def test_the_same_step_again_never_leaves_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = _saver(tmp_path, _network())
    saver.save(3, {"try": 1})
    states: list[int] = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        states.append(len(list(tmp_path.glob("step-*"))))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    saver.save(3, {"try": 2})
    assert states == [1]
    assert saver.load() == (3, {"try": 2}) and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("rank-00000.safetensors", b"not tensors"),
        ("rank-00000.safetensors", b""),
        ("state.json", b'{"step": 3'),
        ("state.json", b'{"step": 3}'),
        ("state.json", b"[]"),
        ("state.json", b"\xff"),
        ("state.json", None),
    ],
)
def test_an_unreadable_state_is_one_line(tmp_path: Path, file: str, content: bytes | None) -> None:
    _saver(tmp_path, _network()).save(3, {})
    path = tmp_path / "step-00000003" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CharterError, match=r"step-00000003 can't be read.*charter gc") as caught:
        _saver(tmp_path, _network()).load()
    assert "\n" not in str(caught.value)


def test_a_state_of_other_weights_is_refused_and_moves_nothing(tmp_path: Path) -> None:
    _saver(tmp_path, _network()).save(3, {})
    wider, named = _network(width=5), nn.ModuleDict({"other": nn.Linear(3, 4)})
    for model in (wider, named):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(CharterError, match="other weights"):
            _saver(tmp_path, model).load()
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_shared_and_frozen_parameters(tmp_path: Path) -> None:
    def tied() -> nn.ModuleDict:
        model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "frozen": nn.Linear(3, 3)})
        model["b"].weight = model["a"].weight
        model["frozen"].requires_grad_(False)
        return model

    first = tied()
    saver = _saver(tmp_path, first)
    (first["a"](torch.ones(1, 3)) + first["b"](torch.ones(1, 3))).sum().backward()
    update(saver.optimizer, 1.0, 0.0)
    saver.save(1, {})
    note = json.loads((tmp_path / "step-00000001" / "state.json").read_text())
    assert sorted(note["counts"]) == ["step.model.a.bias", "step.model.a.weight", "step.model.b.bias"]
    second = tied()
    assert _saver(tmp_path, second).load()[0] == 1
    assert torch.equal(second["b"].weight, first["a"].weight)
