"""HumanEval: the program of a reply, which programs pass, and programs whose sandbox fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox import preflight
from charter.ground.sandbox.container import Way
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.program import Outcome, Program, Verdict
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.task import Question
from charter.rooms.evaluate.tasks import humaneval
from charter.rooms.evaluate.tasks.humaneval import indent, outcomes, parse, program

OURS = read_jsonl(shipped("humaneval.heldout"))


@pytest.fixture
def contained() -> None:
    if all(preflight.trouble(way) for way in Way):
        pytest.skip("no sandbox here: " + "; ".join(f"{way}: {preflight.trouble(way)}" for way in Way))


def problems(source: Path) -> list[tuple[Question, str]]:
    """Problems with their canonical solutions."""
    return read_split(source, TEST, lambda row, name: [(parse(row, name)[0], str(row["canonical_solution"]))])


def sources(*marks: Any) -> list[Any]:
    public = data_folder() / "humaneval"
    missing = pytest.mark.skipif(
        not public.is_dir(), reason="no data sets: set CHARTER_DATA to the folder with humaneval"
    )
    return [
        pytest.param(shipped("humaneval.heldout"), 12, id="shipped"),
        pytest.param(public, 164, id="public", marks=[missing, *marks]),
    ]


@pytest.mark.parametrize(("source", "count"), sources(pytest.mark.slow))
def test_canonical_solutions_pass(contained: None, source: Path, count: int) -> None:
    solutions = problems(source)
    results = outcomes([program(question, body) for question, body in solutions], 2)
    assert [outcome.verdict for outcome in results] == [Verdict.PASSED] * count


WRAPPED = """
_right = {name}


class Same:
    def __eq__(self, other):
        return True


def wrong(value):
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, dict):
        return {{**value, "more": 1}}
    return value + type(value)("x") if isinstance(value, (str, list, tuple)) else None


def {name}(*arguments):
    {body}
"""
# Replacements of a function's body; a text with "_right" wraps the right one.
BROKEN = [
    "return None",
    "pass",
    "raise ValueError('no')",
    "raise AssertionError",
    "yield 1",
    "return unknown_name",
    "return ((",
    "while True:\n        pass",
    "import time\n    time.sleep(1000)",
    "exit(0)",
    "import sys\n    sys.exit()",
    "import os\n    os._exit(0)",
    "import os\n    os.kill(os.getppid(), 9)",
    "import os\n    for n in range(3, 20):\n        try:\n            os.write(n, b'{\"passed\": true}\\n')\n        except OSError:\n            pass",
    'print(\'{"passed": true, "error": ""}\', flush=True)',
    "return bytearray(10**10)",
    "return wrong(_right(*arguments))",
    "return Same()  # _right",
    "wrong.calls = getattr(wrong, 'calls', 0) + 1\n    value = _right(*arguments)\n    return value if wrong.calls == 1 else wrong(value)",
    "import builtins, sys\n    builtins.AssertionError = Exception\n    for module in list(sys.modules.values()):\n        vars(module)['check'] = lambda candidate: None\n    return wrong(_right(*arguments))",
]


def broken(question: Question, body: str, how: str) -> str:
    """A reply with a broken variant of a solution."""
    name = question.meta["entry_point"]
    if "_right" not in how:
        return f"    {how}\n"
    return f"```python\n{humaneval.heading(question)}{body}{WRAPPED.format(name=name, body=how)}```"


@pytest.mark.parametrize(("source", "count"), sources())
def test_no_broken_variant_passes(contained: None, source: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(humaneval, "LIMITS", Limits(seconds=2, cpu_seconds=2))
    solutions = problems(source)
    assert len(BROKEN) == 20
    programs = [program(q, broken(q, body, how)) for (q, body), how in zip(solutions + solutions, BROKEN, strict=False)]
    verdicts = dict(zip(BROKEN, (outcome.verdict for outcome in outcomes(programs, 2)), strict=True))
    assert Verdict.PASSED not in verdicts.values() and Verdict.ENVIRONMENT_FAILED not in verdicts.values(), verdicts
    assert {verdicts[how] for how in BROKEN[7:9]} == {Verdict.TIMED_OUT}
    assert verdicts[BROKEN[15]] is Verdict.OUT_OF_MEMORY


DOUBLE = Question(
    "d",
    'def double(x):\n    """Twice x."""\n',
    meta={"entry_point": "double", "test": "def check(candidate):\n    assert candidate(4) == 8\n"},
)
STUB = 'def double(x):\n    """Twice x."""\n    pass\n\n'
HEADING = 'def double(x):\n    """Twice x."""\n'


@pytest.mark.parametrize(
    ("reply", "solution"),
    [
        ("    return 2 * x\n", HEADING + "    return 2 * x\n"),
        ("   y = x\n    return 2 * y", HEADING + "    y = x\n    return 2 * y"),  # a blank that a tokenizer dropped
        ("y = x\nreturn 2 * y", HEADING + "    y = x\n    return 2 * y"),
        ("def double(x):\n    return 2 * x\n", STUB + "def double(x):\n    return 2 * x\n"),
        (
            "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nIt works.",
            STUB + "def double(x):\n    return 2 * x\n",
        ),
        ("```python\nreturn 2 * x\n```", HEADING + "    return 2 * x\n"),
        ("```\nprint(1)\n```\n\n```py\ndef double(x):\n    return x\n```", STUB + "def double(x):\n    return x\n"),
        ("```python\ndef double(x):\n    return 2 * x", STUB + "def double(x):\n    return 2 * x"),  # cut at the limit
        ("def doubled(x):\n    return 1", HEADING + "    def doubled(x):\n        return 1"),
        ("", HEADING),
    ],
)
def test_what_is_run_of_a_reply(reply: str, solution: str) -> None:
    code = program(DOUBLE, reply)
    assert code.solution == solution
    assert code.functions == ("double",) and code.tests.endswith("\n\ncheck(double)\n") and code.prelude == STUB


def test_indenting() -> None:
    assert indent("\n\n   a\n    b") == "\n\n    a\n    b"
    assert indent("    a\n    b") == "    a\n    b" and indent("a\n\nb") == "    a\n\n    b"
    assert indent("") == ""


def judge(verdicts: dict[str, list[Verdict]], sizes: list[int]) -> Any:
    """Replaces the sandboxes: verdicts by the last word of a program's solution, one a try."""

    def check_all(_: Any, programs: Sequence[Program], limits: Limits, workers: int) -> list[Outcome]:
        sizes.append(len(programs))
        return [Outcome(verdicts[p.solution.split()[-1]].pop(0), "why", 0.1) for p in programs]

    return check_all


def four(prompt: Any, k: int) -> str:
    return f"    return {'abcd'[k]}"


def test_a_failed_sandbox_is_tried_again_and_counts_neither_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Verdict.ENVIRONMENT_FAILED
    verdicts = {"a": [Verdict.PASSED], "b": [failed, Verdict.FAILED], "c": [failed] * 3, "d": [Verdict.TIMED_OUT]}
    sizes: list[int] = []
    monkeypatch.setattr(humaneval, "check_all", judge(verdicts, sizes))
    monkeypatch.setattr(humaneval, "sandbox", lambda: None)
    context = desk.context(
        "humaneval", tmp_path, toys.Scripted(say=four), {"test": OURS[:1]}, change={"humaneval": {"samples": 4}}
    )
    rows = desk.run_task(context)
    assert [(r["outcome"], r["correct"]) for r in rows] == [
        ("right", 1.0),
        ("wrong", 0.0),
        ("environment failed", 0.0),
        ("timed out", 0.0),
    ]
    assert sizes == [4, 2, 1] and {r["id"] for r in rows} == {"charter/0"}
    assert context.facts["limits"]["seconds"] == 10.0


def test_a_machine_without_a_sandbox_is_refused_before_anything_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise CharterError("no sandbox works here")

    monkeypatch.setattr(humaneval, "sandbox", none)
    model = toys.Scripted(say=four)
    with pytest.raises(CharterError, match="no sandbox works here"):
        humaneval.questions(desk.context("humaneval", tmp_path, model, {"test": OURS}))
    assert not model.asked


def test_a_run_killed_among_its_tests_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_all(_: Any, programs: Sequence[Program], limits: Limits, workers: int) -> list[Outcome]:
        judged.extend(p.solution for p in programs)
        return [Outcome(Verdict.PASSED if len(p.solution) % 2 else Verdict.FAILED, "", 0.1) for p in programs]

    judged: list[str] = []
    monkeypatch.setattr(humaneval, "check_all", check_all)
    monkeypatch.setattr(humaneval, "sandbox", lambda: None)
    model = toys.Scripted(say=lambda prompt, k: f"    return {len(str(prompt))}")
    whole = desk.context("humaneval", tmp_path / "whole", model, {"test": OURS}, chunk=5)
    expected = desk.run_task(whole)
    judged.clear()
    stopped = desk.context("humaneval", tmp_path / "stopped", model, {"test": OURS}, chunk=5)
    stopped = dataclasses.replace(
        stopped, out=toys.workspace(tmp_path / "stopped" / "out", progress=toys.StoppingProgress(4))
    )
    with pytest.raises(toys.Interrupted):
        desk.run_task(stopped)
    judged_first = len(judged)
    resumed = dataclasses.replace(stopped, out=toys.workspace(tmp_path / "stopped" / "out"))
    prompt_count = len(model.asked)
    assert desk.run_task(resumed) == expected
    assert 0 < judged_first < 12 and len(judged) == 12, "programs that were judged are not run again"
    assert len(model.asked) == prompt_count, "nor is anything written again"


def test_what_the_model_reads_and_whole_runs(tmp_path: Path, contained: None) -> None:
    rows = OURS[:2]
    solutions = {row["prompt"].rstrip(): row["canonical_solution"] for row in rows}

    def chat(prompt: Any, k: int) -> str:
        text = prompt[0]["content"]
        heading = text.partition("```python\n")[2].removesuffix("\n```")
        return f"```python\n{heading}\n{solutions[heading]}```" if k == 0 else "I can't."

    model = toys.Scripted(say=chat)
    context = desk.context("humaneval", tmp_path / "chat", model, {"test": rows}, change={"humaneval": {"samples": 2}})
    assert [r["outcome"] for r in desk.run_task(context)] == ["right", "wrong"] * 2
    assert model.samplings[0].temperature == 1.0 and model.samplings[0].stops == ()
    model = toys.Scripted(say=lambda prompt, k: solutions[prompt.rstrip()])
    context = desk.context(
        "humaneval", tmp_path / "text", model, {"test": rows}, change={"humaneval": {"form": "text"}}
    )
    assert [r["outcome"] for r in desk.run_task(context)] == ["right"] * 2
    assert model.asked == [row["prompt"] for row in rows] and model.samplings[0].stops == humaneval.STOPS
