"""Stable and sensitive ids, the order of steps, and one line for each mistake in a recipe."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from charter import building
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution
from charter.runner import identity
from charter.runner.plan import Plan

PlanOf = Callable[..., Plan]
RecipeOf = Callable[..., str]


def ids(plan: Plan) -> dict[str, str]:
    return {planned.name: planned.id for planned in plan.steps}


def changed(before: Plan, after: Plan) -> set[str]:
    old, new = ids(before), ids(after)
    return {name for name in old if old[name] != new[name]}


def test_ids_are_stable(folder: Path, plan_of: PlanOf) -> None:
    first = plan_of()
    assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in ids(first).values())
    text = (folder / "recipe.yaml").read_text()
    assert not changed(first, plan_of(text="# a comment\n" + text.replace("name: small", "name: large")))
    assert not changed(first, plan_of("made.count=6", "made.noise.strength=0.5"))  # the defaults, spelt out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("made.count=7", {"made", "taught", "report"}),
        ("made.noise.strength=0.6", {"made", "taught", "report"}),
        ("taught.lr=2e-3", {"taught", "report"}),
        ("report.stage=end", {"report"}),
        ("report.from.red_team=shipped:lookalikes.train", {"report"}),
        ("recipe.seed=4", {"made", "taught", "report"}),
    ],
)
def test_ids_follow_settings_inputs_and_seed(plan_of: PlanOf, change: str, expected: set[str]) -> None:
    assert changed(plan_of(), plan_of(change)) == expected


def test_ids_follow_files_execution_and_sources(folder: Path, plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan_of()
    everything = {"made", "taught", "report"}
    assert changed(first, plan_of(execution=Execution("cuda", "float32"))) == everything
    assert changed(first, plan_of(execution=Execution("cpu", "bfloat16"))) == everything
    (folder / "mine.jsonl").write_text('{"id": "b", "messages": [{"role": "user", "content": "ho"}]}\n')
    assert changed(first, plan_of()) == everything
    second = plan_of()
    monkeypatch.setattr(identity, "source_digest", lambda package: f"edited {package[-5:]}")
    assert changed(second, plan_of()) == everything


def test_steps_run_after_what_they_are_made_from(plan_of: PlanOf) -> None:
    plan = plan_of()
    assert [planned.name for planned in plan.steps] == ["made", "taught", "report"]
    report = plan.steps[2]
    assert [(entry.role, entry.name) for entry in report.inputs] == [
        ("policy", "taught"),
        ("red_team", "shipped:red_team.train"),  # the role's default
    ]
    assert report.parents[0].path == "taught" and report.external[0].path is None
    assert plan.steps[0].external[0].path == "../mine.jsonl"


def test_a_default_can_be_left_out_only_by_an_empty_list_of_a_role_that_is_not_required(plan_of: PlanOf) -> None:
    with pytest.raises(CharterError, match="needs the role red_team"):
        plan_of("report.from.red_team=[]")


def test_what_lies_beside_the_recipe_or_here_is_named_as_a_path(
    plan_of: PlanOf, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "texts").mkdir()
    (folder / "row").write_text("")
    here = tmp_path / "elsewhere"
    (here / "mine").mkdir(parents=True)
    monkeypatch.chdir(here)
    for ref, hint in (
        ("texts", "'texts'; write ./texts for the folder of that name"),
        ("row", "'row'; write ./row for the file of that name"),
        ("mine", f"'mine'; write {here / 'mine'} for the one of that name here: relative paths start at"),
    ):
        with pytest.raises(CharterError, match=re.escape(hint)):
            plan_of(f"taught.from.dialogues={ref}")


BAD = [
    ("made: {from: {prompts: report}}", "depend on each other in a circle: report -> taught -> made -> report"),
    (
        "taught: {from: {dialogues: mad}}",
        "step taught: dialogues: there is no step or source 'mad'; did you mean made?",
    ),
    (
        "taught: {from: {dialogues: runs/demo/rl}}",
        "no step or source 'runs/demo/rl'; write ./runs/demo/rl for a file or folder, or name a finished step of a run",
    ),
    (
        "taught: {room: modle}",
        "step taught: there is no room 'modle'; did you mean model? allowed: words, model, grade",
    ),
    ("taught: {from: {dialogs: made}}", "room model has no role 'dialogs'; did you mean dialogues?"),
    ("taught: {from: {}}", "room model needs the role dialogues (dialogues)"),
    ("taught: {from: {dialogues: [made, made]}}", "role dialogues takes one input and has 2"),
    ("taught: {from: {dialogues: made, base: made}}", "role base takes checkpoint (policy), and made is dialogues"),
    (
        "report: {from: {policy: taught, grader: taught}}",
        "takes checkpoint (preference), and taught is checkpoint (policy)",
    ),
    (
        "report: {from: {policy: made}}",
        "role policy takes a policy checkpoint or a remote engine, and made is dialogues",
    ),
    (
        "taught: {from: {dialogues: shipped:comparisons.train}}",
        "takes dialogues, and shipped:comparisons.train is comparisons",
    ),
    (
        "made: {settings: {cuont: 3}}",
        "step made (room words): unknown key cuont; did you mean count? allowed: count, chunk, noise",
    ),
    (
        "made: {settings: {noise: {strenght: 1}}}",
        "unknown key noise.strenght; did you mean strength? allowed: strength",
    ),
    ("made: {settings: {count: 0}}", "count: must be at least 1 (given 0)"),
    ("made: {settings: {count: many}}", "count: must be a whole number (given 'many')"),
    ("made: {from: {prompts: [./none.jsonl]}}", "there is no file or folder"),
    (
        "made: {from: {prompts: [shipped:red_team.trian]}}",
        "charter ships no data of that name; did you mean red_team.train?",
    ),
    ("made: {sttings: {}}", "unknown key steps.2.sttings; did you mean settings?"),
    ("more: {room: grade, from: {policy: pkg:llm-smallm}}", "knows no model package of that name"),
    ("more: {room: grade, from: {policy: openai:localhost}}", "write the engine as scheme:URL#MODEL"),
    ("more: {room: grade, from: {policy: openai:http://me:secret@host#m}}", "must not hold secrets"),
]


@pytest.mark.parametrize(("steps", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_each_thing_wrong_is_one_line(plan_of: PlanOf, recipe_of: RecipeOf, steps: str, message: str) -> None:
    with pytest.raises(CharterError) as caught:
        plan_of(text=recipe_of(**yaml.safe_load("{" + steps + "}")))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and "secret@" not in str(caught.value)


def test_a_whole_run_or_an_unfinished_artifact_is_no_input(folder: Path, plan_of: PlanOf, recipe_of: RecipeOf) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "run.json").write_text("{}")
    with pytest.raises(CharterError, match="old is a whole run; name one of its artifacts: none is done"):
        plan_of(text=recipe_of(taught={"from": {"dialogues": "./old"}}))


def test_remote_engines_and_models_fill_assistant_roles(plan_of: PlanOf, recipe_of: RecipeOf) -> None:
    for ref in ("anthropic:https://host/v1#m", "random:tiny"):
        plan = plan_of(text=recipe_of(more={"room": "grade", "from": {"policy": ref}}))
        assert plan.steps[-1].inputs[0].ref == ref and plan.steps[-1].inputs[0].path is None


MIXED = """
name: mixed
steps:
  - name: sl
    room: finetune
    from:
      policy: random:tiny
      dialogues: [DIALOGUES]
      anchor: ANCHOR
    settings: {SETTINGS}
"""


def test_shares_beside_the_sources_are_the_mixture_by_position(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "ROOMS", {"finetune": "charter.rooms.finetune", "rl": "charter.rooms.rl"})

    def plan(dialogues: str, anchor: str, settings: str = "") -> Plan:
        text = MIXED.replace("DIALOGUES", dialogues).replace("ANCHOR", anchor)
        return plan_of(text=text.replace("SETTINGS", settings))

    refusals, helpful, harmless = (f"shipped:{name}.train" for name in ("refusals", "helpful", "lookalikes"))
    by_place = plan(f'"{refusals}", "{helpful}"', f'"{harmless}"', "mixture: [0.5, 1, 2]")
    named = f'{{source: "{refusals}", share: 0.5}}, "{helpful}"'
    anchor = f'{{source: "{harmless}", share: 2}}'
    assert ids(plan(named, anchor)) == ids(by_place)
    assert plan(named, anchor).steps[0].resolved["mixture"] == [0.5, 1.0, 2.0]
    assert ids(plan(named, anchor, "mixture: [0.5, 1, 2]")) == ids(by_place), "both, and they agree"
    assert ids(plan(named.replace("0.5", "0.25"), anchor)) != ids(by_place)
    for dialogues, settings, wrong in (
        (named, "mixture: [1, 1, 2]", "`mixture` and the shares beside the sources differ"),
        (named.replace("share", "shaer"), "", "write a source with its share as {source: NAME, share: 0.5}: unknown key shaer"),
        (named.replace("0.5", "-1"), "", "share: must be at least 0"),
        (named.replace(refusals, "refusals"), "", "there is no step or source 'refusals'"),
    ):  # fmt: skip
        with pytest.raises(CharterError, match=re.escape(wrong)):
            plan(dialogues, anchor, settings)
    text = MIXED.replace("room: finetune", "room: rl").replace("dialogues", "prompts").replace("PROMPTS", named)
    with pytest.raises(CharterError, match="room rl takes all of its inputs and no `share`"):
        plan_of(text=text.replace("DIALOGUES", named).replace("      anchor: ANCHOR\n", "").replace("SETTINGS", ""))
