"""`charter init`: six templates, each of which can be planned; the smallest runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from charter.cli.start import CONTENTS, STARTER, Template
from toys import comparison, dialogue, rows_file

Charter = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 1 and err.startswith("charter: error: ") and err.count("\n") == 1
    assert all(part in err for part in parts), err


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("template", Template)
def test_each_template_can_be_planned_from_where_the_user_stands(
    charter: Charter, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    code, out, err = charter("init", "my pipeline", "--template", template)
    assert code == 0 and out.endswith("next: charter plan 'my pipeline/recipe.yaml'\n"), err
    folder = Path("my pipeline")
    readme = (folder / "README.md").read_text().splitlines()
    commands = [line.strip() for line in readme if line.startswith("    ")]
    assert commands[:2] == ["charter plan 'my pipeline/recipe.yaml'", "charter run 'my pipeline/recipe.yaml'"]
    assert len(commands) == 3 and readme.index("    " + commands[2]) < 6 and "runs/my-pipeline" in commands[2]
    assert any(line.startswith("Edit first: ") for line in readme)
    assert not re.search(r"\b[A-Z]{4,}\b", "\n".join(readme).replace("README", "").replace("STEP.FIELD=VALUE", ""))
    assert {p.stem for p in (folder / "data").iterdir()} == set(CONTENTS[template].rows)
    for file in (folder / "data").iterdir():
        assert len(file.read_text().splitlines()) == 20
        assert charter("data", "check", file)[0] == 0
    assert (folder / "constitution.yaml").exists() is (template is Template.constitution)
    assert len((folder / "recipe.yaml").read_text().splitlines()) <= 50
    code, out, err = charter("plan", "my pipeline", "--json")
    assert code == 0, err
    minutes = [step["minutes"] for step in json.loads(out)["steps"]]
    assert all(minutes) and sum(minutes) <= 10
    code, out, err = charter("plan", "my pipeline")
    assert code == 0 and "role prompts" not in out, err
    refused(charter("init", "my pipeline"), "has recipe.yaml already, and nothing is overwritten")


def test_the_default_is_a_constitution(charter: Charter) -> None:
    assert charter("init", "mine")[0] == 0
    assert Path("mine/recipe.yaml").read_text() == (STARTER / "constitution.yaml").read_text().replace(
        "my-assistant", "mine"
    )
    assert charter("constitution", "check", "mine/constitution.yaml")[0] == 0
    code, _, err = charter("init", "other", "--template", "stf")
    assert code == 2 and "'sft'" in err


def test_another_model_and_own_rows_are_wired_in(charter: Charter) -> None:
    rows_file(Path("mine.jsonl"), [dialogue("a", "hi", "hello"), dialogue("b", "ho", "hey")])
    own = ("--template", "talk", "--model", "random:tiny", "--data", "mine.jsonl")
    code, out, err = charter("init", "talk", *own)
    assert code == 0 and "mine.jsonl: 2 dialogues" in out, err
    assert 'policy: "random:tiny"' in Path("talk/recipe.yaml").read_text()
    assert [json.loads(line)["id"] for line in Path("talk/data/dialogues.jsonl").read_text().splitlines()] == ["a", "b"]

    code, out, _ = charter("init", "rules", "--data", "mine.jsonl")
    assert code == 0 and "the last turns of the assistant were dropped" in out
    assert json.loads(Path("rules/data/prompts.jsonl").read_text().splitlines()[0])["messages"] == [
        {"role": "user", "content": "hi"}
    ]
    rows_file(Path("quiz.jsonl"), [{"id": "q", "question": "2 + 2?", "golden_answers": ["4"]}])
    assert "1 questions" in charter("init", "quiz", "--template", "evaluate", "--data", "quiz.jsonl")[1]
    assert json.loads(Path("quiz/data/questions.jsonl").read_text())["golden_answers"] == ["4"]
    assert len(Path("quiz/data/texts.jsonl").read_text().splitlines()) == 20


def test_few_own_rows_get_epochs_that_teach_them_and_the_readme_says_whose_rows_are_where(charter: Charter) -> None:
    for count, epochs in ((2, 12), (100, 3)):
        rows_file(Path("mine.jsonl"), [dialogue(str(n), f"hi {n}", "hello") for n in range(count)])
        assert charter("init", f"sft{count}", "--template", "sft", "--data", "mine.jsonl")[0] == 0
        recipe = Path(f"sft{count}/recipe.yaml").read_text()
        assert f"epochs: {epochs}," in recipe and ("# 2 of your own rows are few" in recipe) == (epochs == 12)
        readme = Path(f"sft{count}/README.md").read_text()
        assert "The rows in `data/dialogues.jsonl` are yours." in readme and "examples" not in readme
        assert charter("plan", f"sft{count}")[0] == 0
    assert charter("init", "raw", "--template", "pretrain", "--data", "mine.jsonl")[0] == 0
    readme = Path("raw/README.md").read_text()
    assert "`data/dialogues.jsonl` are yours; those in `data/texts.jsonl` are examples." in readme


def test_models_and_rows_that_do_not_fit_are_refused_before_anything_is_written(charter: Charter) -> None:
    rows_file(Path("pairs.jsonl"), [comparison("c", "why?", "so", "no")])
    Path("broken.jsonl").write_text('{"messages": [\n')
    refused(
        charter("init", "a", "--template", "sft", "--data", "pairs.jsonl"),
        "pairs.jsonl holds comparisons, and the template sft takes dialogues; take --template preferences",
    )
    refused(charter("init", "a", "--template", "sft", "--data", "broken.jsonl"), "broken.jsonl:1: not JSON")
    refused(charter("init", "a", "--data", "none.jsonl"), "there is no file none.jsonl")
    refused(charter("init", "a", "--model", "nowhere"), "there is no run or model nowhere")
    refused(charter("init", "a", "--template", "pretrain", "--model", "random:tiny"), "leave --model out")
    assert not Path("a").exists()


def test_the_smallest_template_runs_at_toy_size(charter: Charter) -> None:
    rows_file(Path("mine.jsonl"), [dialogue("a", "hi", "hello"), dialogue("b", "ho", "hey")])
    charter("init", "toy", "--template", "talk", "--model", "random:tiny", "--data", "mine.jsonl")
    small = ("--set", "assistant.epochs=1", "--set", "assistant.mixture=[2, 0]", "--set", "assistant.frozen_layers=1")
    sources = "assistant.from.dialogues=[./data/dialogues.jsonl, 'shipped:helpful.train']"
    code, _, err = charter("run", "toy", *small, "--set", sources)
    assert code == 0, err
    assert err.splitlines()[-2].strip() == "Talk: charter chat runs/toy/assistant"
    assert Path("runs/toy/assistant/model.safetensors").is_file()
