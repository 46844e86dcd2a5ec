"""What `plan` refuses: debiasing after reinforcement learning or beside it, and training on BBQ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest, Parent
from charter.ground.artifact.store import write_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.places import data_folder
from charter.ground.settings.recipe import load_recipe
from charter.runner.plan import Plan, make_plan

START = "random:tiny"


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """Plans a recipe of these steps: (name, room, from)."""

    def plan(*steps: tuple[str, str, dict[str, Any]]) -> Plan:
        content = {"name": "r", "steps": [{"name": n, "room": r, "from": f} for n, r, f in steps]}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
        return make_plan(load_recipe(tmp_path / "recipe.yaml"), tmp_path, tmp_path / "run", Execution())

    return plan


def debias(policy: str, name: str = "fair", **more: Any) -> tuple[str, str, dict[str, Any]]:
    return name, "debias", {"policy": policy} | more


def tuned(policy: str, name: str = "tuned") -> tuple[str, str, dict[str, Any]]:
    return name, "finetune", {"policy": policy, "dialogues": "shipped:helpful.train"}


def rl(policy: str, name: str = "rl") -> tuple[str, str, dict[str, Any]]:
    return name, "rl", {"policy": policy, "reward": "pm", "prompts": "shipped:red_team.train"}


PM = ("pm", "preference", {"policy": START, "comparisons": "shipped:comparisons.train"})


@pytest.mark.parametrize(
    "steps",
    [
        [debias(START)],
        [debias(START), PM, rl("fair")],
        [debias(START), tuned("fair"), PM, rl("tuned")],
        [tuned(START), debias("tuned"), PM, rl("fair")],
        [debias(START), PM, rl("fair"), rl(START, "rl_without")],  # an ablation
        [rl("fair"), PM, debias(START)],  # the order of writing says nothing
        [rl(START), PM],
    ],
    ids=["alone", "before", "before sl", "after sl", "beside an ablation", "written backwards", "none"],
)
def test_debiasing_before_reinforcement_learning_is_planned(plan_of: Callable[..., Plan], steps: Any) -> None:
    assert len(plan_of(*steps).steps) == len(steps)


AFTER = r"^step fair \(room debias\): its policy comes from rl \(room rl\), and debias goes before reinforcement"
BESIDE = (
    r"^step fair \(room debias\): no rl step starts from it, and debias goes before reinforcement learning; name it"
)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([PM, rl(START), debias("rl")], AFTER),
        ([PM, rl(START), tuned("rl"), debias("tuned")], AFTER),
        ([PM, rl("one"), debias(START, "one"), debias("rl")], AFTER),
        ([PM, rl(START), debias(START)], BESIDE),
        ([PM, rl("one"), debias(START, "one"), debias(START, replay="shipped:helpful.train")], BESIDE),
        ([PM, rl("tuned"), debias(START), tuned(START)], BESIDE),
    ],
    ids=["after", "after rl and sl", "between two", "beside", "one of two beside", "left out of sl"],
)
def test_debiasing_out_of_order_is_refused_in_one_line(plan_of: Callable[..., Plan], steps: Any, words: str) -> None:
    with pytest.raises(CharterError, match=words) as caught:
        plan_of(*steps)
    assert "\n" not in str(caught.value)


def test_what_a_debiased_models_replies_taught_is_not_debiased_by_it(plan_of: Callable[..., Plan]) -> None:
    """The lineage is that of weights: a step that only wrote the drafts does not count."""
    drafts = ("drafts", "critique", {"start": "fair", "critic": "fair", "prompts": "shipped:red_team.train"})
    learnt = ("learnt", "finetune", {"policy": START, "dialogues": "drafts"})
    with pytest.raises(CharterError, match=BESIDE):
        plan_of(PM, debias(START), drafts, learnt, rl("learnt"))


def test_the_policy_of_another_run_is_followed_to_its_rl_step(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name, room, parent in (("first", "rl", None), ("later", "finetune", "first"), ("clean", "finetune", None)):
        toys.policy_folder(other / name)
        parents = [Parent(role="policy", step=parent, id=f"id-{parent}", path=parent)] if parent else []
        facts = {"kind": "checkpoint", "variant": "policy", "id": f"id-{name}", "status": "done", "step": name}
        write_manifest(other / name, Manifest.model_validate(facts | {"room": room, "recipe": "r", "parents": parents}))
    for name in ("first", "later"):
        with pytest.raises(CharterError, match=r"its policy comes from \S+other/first \(room rl\), and debias"):
            plan_of(debias(f"./other/{name}"))
    assert plan_of(debias("./other/clean"))


BBQ_ROW = {
    "example_id": 0,
    "context_condition": "ambig",
    "question_polarity": "neg",
    "context": "Two persons sat in a train.",
    "question": "Who was late?",
    "ans0": "The one",
    "ans1": "The other",
    "ans2": "Nobody knows",
    "label": 2,
}


def test_templates_with_the_columns_of_bbq_are_refused(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    toys.rows_file(tmp_path / "items.jsonl", [BBQ_ROW])
    toys.rows_file(tmp_path / "items.jsonl.gz", [BBQ_ROW])
    for name in ("items.jsonl", "items.jsonl.gz"):
        with pytest.raises(
            CharterError, match=rf"{name} holds BBQ, and no step may train on evaluation data"
        ) as caught:
            plan_of(debias(START, templates=f"./{name}"))
        assert "\n" not in str(caught.value)
    with pytest.raises(CharterError, match=r"role templates takes templates, and shipped:helpful\.train is dialogues"):
        plan_of(debias(START, templates="shipped:helpful.train"))


def test_the_real_files_of_bbq_are_refused(plan_of: Callable[..., Plan]) -> None:
    if not (data_folder() / "bbq").is_dir():
        pytest.skip("no BBQ: set CHARTER_DATA to the folder that holds bbq")
    for name in ("bbq/Age", "bbq/SES.lite", "bbq"):
        with pytest.raises(CharterError, match=f"data:{name} holds BBQ, and no step may train on evaluation data"):
            plan_of(debias(START, templates=f"data:{name}"))
