"""The dial: a golden table of what follows from it, that every value gives way to its setting, what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from pretrain_world import corpus_folder, texts, tokenizer
from pydantic import ValidationError

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.progress import SilentProgress
from charter.ground.learn.flops import multiplying
from charter.ground.model import folder
from charter.ground.model.checkpoint import new_model
from charter.ground.model.shape import from_config, to_config
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.settings.room import Given, Sizes
from charter.rooms.pretrain.learning import optimizer_of
from charter.rooms.pretrain.settings import Settings, check, context, estimate
from charter.rooms.pretrain.size import NAMED, Learning, Sizing, Stage, Window, derive
from charter.runner.execute import execute
from charter.runner.forecast import expected_minutes, forecast, read_vocabulary
from charter.runner.plan import make_plan, size_of

VOCABULARY = 16384
# size -> layers, width, heads, key heads, head size, feed-forward, context, tied; millions that multiply; log2 of the
# batch, steps, warm-up, decay; rate of all else
GOLDEN: dict[int | str, tuple[Any, ...]] = {
    "tiny": (4, 128, 4, 2, 32, 384, 512, True, 2.9, 15, 1760, 36, 704, 1e-2),
    "mini": (6, 256, 4, 2, 64, 704, 1024, True, 8.6, 16, 2630, 53, 1052, 2 / 256),
    "small": (8, 384, 6, 3, 64, 1024, 1024, True, 19.3, 17, 2940, 59, 1176, 2 / 384),
    2: (2, 256, 4, 2, 64, 704, 1024, True, 5.7, 16, 1730, 35, 692, 2 / 256),
    4: (4, 512, 8, 4, 64, 1408, 1024, True, 20.2, 17, 3080, 62, 1232, 2 / 512),
    6: (6, 768, 12, 6, 64, 2048, 1024, True, 51.5, 17, 7860, 158, 3144, 2 / 768),
    "medium": (10, 1280, 10, 5, 128, 3456, 2048, True, 202.8, 18, 15475, 310, 6190, 2 / 1280),
    "large": (16, 2048, 16, 4, 128, 5504, 4096, False, 742.4, 19, 28320, 567, 11328, 2 / 2048),
    "xl": (24, 3072, 24, 6, 128, 8192, 4096, False, 2428.5, 20, 46320, 927, 18528, 2 / 3072),
    40: (40, 5120, 40, 5, 128, 13696, 8192, False, 10858.0, 21, 103550, 2071, 41420, 2 / 5120),
    64: (64, 8192, 64, 8, 128, 21888, 8192, False, 44224.7, 22, 210880, 4218, 84352, 2 / 8192),
}


@pytest.mark.parametrize("size", GOLDEN)
def test_golden_table(size: int | str) -> None:
    plan = derive(Settings(size=size), VOCABULARY)
    shape = plan.shape
    row = (
        *(shape.num_layers, shape.hidden_size, shape.num_heads, shape.num_kv_heads, shape.head_dim),
        *(shape.intermediate_size, plan.context, shape.tied, round(multiplying(shape) / 1e6, 1)),
        *(plan.batch_tokens.bit_length() - 1, plan.steps, plan.warmup, plan.decay, plan.lr),
    )
    assert row == GOLDEN[size]
    assert plan.tokens == plan.steps * plan.batch_tokens == pytest.approx(20 * multiplying(shape), rel=0.01)
    assert (plan.matrix_lr, plan.weight_decay) == (0.02, 0.01)


def test_the_rule_gives_the_research_models_of_2022() -> None:
    """13M, 42M, 197M, 805M, 2.7B, 12.6B and 51.5B without embeddings (spec 2.2), counted as 12 L d^2: ours have fewer
    key heads, and a feed-forward rounded up."""
    for layers, millions in ((4, 13), (6, 42), (10, 197), (16, 805), (24, 2700), (40, 12600), (64, 51500)):
        shape = derive(Settings(size=layers), VOCABULARY).shape
        width = shape.hidden_size
        assert width == 128 * layers and 12 * layers * width**2 == pytest.approx(millions * 1e6, rel=0.05)
        blocks = multiplying(shape) - VOCABULARY * width
        assert 0.75 < blocks / (12 * layers * width**2) < 1.0


def test_every_shape_is_one_that_checkpoints_spell() -> None:
    for size in (*NAMED, 1, 3, 5, 7, 12):
        shape = derive(Settings(size=size), VOCABULARY).shape
        assert from_config(to_config(shape)) == shape
        assert shape.qk_norm and shape.family == "qwen3" and shape.num_heads % shape.num_kv_heads == 0


@pytest.mark.parametrize("size, heads, keys", [(7, 14, 7), (9, 9, 9), (18, 18, 9), (20, 20, 5), (36, 36, 9)])
def test_key_heads_divide_the_query_heads_at_any_depth(size: int, heads: int, keys: int) -> None:
    shape = derive(Settings(size=size), VOCABULARY).shape
    assert (shape.num_heads, shape.num_kv_heads) == (heads, keys)


SIZED = {
    "layers": ("num_layers", 3),
    "width": ("hidden_size", 96),
    "heads": ("num_heads", 8),
    "key_heads": ("num_kv_heads", 1),
    "head_size": ("head_dim", 16),
    "feed_forward": ("intermediate_size", 100),
    "context": ("max_positions", 77),
    "rope_base": ("rope_theta", 5e5),
    "tied": ("tied", False),
}


@pytest.mark.parametrize("field", Sizing.model_fields)
def test_every_part_gives_way_to_its_setting(field: str) -> None:
    name, value = SIZED[field]
    sizing = Sizing.model_validate({field: value})
    assert getattr(derive(Settings(sizing=sizing), VOCABULARY).shape, name) == value


@pytest.mark.parametrize(
    "field, name, value",
    [
        ("steps", "steps", 11),
        ("batch_tokens", "batch_tokens", 1000),
        ("microbatch_tokens", "microbatch_tokens", 100),
        ("matrix_lr", "matrix_lr", 0.5),
        ("lr", "lr", 0.25),
        ("weight_decay", "weight_decay", 0.0),
    ],
)
def test_every_number_of_learning_gives_way(field: str, name: str, value: float) -> None:
    assert getattr(derive(Settings(learning=Learning.model_validate({field: value})), 500), name) == value


def test_shares_ratio_and_measurements_give_way() -> None:
    learning = Learning(tokens_per_weight=1.0, warmup=0.5, decay=0.0)
    plan, usual = (derive(Settings(learning=one), 500) for one in (learning, Learning()))
    assert plan.tokens * 19 < usual.tokens and plan.decay == 0 and plan.warmup == -(-plan.steps // 2)
    assert derive(Settings(learning=Learning(tokens=2**20, batch_tokens=2**12)), 500).steps == 256
    assert derive(Settings(save_every=5), 500).save_every == 5 and usual.save_every == usual.steps // 50
    adam = derive(Settings(size=6, learning=Learning(optimizer="adamw")), 500)
    assert (adam.matrix_lr, adam.weight_decay) == (1 / 768, 0.1)


def test_a_longer_window_is_learnt_at_a_tenth_of_the_rates() -> None:
    window = Window(stages=(Stage(window=1024, steps=10),))
    plan, usual = (derive(Settings(size=6, window=one), 500) for one in (window, Window()))
    assert (plan.matrix_lr, plan.lr) == pytest.approx((usual.matrix_lr / 10, usual.lr / 10))
    said = Learning(matrix_lr=0.5, lr=0.25)
    plan = derive(Settings(size=6, window=window, learning=said), 500)
    assert (plan.matrix_lr, plan.lr) == (0.5, 0.25)


BOTH = {"corpus": [Given("corpus")], "policy": [Given("base", 512)]}


def test_what_is_no_size_is_refused_in_one_line() -> None:
    for wrong in ("huge", 0, -1):
        with pytest.raises(ValidationError, match="layers"):
            Settings(size=wrong)
    assert "divisor" in check(Settings(sizing=Sizing(heads=4, key_heads=3)), {})
    assert "policy" in check(Settings(sizing=Sizing(layers=3)), BOTH)
    assert "remove it" in check(Settings(size="mini"), BOTH)
    assert check(Settings(sizing=Sizing(context=64)), BOTH) == ""
    assert "base reads 512 tokens" in check(Settings(sizing=Sizing(context=1024)), BOTH)
    assert check(Settings(sizing=Sizing(context=1024)), {"policy": [Given("base")]}) == "", "unknown yet"


def test_a_plan_knows_what_a_model_will_read_at_once() -> None:
    long = Settings(window=Window(stages=(Stage(window=1024, steps=1), Stage(window=4096, steps=1))))
    assert context(long, BOTH) == 4096
    assert context(Settings(), BOTH) == context(Settings(sizing=Sizing(context=64)), BOTH) == 512
    assert context(Settings(size="mini"), {}) == 1024 and context(Settings(sizing=Sizing(context=64)), {}) == 64


def test_a_plan_grows_with_the_size_and_knows_recompute() -> None:
    sizes = Sizes(threads=2)
    rows = [estimate(Settings(size=size), sizes) for size in ("tiny", "small", 6, "large", 40)]
    for one, other in pairwise(rows):
        assert one.minutes < other.minutes and one.memory_gib < other.memory_gib and one.disk_gib < other.disk_gib  # type: ignore[operator]
    lean = estimate(Settings(size="large", recompute=True), sizes)
    assert lean.memory_gib < rows[3].memory_gib  # type: ignore[operator]
    gpu = estimate(Settings(size="large"), Sizes(device="cuda", precision="bfloat16"))
    assert gpu.minutes < rows[3].minutes / 100  # type: ignore[operator]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_plan_counts_what_the_optimizer_keeps(optimizer: Literal["adamw", "muon"]) -> None:
    """On disk lie the weights, and two states of weights and moments."""
    settings = Settings(size="tiny", learning=Learning(optimizer=optimizer))
    plan = derive(settings, 512)
    model = new_model(plan.shape, 0, "cpu")
    stepped_optimizer = optimizer_of(model, plan, settings.learning)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    stepped_optimizer.step()
    moments = sum(4 * m.numel() for state in stepped_optimizer.state.values() for m in state.values() if m.numel() > 1)
    weights = 4 * plan.shape.num_parameters
    disk_gib = estimate(settings, Sizes(vocabulary={"corpus": 512})).disk_gib
    assert disk_gib == pytest.approx((weights + 2 * (weights + moments)) / 2**30, rel=1e-6)


def test_a_plan_counts_the_vocabulary_that_the_corpus_will_have(tmp_path: Path) -> None:
    """On a CPU most of a small model's time is its head."""
    (tmp_path / "texts.jsonl").write_text('{"text": "the cat sat on the mat"}\n')

    def minutes(vocabulary: int) -> float:
        corpus = {"from": {"sources": "./texts.jsonl"}, "settings": {"vocabulary": {"size": vocabulary}}}
        steps = [
            {"name": "corpus", "room": "corpus", **corpus},
            {"name": "base", "room": "pretrain", "from": {"corpus": "corpus"}},
        ]
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({"name": "sizes", "seed": 1, "steps": steps}))
        plan = make_plan(load_recipe(path, []), tmp_path, tmp_path / "run", Execution())
        minutes = expected_minutes(plan)["base"]
        assert minutes is not None
        return minutes

    assert minutes(4096) < minutes(32768) / 3
    known = Sizes(vocabulary={"corpus": 4096})
    assert estimate(Settings(), known).minutes < estimate(Settings(), Sizes()).minutes / 3  # type: ignore[operator]


def test_a_plan_knows_the_shape_of_the_model_that_goes_on(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "the cat sat on the mat"}\n')

    def minutes(size: str) -> float:
        steps = [
            {"name": "corpus", "room": "corpus", "from": {"sources": "./texts.jsonl"}},
            {"name": "base", "room": "pretrain", "from": {"corpus": "corpus"}, "settings": {"size": size}},
            {"name": "tuned", "room": "finetune", "from": {"policy": "base", "dialogues": "shipped:helpful.train"}},
            {"name": "long", **_long("tuned", 2048)},
        ]  # fmt: skip
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({"name": "sizes", "seed": 1, "steps": steps}))
        by_step = expected_minutes(make_plan(load_recipe(path, []), tmp_path, tmp_path / "run", Execution()))
        assert by_step["long"] is not None
        return by_step["long"]

    assert minutes("small") > 2 * minutes("mini") > 4 * minutes("tiny")
    entry = toys.policy(toys.policy_folder(tmp_path / "model"))
    model = size_of(entry)
    assert model is not None and model.shape == toys.SHAPE
    with pytest.raises(CharterError, match=r"has no config\.json"):
        size_of(replace(entry, path=tmp_path / "none"))


def test_a_plan_reads_a_model_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.policy_folder(tmp_path / "model")
    tuned = {"room": "finetune", "from": {"policy": "./model", "dialogues": "shipped:helpful.train"}}
    path = tmp_path / "recipe.yaml"
    steps = [{"name": "one", **tuned}, {"name": "two", **tuned}]
    path.write_text(yaml.safe_dump({"name": "twice", "seed": 1, "steps": steps}))
    headers: list[Path] = []
    real = folder.read_header
    monkeypatch.setattr(folder, "read_header", lambda place: headers.append(place) or real(place))
    plan = make_plan(load_recipe(path, []), tmp_path, tmp_path / "run", Execution())
    minutes = expected_minutes(plan)
    assert len(headers) == 1 and minutes["one"] == minutes["two"] is not None
    (model,) = plan.steps[0].models.values()
    assert model.shape == toys.SHAPE and plan.steps[1].context == toys.SHAPE.context


def test_a_plan_knows_the_vocabulary_of_a_corpus_that_is_there(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "corpus", texts(40), texts(5, 1))
    entry = Input("corpus", "corpus", "corpus", None, folder, str(folder), "0" * 64)
    assert read_vocabulary(entry) == tokenizer().vocab_size


def test_a_plan_compares_windows_of_steps_that_have_not_run(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "the cat sat on the mat"}\n')
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "cat.txt").write_text("the cat sat on the mat")

    def planned(**changed: dict[str, Any]) -> dict[str, int | None]:
        steps: dict[str, dict[str, Any]] = {
            "corpus": {"room": "corpus", "from": {"sources": "./texts.jsonl"}},
            **{name: {"room": "pretrain", "from": {"corpus": "corpus"}} for name in "abc"},
            "law": {"room": "scaling", "from": {"models": ["a", "b", "c"]}},
            "long": _long("a", 1024),
            "tuned": {"room": "finetune", "from": {"policy": "long", "dialogues": "shipped:helpful.train"}},
            "longer": _long("tuned", 2048),
        }
        steps |= changed
        path = tmp_path / "recipe.yaml"
        listed = [{"name": name, **step} for name, step in steps.items()]
        path.write_text(yaml.safe_dump({"name": "windows", "seed": 1, "steps": listed}))
        plan = make_plan(load_recipe(path, []), tmp_path, tmp_path / "run", Execution())
        return {step.name: step.context for step in plan.steps}

    by_step = planned()
    assert {name: by_step[name] for name in ("a", "long", "tuned", "longer", "corpus")} == {
        "a": 512, "long": 1024, "tuned": 1024, "longer": 2048, "corpus": None}  # fmt: skip
    for changed, words in (
        ({"long": _long("a", 512)}, "begins at 512 tokens, and a already reads 512"),
        ({"longer": _long("tuned", 768)}, "begins at 768 tokens, and tuned already reads 1024"),
        ({"long": _long("random:tiny", 1024)}, "and random:tiny already reads 1024"),
        ({"law": {"room": "scaling", "from": {"models": ["a", "b"]}}}, "`models` names 2"),
        ({"a": {"room": "pretrain", "from": {"corpus": "./texts"}}}, "takes a corpus, which a step of the room"),
        ({"law": {"room": "scaling", "from": {"models": ["a", "b", "c", "long"]}}}, "at once and long 1024"),
    ):
        with pytest.raises(CharterError, match=words):
            planned(**changed)


def _long(policy: str, window: int) -> dict[str, Any]:
    settings = {"window": {"stages": [{"window": window, "steps": 1}]}}
    return {"room": "pretrain", "from": {"corpus": "corpus", "policy": policy}, "settings": settings}


def test_a_row_for_more_processes_than_there_are_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "the cat sat on the mat"}\n')
    steps = [
        {"name": "corpus", "room": "corpus", "from": {"sources": "./texts.jsonl"}},
        {"name": "base", "room": "pretrain", "from": {"corpus": "corpus"}, "settings": {"parallel": {"context": 2}}},
    ]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "rows", "seed": 1, "steps": steps}))
    recipe = load_recipe(tmp_path / "recipe.yaml", [])
    plan = make_plan(recipe, tmp_path, tmp_path / "run", Execution())

    def refusals() -> list[str | None]:
        return [line.standing.refusal for line in forecast(plan)]

    corpus, base = refusals()
    assert corpus is None and base is not None
    assert "step base (room pretrain): parallel.context is 2 and one process runs it; set it" in base
    with pytest.raises(CharterError, match=r"parallel\.context is 2 and one process"):
        execute(plan, SilentProgress())
    assert not (tmp_path / "run" / "corpus").exists() and not (tmp_path / "run" / ".partial").exists()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert refusals()[1] is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "and 3 processes run it" in str(refusals()[1])
