"""Recipes, overrides and seeds."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.settings import execution
from charter.ground.settings.execution import Execution, choose_execution, multiplies_bfloat16
from charter.ground.settings.recipe import load_recipe
from charter.ground.settings.seed import derive_seed

DRIVER = "/proc/driver/nvidia/version"
TEXT = """
name: small
steps:
  - name: a
    room: words
    from: {prompts: [x.jsonl, y.jsonl]}
    settings:
      # nothing yet
  - {name: b, room: model, from: {dialogues: a}, settings: {lr: 2e-5, deep: {x: 1}}}
"""


def load(tmp_path: Path, text: str, *changes: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, changes)


def test_a_recipe_is_read_as_written(tmp_path: Path) -> None:
    recipe = load(tmp_path, TEXT)
    a, b = recipe.steps
    assert (recipe.name, recipe.seed, a.sources, a.settings) == ("small", 0, {"prompts": ["x.jsonl", "y.jsonl"]}, {})
    assert b.settings == {"lr": 2e-5, "deep": {"x": 1}}  # a number, though YAML 1.1 says text
    assert load(tmp_path, TEXT.replace("name: small\n", "")).name == "recipe"


def test_overrides_reach_settings_inputs_rooms_and_the_seed(tmp_path: Path) -> None:
    recipe = load(
        tmp_path,
        TEXT,
        "a.count=3",
        "b.deep.x=[1, 2]",
        "b.deep.y.z=on",
        "b.lr=1e-4",
        "b.from.dialogues=c.jsonl",
        "a.room=other",
        "recipe.seed=9",
    )
    a, b = recipe.steps
    assert a.settings == {"count": 3} and a.room == "other" and recipe.seed == 9
    assert b.settings == {"lr": 1e-4, "deep": {"x": [1, 2], "y": {"z": True}}}
    assert b.sources == {"dialogues": "c.jsonl"}


def test_an_override_of_one_step_leaves_those_that_share_its_yaml_alone(tmp_path: Path) -> None:
    text = """
steps:
  - {name: a, room: r, from: &pairs {policy: x}, settings: &sizes {counts: {text: 9}, stage: one}}
  - {name: b, room: r, from: *pairs, settings: {<<: *sizes, stage: two}}
  - {name: c, room: r, from: *pairs, settings: *sizes}
"""
    a, b, c = load(tmp_path, text, "b.counts.text=3", "c.from.policy=y", "c.stage=three").steps
    assert [s.settings["counts"] for s in (a, b, c)] == [{"text": 9}, {"text": 3}, {"text": 9}]
    assert [s.sources["policy"] for s in (a, b, c)] == ["x", "x", "y"]
    assert [s.settings["stage"] for s in (a, b, c)] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("a", "write step.field=value"),
        ("a=3", "write step.field=value"),
        ("a..b=3", "write step.field=value"),
        ("c.count=3", "there is no step 'c'; allowed: a, b, recipe"),
        ("b.lr.x=3", "lr is a value and has no field below it"),
        ("b.lr=[1", "is not a YAML value"),
        ("b.lr=2024-13-45", "is not a YAML value"),
        ("recipe.sead=1", "unknown key sead; did you mean seed?"),
    ],
)
def test_a_bad_override_is_one_line(tmp_path: Path, change: str, problem: str) -> None:
    with pytest.raises(CharterError) as caught:
        load(tmp_path, TEXT, change)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a", "a recipe is a mapping with name, seed and steps"),
        ("name: x\nsteps: []", "recipe.yaml: steps: must have 1 or more entries"),
        ("steps: {a: b}", "recipe.yaml: steps: must be a list"),
        ("steps: [a]", "recipe.yaml: steps.0: must be a mapping of names to values (given 'a')"),
        ("steps: [{name: a, room: b, from: {c: 3}}]", "steps.0.from.c: must be text or a list (given 3)"),
        ("steps: [{name: a, room: b, from: [c]}]", "steps.0.from: must be a mapping of names to values"),
        ("steps: [{name: 3, room: b}]", "steps.0.name: must be text (given 3)"),
        ("name: x", "steps is missing"),
        ("name: x\nname: y\nsteps: []", "recipe.yaml:2: not valid YAML: name is written twice"),
        ("name: x\nsteps: [", "recipe.yaml:2: not valid YAML"),
        ("name: a/b\nsteps: [{name: a, room: b}]", "name: a recipe's name is letters"),
        ("steps: [{name: a b, room: b}]", "steps.0.name: a step's name is letters"),
        ("steps: [{name: recipe, room: b}]", "steps.0.name: a step's name"),
        ("steps: [{name: a}]", "steps.0.room is missing"),
        ("steps: [{name: a, room: b}, {name: a, room: c}]", "recipe.yaml: steps: two steps are called a; names must be unique"),
        ("seed: -1\nsteps: [{name: a, room: b}]", "seed: must be at least 0 (given -1)"),
        ("sead: 1\nsteps: []", "unknown key sead; did you mean seed? allowed: name, size, seed, steps"),
        ("steps: [{name: a, room: b, form: {}}]", "unknown key steps.0.form; did you mean from?"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CharterError) as caught:
        load(tmp_path, text)
    assert problem in str(caught.value) and "\n" not in str(caught.value)
    assert "[{" not in str(caught.value) and "input should" not in str(caught.value).lower()


def test_a_missing_recipe_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="there is no recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(CharterError, match="is a folder"):
        load_recipe(tmp_path)


def test_seeds_are_stable_and_apart() -> None:
    assert derive_seed(0, "rl", 3) == derive_seed(0, "rl", 3)
    seeds = [derive_seed(0, "ab"), derive_seed(0, "a", "b"), derive_seed(0, "1"), derive_seed(0, 1), derive_seed(1, 1)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(7, "step") == 1951432771


def machine(monkeypatch: pytest.MonkeyPatch, torch: str, *files: str) -> None:
    """Pretends that this torch is installed and that only these files show a GPU."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: torch)
    monkeypatch.setattr(Path, "exists", lambda self: str(self) in files)


@pytest.mark.parametrize(
    ("torch", "files", "reason"),
    [
        ("2.13.0+cpu", ("/dev/nvidia0", DRIVER), "torch 2.13.0+cpu is built without CUDA"),
        ("2.13.0", (), "there is no driver"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, torch: str, files: tuple[str, ...], reason: str
) -> None:
    machine(monkeypatch, torch, *files)
    assert choose_execution().device == "cpu"
    with pytest.raises(CharterError) as caught:
        choose_execution("cuda:1")
    assert str(caught.value) == f"--device cuda:1: no CUDA GPU here ({reason}); use --device cpu"
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(CharterError, match="only Macs have it"):
        choose_execution("mps")


def test_execution_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "2.13.0+cu128", DRIVER)
    assert choose_execution() == Execution("cuda", "bfloat16")
    for multiplies, precision in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(execution, "multiplies_bfloat16", lambda answer=multiplies: answer)
        assert choose_execution("cpu") == Execution("cpu", precision)
    assert choose_execution("cuda:1") == Execution("cuda:1", "bfloat16")
    assert choose_execution("cpu", "float32").precision == "float32"
    for device, precision in (("gpu", None), ("cpu", "float16"), ("cuda:x", None)):
        with pytest.raises(CharterError, match="unknown"):
            choose_execution(device, precision)
    assert choose_execution("cpu", "int8") == Execution("cpu", "int8")
    with pytest.raises(CharterError, match="int8: only the CPU has it, not cuda; use --device cpu"):
        choose_execution("cuda", "int8")


@pytest.mark.parametrize(
    ("text", "multiplies"),
    [
        ("model name\t: some\nflags\t\t: fpu avx512_bf16 sse\n", True),
        ("flags: amx_bf16\n", True),
        ("flags: avx512f\n", False),
        ("", False),
    ],
)
def test_bfloat16_products_are_read_from_the_cpus_flags(tmp_path: Path, text: str, multiplies: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is multiplies
    assert multiplies_bfloat16(tmp_path / "none") is False
