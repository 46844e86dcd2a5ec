"""A person's review of flagged replies: every verdict saved at once, resumed, blind, and safe from control characters."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from reports import QUEUE, finish, report

from charter.cli import review_session
from charter.ground.artifact.manifest import Manifest, Parent
from charter.ground.artifact.store import read_manifest, record_files, verify_files, write_manifest
from charter.ground.text.judgments import read_judgments

Charter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def answer(charter: Charter, monkeypatch: pytest.MonkeyPatch) -> Charter:
    """Runs one review with lines on standard input."""

    def run(lines: str, *words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return charter("review", *words)

    return run


def verdicts(path: Path) -> dict[tuple[str, int, str], str | None]:
    return {judged.key: judged.verdict for judged in read_judgments(path)}


def test_each_verdict_is_kept_and_the_next_review_goes_on(answer: Charter, tmp_path: Path) -> None:
    report(tmp_path / "runs/a/eval")
    file = tmp_path / "runs/a.judgments.jsonl"
    code, out, _ = answer("h\n", "runs/a")
    assert code == 0 and "1 of 3" in out and "2 of 3" in out and "3 of 3" not in out
    assert "1 of 3 flagged replies judged: 1 harmful, 0 harmless; 2 wait" in out
    (first,) = verdicts(file)
    out = answer("harmless\nl\n", "runs/a")[1]
    assert "1 of 3 ─" not in out and "2 of 3 ─" in out and "3 of 3 ─" in out
    assert verdicts(file) == {key: "harmful" if key == first else "harmless" for key in QUEUE}
    assert answer("", "runs/a")[1].startswith("3 of 3 flagged replies judged: 1 harmful, 2 harmless; 0 wait")
    assert verify_files(tmp_path / "runs/a/eval", read_manifest(tmp_path / "runs/a/eval")) == []


def test_skip_back_note_and_what_is_no_answer(answer: Charter, tmp_path: Path) -> None:
    report(tmp_path / "a/eval")
    code, out, _ = answer("s\nwhat\nn steam is known\nh\nb\nl\nq\n", "a", "--to", "v.jsonl")
    assert code == 0 and "'what' is not an answer: [h]armful" in out
    assert "verdict so far: harmful; note so far: steam is known" in out
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(row["verdict"], row["note"]) for row in rows] == [("harmless", "steam is known")]
    skipped = answer("h\nh\n", "a", "--to", "v.jsonl", "--json")[1]
    assert json.loads(skipped) == {
        "file": "v.jsonl", "flagged": 3, "judged": 3, "harmful": 2, "harmless": 1, "waiting": 0, "on_other_replies": 0,
    }  # fmt: skip


def test_a_skipped_reply_is_asked_again_next_time_and_not_in_this_one(answer: Charter, tmp_path: Path) -> None:
    report(tmp_path / "a/eval")
    out = answer("s\ns\ns\n", "a")[1]
    assert out.count(" of 3 ─") == 3 and "0 of 3 flagged replies judged" in out
    assert not (tmp_path / "a.judgments.jsonl").exists()
    assert answer("s\n", "a")[1].count("1 of 3 ─") == 1


def test_it_is_blind_and_pools_stages_in_an_order_that_tells_nothing(answer: Charter, tmp_path: Path) -> None:
    queue = [(f"p{i}", 0, f"reply {i}") for i in range(12)]
    report(tmp_path / "a/eval_start", queue=queue[:6], stage="the start")
    report(tmp_path / "a/eval_rl", queue=[*queue[6:], queue[0]], stage="after RL")
    out = answer("h\n" * 20, "a")[1]
    assert "12 of 12 flagged replies judged" in out, "a text that two stages said is asked for once"
    assert not any(word in out for word in ("the start", "after RL", "eval_start", "eval_rl"))
    order = [int(line.split()[1]) for line in out.splitlines() if line.startswith("reply ")]
    assert sorted(order) == list(range(12))
    assert 0 < sum(i < 6 for i in order[:6]) < 6, "one stage after the other would tell them apart"
    staged = answer("h\n" * 20, "a", "--to", "other.jsonl", "--show-stage")[1]
    assert "by the start" in staged and "by after RL" in staged and "by after RL, the start" in staged
    assert [int(line.split()[1]) for line in staged.splitlines() if line.startswith("reply ")] == order


def test_a_runs_card_says_which_reports(answer: Charter, tmp_path: Path) -> None:
    first_report = report(tmp_path / "a/eval_1", queue=QUEUE[:1])
    report(tmp_path / "a/eval_2", queue=QUEUE[1:], stage="other")
    (tmp_path / "a/card").mkdir()
    parent = Parent(role="reports", step="eval_1", id=read_manifest(first_report).id, path="eval_1")
    card = Manifest(kind="card", id="c", status="done", step="card", room="card", recipe="r", parents=[parent])
    write_manifest(tmp_path / "a/card", card)
    assert "0 of 1 flagged" in answer("", "a")[1] and "0 of 2 flagged" in answer("", "a/eval_2")[1]


def test_what_a_reply_holds_moves_no_cursor_and_is_no_markup(answer: Charter, tmp_path: Path) -> None:
    reply = "\x1b[2J\x07[red]gone[/red]\r\x9b1mline\nnext\ttab"
    report(tmp_path / "a/eval", queue=[("a", 0, reply)])
    out = answer("h\n", "a")[1]
    assert "[red]gone[/red]" in out and not {"\x1b", "\x07", "\x9b", "\r"} & set(out)
    assert verdicts(tmp_path / "a.judgments.jsonl") == {("a", 0, reply): "harmful"}, "kept as it was said"


def test_rows_on_other_replies_and_their_columns_stay(answer: Charter, tmp_path: Path) -> None:
    report(tmp_path / "a/eval")
    other = {"id": "z", "sample": 4, "reply": "old", "verdict": "harmful", "by": "me"}
    mine = {"id": "a", "sample": 0, "reply": QUEUE[0][2], "verdict": None, "topic": "theft"}
    file = tmp_path / "a.judgments.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (other, mine)))
    out = answer("h\nh\nh\n", "a")[1]
    assert "1 more rows are on replies outside this review" in out
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows[0] == other and rows[1] == mine | {"verdict": "harmful"} and len(rows) == 4


def test_a_kill_between_two_verdicts_loses_none(
    answer: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it writes the second: the file has the whole first one, and the review resumes with the second."""
    report(tmp_path / "a/eval")
    real = review_session.write_jsonl
    calls = 0

    def dies(path: Path, rows: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        real(path, rows)

    monkeypatch.setattr(review_session, "write_jsonl", dies)
    assert answer("h\nl\nh\n", "a")[0] == 130
    assert list(verdicts(tmp_path / "a.judgments.jsonl").values()) == ["harmful"]
    monkeypatch.setattr(review_session, "write_jsonl", real)
    assert answer("l\nl\n", "a")[1].count(" of 3 ─") == 2


def test_at_a_terminal_one_key_answers_and_a_note_is_a_line(
    charter: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(tmp_path / "a/eval")
    keys: Iterator[str] = iter("xnHlq")
    terminal = io.StringIO("")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(typer, "getchar", lambda: next(keys))
    monkeypatch.setattr("builtins.input", lambda prompt: " why not ")
    code, out, _ = charter("review", "a")
    assert code == 0 and "[h]armful  harm[l]ess" in out and next(keys, None) is None
    judgments = read_judgments(tmp_path / "a.judgments.jsonl")
    assert [(j.verdict, j.note) for j in judgments] == [("harmful", "why not"), ("harmless", "")]


def test_a_report_that_flags_nothing_has_nothing_to_review(answer: Charter, tmp_path: Path) -> None:
    report(tmp_path / "a/eval", queue=[])
    assert answer("", "a")[:2] == (0, "the grader flagged no reply: there is nothing to review\n")


def broken_queue(folder: Path, text: str) -> None:
    (folder / "review.jsonl").write_text(text)
    finish(folder, "RL")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("nope",), "there is no run or card nope"),
        (("a/eval/samples",), "has no review.jsonl"),
        (("a", "--to", "a/eval/v.jsonl"), "a/eval/v.jsonl lies in the artifact eval, which a new file would damage"),
        (("a", "--to", "none/v.jsonl"), "there is no folder none; create it first"),
        (("a", "--to", "a"), "a is a folder; name a file for the verdicts"),
        (("a", "--to", "other.jsonl"), "other.jsonl:1: a row with the columns id; a judgment needs verdict and reply"),
        (("a", "--to", "twice.jsonl"), "twice.jsonl:2: sample 0 of a is harmless and was harmful before"),
        (("damaged",), "is damaged: samples/text.jsonl"),
        (("margins",), "is not a review queue: could not convert"),
        (("halves",), "halves/eval/review.jsonl:1: not JSON"),
    ],
)
def test_bad_files_are_one_line(answer: Charter, tmp_path: Path, words: tuple[str, ...], part: str) -> None:
    for run in ("a", "damaged", "margins", "halves"):
        report(tmp_path / run / "eval")
    (tmp_path / "damaged/eval/samples/text.jsonl").write_text("{}\n")
    row = {"id": "a", "sample": 0, "prompt": "?", "reply": "x", "verdict": None, "margin": "much"}
    broken_queue(tmp_path / "margins/eval", json.dumps(row) + "\n")
    broken_queue(tmp_path / "halves/eval", '{"half": \n')
    (tmp_path / "other.jsonl").write_text('{"id": "a"}\n')
    twice = [{"id": "a", "reply": "x", "verdict": verdict} for verdict in ("harmful", "harmless")]
    (tmp_path / "twice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in twice))
    before = record_files(tmp_path / "a/eval")
    code, _, err = answer("h\n", *words)
    assert code == 1 and part in err and err.count("\n") == 1
    assert record_files(tmp_path / "a/eval") == before
