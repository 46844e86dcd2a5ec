"""HumanEval: a function's body from its heading and description, no examples, T=1, judged by running its tests
(card section 4.3; Chen 2021).

The program is the heading of the problem with the reply. Of a chat's reply it takes the first ```python block that
defines the function, else the first block, else all of it. Code that defines the function itself stands after the
heading and replaces it; other code continues as its body. Programs run in one sandbox, tests in another one.
"""

from __future__ import annotations

import platform
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure import counts
from charter.ground.sandbox.limits import Limits
from charter.ground.sandbox.preflight import sandbox
from charter.ground.sandbox.program import Outcome, Program, Verdict, check_all
from charter.ground.settings.room import Role
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.marks import unless_too_long
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.reading import TEST, Row, read_split
from charter.rooms.evaluate.task import Context, Marks, Protocol, Query, Question, Rows, Task, unanswered_rate

REQUEST = "Complete this Python function. Reply with the whole function in one ```python block, and nothing else."
# Strings at which a running text leaves the function.
STOPS = ("\nclass ", "\ndef ", "\n@", "\n#", "\nif ", "\nprint(", "\n```")
LIMITS = Limits()
ATTEMPTS = 3
BLOCK = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)
# Outcomes of a program: passed, failed, or what stopped it (`sandbox.program.Verdict`).
RAN = ("right", "wrong", "timed out", "out of memory", "output over the limit", "environment failed")


def questions(context: Context) -> list[Question]:
    """The drawn problems. Raises CharterError if no sandbox works here, since code must not run without one."""
    try:
        sandbox()
    except CharterError as error:
        raise CharterError(f"humaneval: {error}; or leave humaneval out of tasks") from None
    context.facts["limits"] = LIMITS.model_dump()
    context.facts["python"] = ".".join(platform.python_version_tuple()[:2])
    return context.draw(read_split(context.source, TEST, parse))


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row a sample; programs run after all are sampled."""
    chat = context.protocol.form == "chat"
    queries = [Query(q, f"{REQUEST}\n\n```python\n{heading(q)}```" if chat else heading(q)[:-1]) for q in questions]
    answers = asking.answer(context, queries, lambda *_: {}, stops=() if chat else STOPS)
    by_id = {question.id: question for question in questions}

    def judge(part: Sequence[dict[str, Any]], _: int) -> Rows:
        programs = [program(by_id[row["item"]], row["reply"]) for row in part if "outcome" not in row]
        verdicts = map(grade, outcomes(programs, context.settings.workers))
        return [row if "outcome" in row else row | next(verdicts) for row in part]

    title = f"{context.title}, tests"
    return context.out.chunks(f"{context.task.name}_judged", answers, context.answers_together, judge, title)


def outcomes(programs: Sequence[Program], workers: int) -> list[Outcome]:
    """The outcome of each program; one whose sandbox fails runs again, ATTEMPTS times in all."""
    results = list(check_all(sandbox(), programs, LIMITS, workers))
    for _ in range(ATTEMPTS - 1):
        failed = [n for n, outcome in enumerate(results) if outcome.verdict is Verdict.ENVIRONMENT_FAILED]
        again = check_all(sandbox(), [programs[n] for n in failed], LIMITS, workers)
        for n, outcome in zip(failed, again, strict=True):
            results[n] = outcome
    return results


def mark_program(row: Marks) -> dict[str, Any]:
    """Marks of a program: right if all tests passed, which leaves no error. "environment failed" counts neither way."""
    outcome = row["outcome"] if row["outcome"] in RAN else "wrong"
    outcome = "wrong" if outcome == "right" and row["error"] else outcome
    return {"correct": float(outcome == "right"), "outcome": outcome}


def grade(outcome: Outcome) -> dict[str, Any]:
    """Right if all tests passed. "environment failed" says nothing of the program and counts neither way."""
    names = {Verdict.PASSED: "right", Verdict.FAILED: "wrong"}
    right = outcome.verdict is Verdict.PASSED
    return {
        "correct": float(right),
        "outcome": names.get(outcome.verdict, str(outcome.verdict)),
        "error": outcome.error,
    }


def heading(question: Question) -> str:
    """The start of the function that the problem shows, with one end of line."""
    return f"{question.text.rstrip()}\n"


def program(question: Question, reply: str) -> Program:
    """The program of a reply with its tests, which see the heading's own helpers and call the function by name."""
    name, test = question.meta["entry_point"], question.meta["test"]
    defines = re.compile(rf"^(?:async )?def {re.escape(name)}\b", re.MULTILINE)
    blocks = BLOCK.findall(reply)
    code = next(filter(defines.search, blocks), blocks[0] if blocks else reply)
    stub = f"{heading(question)}    pass\n\n"
    solution = stub + code if defines.search(code) else heading(question) + indent(code)
    return Program(solution, f"{test}\n\ncheck({name})\n", (name,), prelude=stub)


def indent(body: str) -> str:
    """The body, indented by four blanks if it stands at the margin. Some tokenizers drop one blank at the start of a
    text; it comes back."""
    first = next(filter(str.strip, body.splitlines()), "")
    depth = len(first) - len(first.lstrip())
    if not depth:
        return textwrap.indent(body, "    ")
    return body.replace(first, f" {first}", 1) if depth % 4 == 3 else body


def parse(row: Row, name: str) -> list[Question]:
    """A row with task_id, prompt, entry_point and test."""
    meta = {key: str(row[key]) for key in ("entry_point", "test")}
    return [Question(str(row.get("task_id", name)), str(row["prompt"]), meta=meta)]


def _has_verdict(row: Marks) -> bool:
    return bool(row["outcome"] != "environment failed")


TASK = Task(
    name="humaneval",
    title="HumanEval",
    group="Knowledge and reasoning",
    questions=questions,
    rows=rows,
    metrics=(
        *(
            higher(
                name, counts.pass_at(k, _has_verdict), f"HumanEval problems solved, pass@{k}", f"HumanEval, pass@{k}"
            )
            for name, k in (("humaneval", 1), ("humaneval_pass_10", 10), ("humaneval_pass_100", 100))
        ),
        unanswered_rate("humaneval"),
        lower(
            "humaneval_environment_failed",
            counts.outcome("environment failed"),
            "HumanEval programs whose sandbox failed, which count neither way",
            "HumanEval, sandbox failed",
            kind="fault",
        ),
    ),
    role=Role(kind="questions", default="shipped:humaneval.heldout"),
    standard="data:humaneval",
    protocol=Protocol(max_tokens=512),
    marks=unless_too_long(mark_program),
    cost=(250, 200),
    searched=True,
)
