"""Every command: what it prints, what it writes, and one line with exit code 1 for each error."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from charter.cli import pipeline
from charter.cli.chat_files import File, Style
from charter.ground.settings import execution
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.sources import shipped_folder
from charter.runner.pace import LEFT_IN_RUN
from charter.terminal.bars import PlainProgress, RichProgress, clock, spell

Charter = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str], part: str) -> None:
    code, _, err = result
    assert code == 1
    *progress, last = err.splitlines()
    assert last.startswith("charter: error: ") and part in last
    assert not any(line.startswith(("charter:", "Traceback")) for line in progress)


def test_help_names_every_command_and_leaves_torch_unloaded(charter: Charter) -> None:
    code, out, _ = charter("--help")
    assert code == 0
    for name in (
        "init",
        "plan",
        "run",
        "show",
        "chat",
        "compare",
        "gate",
        "review",
        "gc",
        "doctor",
        "constitution",
        "data",
        "card",
    ):
        assert f" {name} " in out
    assert charter()[:2] == (code, out)
    check_torch = "import sys, charter.cli.main as m; m.execute(['--help']); sys.exit(bool({'torch', 'tokenizers'} & sys.modules.keys()))"
    process = subprocess.run([sys.executable, "-c", check_torch], capture_output=True, env=with_source())
    assert process.returncode == 0, process.stderr


@pytest.mark.usefixtures("fake_rooms")
def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(
    charter: Charter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder from a machine with another default keeps its precision; a flag still decides."""
    for here, begun in ((True, "float32"), (False, "bfloat16")):
        monkeypatch.setattr(execution, "multiplies_bfloat16", lambda here=here: here)
        out = ("--out", begun)
        assert charter("run", "recipe.yaml", *out, "--precision", begun)[0] == 0
        assert "every step is reused" in charter("plan", "recipe.yaml", *out)[1]
        other = {"float32": "bfloat16", "bfloat16": "float32"}[begun]
        assert "3 of 3 steps to run" in charter("plan", "recipe.yaml", *out, "--precision", other)[1]
        (tmp_path / begun / "run.json").write_text("{}")
        assert "3 of 3 steps to run" in charter("plan", "recipe.yaml", *out)[1], "then by this machine's rule"


def test_version_and_usage(charter: Charter) -> None:
    assert charter("--version")[1].startswith("charter ")
    for words in (("nonsense",), ("run",), ("show", "--nonsense", "x"), ("data",)):
        code, _, err = charter(*words)
        assert code == 2 and err.startswith("charter: error: ") and err.count("\n") == 1
        assert "--help` says what is expected" in err


@pytest.mark.usefixtures("fake_rooms")
def test_plan_run_show_and_gc(charter: Charter, tmp_path: Path) -> None:
    code, out, _ = charter("plan", "recipe.yaml")
    assert code == 0 and "3 of 3 steps to run" in out
    planned = json.loads(charter("plan", ".", "--json")[1])["steps"]
    assert [step["status"] for step in planned] == ["run"] * 3 and not (tmp_path / "runs").exists()

    code, out, err = charter("run", "recipe.yaml", "--json", "--set", "made.count=4")
    record = json.loads(out)
    assert code == 0 and "made (step 1 of 3): started" in err and "made: words: 4/4" in err
    assert [step["status"] for step in record["steps"]] == ["done"] * 3
    assert record["steps"][1]["metrics"] == {"loss": 1.25}
    assert set(record) == {"steps"}
    made = json.loads((tmp_path / "runs/small/made/manifest.json").read_text())
    assert made["command"] == "recipe.yaml --set made.count=4"

    assert json.loads(charter("show", "small", "--json")[1]) == record
    tree = charter("show", "runs/small")[1].partition("Next: ")[2].partition("\n")[2]
    assert tree.index("made") < tree.index("taught") < tree.index("report") and "loss 1.25" in tree

    charter("run", tmp_path / "recipe.yaml")
    made = json.loads((tmp_path / "runs/small/made/manifest.json").read_text())
    assert made["command"] == "recipe.yaml", "nothing is said of what is above the current folder"
    code, out, _ = charter("gc", "small", "--dry-run")
    assert code == 0 and "bytes would be freed" in out and out.count("\n") == 4
    assert charter("gc", "small")[1].splitlines()[-1].endswith("bytes freed")
    assert charter("gc", "small")[1] == "0 bytes freed\n"
    assert "nothing to do: every step is reused" in charter("plan", "recipe.yaml")[1]


@pytest.mark.usefixtures("fake_rooms")
def test_out_until_and_failures(charter: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULT", "refuse 1")
    refused(charter("run", "recipe.yaml", "--out", "here"), "step made: the room refuses this")
    assert "made failed: the room refuses this" in charter("show", "here")[1]
    assert "resume" in charter("plan", "recipe.yaml", "--out", "here")[1]
    monkeypatch.setenv("FAULT", "interrupt 1")
    code, _, err = charter("run", "recipe.yaml", "--out", "here")
    assert code == 130 and err.splitlines()[-1].startswith("charter: interrupted; run the same command again")
    monkeypatch.setenv("FAULT", "")
    code, _, err = charter("run", "recipe.yaml", "--out", "here", "--until", "made")
    assert code == 0 and "made (step 1 of 1): resumed" in err and not (tmp_path / "here" / "taught").exists()


@pytest.mark.usefixtures("fake_rooms")
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("run", "none.yaml"), "there is no recipe none.yaml"),
        (("run", "recipe.yaml", "--set", "made.cuont=1"), "unknown key cuont; did you mean count?"),
        (("run", "recipe.yaml", "--set", "nonsense"), "write step.field=value"),
        (("run", "recipe.yaml", "--until", "x"), "there is no such step"),
        (("run", "recipe.yaml", "--device", "abacus"), "unknown device 'abacus'"),
        (("run", "recipe.yaml", "--precision", "float8"), "unknown precision 'float8'"),
        (("run", "recipe.yaml", "--out", "mine.jsonl"), "is a file; name a folder"),
        (("plan", "recipe.yaml", "--until", "x"), "there is no such step"),
        (("show", "none"), "none is not a run"),
        (("gc", "none"), "none is not a run"),
        (("chat", "none"), "there is no run or model none here"),
        (("chat", "mine.jsonl"), "mine.jsonl is prompts; chat needs a policy checkpoint"),
        (("card", "verify", "none"), "there is no run or card none"),
        (("compare", "none", "none"), "there is no run or card none"),
        (("constitution", "check", "none"), "none"),
    ],
)
def test_bad_input_is_one_line(charter: Charter, words: tuple[str, ...], part: str) -> None:
    refused(charter(*words), part)


@pytest.mark.usefixtures("fake_rooms")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_one_line(charter: Charter, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.replace

    def refuse(source: str, target: str) -> None:
        if str(target).endswith("words-00001.json"):
            raise OSError(code, os.strerror(code), str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        refused(charter("run", "recipe.yaml"), "finished steps and resumable work are kept")
    assert "made (step 1 of 3): resumed" in charter("run", "recipe.yaml")[2]


def test_constitution_check(charter: Charter, tmp_path: Path) -> None:
    shutil.copy(shipped_folder() / "constitution.yaml", tmp_path / "mine.yaml")
    code, out, _ = charter("constitution", "check", "mine.yaml")
    assert code == 0 and out.startswith("mine.yaml: charter-default version 1")
    (tmp_path / "bad.yaml").write_text("name: x\nprinciples: []\n")
    refused(charter("constitution", "check", "bad.yaml"), "bad.yaml")


def test_a_list_of_principles_is_imported_and_shown(charter: Charter, tmp_path: Path) -> None:
    (tmp_path / "ours.md").write_text("# Care\n- Choose the kinder reply.\n")
    code, out, _ = charter("constitution", "import", "ours.md", "--to", "ours.yaml")
    assert code == 0 and out.startswith("ours.yaml: ours version 1: 1 product")
    refused(charter("constitution", "import", "ours.md", "--to", "ours.yaml"), "--force to overwrite it")
    steps = tmp_path / "runs" / "one"
    (steps / "revisions").mkdir(parents=True)
    (steps / "run.json").write_text("{}")
    step = {"key": "p1", "revision": "b", "dropped": None}
    (steps / "revisions" / "transcripts.jsonl").write_text(json.dumps({"draft": "a", "rounds": [step]}) + "\n")
    _, out, _ = charter("constitution", "show", "ours.yaml", "--run", "runs/one")
    assert "product: Care" in out and "1 critiques, 100% of the revisions kept, words changed 100%" in out
    (row,) = json.loads(charter("constitution", "show", "ours.yaml", "--json")[1])
    assert (row["set"], row["group"], row["text"], row["critiques"]) == (
        "product",
        "Care",
        "Choose the kinder reply.",
        0,
    )


def test_doctor(charter: Charter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHARTER_DATA", str(tmp_path))
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("charter.cli.doctor.is_idle", lambda: True)  # other tests run beside it
    _, out, _ = charter("doctor")
    for name in (
        "python",
        "torch",
        "threads",
        "speed",
        "numbers",
        "memory",
        "disk",
        "folder",
        "model",
        "data",
        "sandbox",
        "extras",
    ):
        assert any(line.split()[1] == name for line in out.splitlines())
    measured = (tmp_path / "cache" / "machine.json").read_text()
    assert " GFLOP/s and copies of " in out and json.loads(measured)["speed"]["gflops"] > 0
    monkeypatch.setattr("charter.cli.doctor._measure", lambda: pytest.fail("it was measured before"))
    assert " GFLOP/s and copies of " in charter("doctor")[1]


@pytest.mark.usefixtures("fake_rooms")
def test_card_verify_passes_on_what_the_card_room_says(charter: Charter, monkeypatch: pytest.MonkeyPatch) -> None:
    charter("run", "recipe.yaml")
    calls: list[object] = []

    def verify(folder: Path, deep: bool, recompute: object, regenerate: object) -> list[str]:
        calls.append((folder, deep))
        return ["report/harm_rate differs"] if deep else []

    card = SimpleNamespace(verify=verify, regenerate=len)
    monkeypatch.setattr("charter.runner.verify.room_tool", lambda room, module: card)
    assert charter("card", "verify", "small")[:2] == (0, f"the card of {Path('runs/small')} holds\n")
    code, out, err = charter("card", "verify", "runs/small", "--deep")
    assert (code, out) == (1, "report/harm_rate differs\n") and "does not hold: 1 problem" in err
    assert calls == [(Path("runs/small"), False), (Path("runs/small"), True)]


@pytest.mark.usefixtures("fake_rooms")
def test_chat_finds_the_model_and_hands_it_on(charter: Charter, monkeypatch: pytest.MonkeyPatch) -> None:
    charter("run", "recipe.yaml")
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr("charter.cli.chat_session.converse", lambda *given, **_: calls.append(given))
    words = ("--system", "Be brief.", "--temperature", "0", "--max-tokens", "9", "--device", "cpu")
    assert charter("chat", "runs/small/taught", *words)[0] == 0
    source, *rest = calls[0]
    assert (source.name, rest) == ("taught", [choose_execution("cpu"), Style("Be brief.", 0.0, 9), [], ()])
    text = Path("book.txt")
    text.write_text("a book")
    charter("chat", "runs/small/taught", "--file", "book.txt", "--ask", "Who?", "--ask", "Why?", "--plain", "--json")
    assert calls[1][2:] == (Style(plain=True, as_json=True), [File("book.txt", "a book")], ["Who?", "Why?"])
    manifest = Path("runs/small/taught/manifest.json")
    assert charter("chat", "runs/small/taught") == (0, "", "")
    manifest.write_text(manifest.read_text().replace('"room": "model"', '"room": "pretrain"'))
    assert "taught was pretrained and not finetuned" in charter("chat", "runs/small/taught")[2]
    assert charter("chat", "runs/small/taught", "--plain") == (0, "", "")
    refused(charter("chat", "runs/small/taught", "--file", "none.txt"), "--file none.txt: No such file")
    text.write_bytes(b"ab\0")
    refused(charter("chat", "runs/small/taught", "--file", "book.txt"), "--file book.txt: This file holds NUL")
    text.write_text(" \n")
    refused(charter("chat", "runs/small/taught", "--file", "book.txt"), "There is no text in this file")
    with text.open("wb") as file:
        file.truncate(10 * 2**20 + 1)
    refused(charter("chat", "runs/small/taught", "--file", "book.txt"), "10,485,761 bytes, and at most 10 MB")
    refused(charter("chat", "runs/small/made"), "is dialogues; chat needs a policy checkpoint")
    refused(charter("chat", "runs/small"), "is a whole run; name one of its artifacts: made, report, taught")


def test_bars_speak_on_terminals_and_in_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress().bar("train", 10, done=4) as bar:
        bar.advance(3, loss=1.0)
    assert capsys.readouterr().err == "train: 7/10, 0:00  loss 1\n"
    assert spell({"kl": 0.123456, "n": 3}) == "kl 0.1235  n 3"
    assert spell({"rate": 1234.5, "left in the run": "1 minute"}) == "rate 1234 tokens/s  left in the run 1 minute"
    assert (clock(59.9), clock(3723), spell({})) == ("0:59", "1:02:03", "")
    from rich.console import Console

    with open(os.devnull, "w") as nowhere:
        rich = RichProgress(Console(file=nowhere, force_terminal=True))
        with rich.bar("outer", 2) as outer, rich.bar("inner", 3, done=1) as inner:
            inner.advance(1, loss=0.5)
            outer.advance()
            rich.note("a note")
        assert rich._display is None


def test_a_line_has_one_time_left_and_no_phase_says_its_last_line_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("charter.terminal.bars.time.monotonic", lambda: now[0])
    for run in ({}, {LEFT_IN_RUN: "12 minutes"}):
        with PlainProgress().bar("train", 4) as bar:
            for _ in range(4):
                now[0] += 20.0
                bar.advance(1, loss=1.0, **run)
    one = [f"train: {n}/4, {clock(20 * n)}, {clock(80 - 20 * n)} left  loss 1" for n in (1, 2, 3)]
    other = [f"train: {n}/4, {clock(20 * n)}, run: 12 minutes left  loss 1" for n in (1, 2, 3)]
    last = "train: 4/4, 1:20  loss 1"
    assert capsys.readouterr().err.splitlines() == [*one, last, *other, last]


@pytest.mark.parametrize(("width", "rate"), [(80, False), (120, True)])
def test_a_narrow_terminal_cuts_the_values_and_nothing_else(width: int, rate: bool) -> None:
    from rich.console import Console

    screen = io.StringIO()
    rich = RichProgress(Console(file=screen, force_terminal=True, width=width, color_system=None))
    with rich.bar("rl: critique and revision", 183) as bar:
        bar.advance(133, loss=5.605, rate=7460.1, **{LEFT_IN_RUN: "12 minutes"})
        assert rich._display is not None
        rich._display.refresh()
        row = screen.getvalue().split("\r")[-1]
    assert "133/183 0:00, run: 12 minutes left" in row and ("7460 tokens/s" in row) is rate
    ended = screen.getvalue().split("\r")[-1]
    assert "133/183 0:00" in ended and "run" not in ended, "of a bar that ended the time alone is kept"


def test_open_bars_are_stopped_from_outside_and_leave_the_terminal_as_it_was() -> None:
    from rich.console import Console

    screen = io.StringIO()
    rich = RichProgress(Console(file=screen, force_terminal=True, legacy_windows=False))
    rich.stop()  # there is none yet
    with rich.bar("texts", 3) as bar:
        bar.advance()
        assert screen.getvalue().rfind("\x1b[?25l") > screen.getvalue().rfind("\x1b[?25h"), "no cursor"
        rich.stop()
        assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l"), "the cursor is back"
        bar.advance()
    PlainProgress().stop()


def test_a_closed_pipe_ends_a_command_without_words() -> None:
    # `true` has ended before the command, which takes a second to start, writes its first line
    command = f"{sys.executable} -m charter --help | true; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=with_source())
    assert (process.stdout, process.stderr) == ("1\n", "")


def test_running_asks_for_a_new_process_once(charter: Charter, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[int] = []
    monkeypatch.setattr(pipeline, "relaunch", lambda count, threads: jobs.append(count))
    refused(charter("run", "none.yaml"), "there is no recipe")
    refused(charter("plan", "none.yaml"), "there is no recipe")
    refused(charter("run", "none.yaml", "--jobs", "2"), "there is no recipe")
    assert jobs == [1, 2]


def test_steps_side_by_side_and_work_shared_on_one_step_are_two_ways(
    charter: Charter, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(charter("run", "recipe.yaml", "--jobs", "2", "--ray", "local"), "leave one of them out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(charter("run", "recipe.yaml", "-j", "2"), "leave one of them out")


def with_source() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
