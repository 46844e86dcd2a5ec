"""`charter runs`: status, steps done, last change and size of each run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from charter.cli.runs import spell_bytes, status_of
from charter.runner.directory import RunDirectory

Charter = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("fake_rooms")
def test_runs_are_listed_with_what_became_of_them(
    charter: Charter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert charter("runs")[1] == "there are no runs in runs; charter run RECIPE makes one\n"
    charter("run", "recipe.yaml", "--out", "runs/whole")
    charter("run", "recipe.yaml", "--out", "runs/part", "--until", "made")
    monkeypatch.setenv("FAULT", "refuse 1")
    charter("run", "recipe.yaml", "--out", "runs/broken")
    (tmp_path / "runs" / "unread").mkdir()
    (tmp_path / "runs" / "unread" / "run.json").write_text("{}")
    rows = {row["name"]: row for row in json.loads(charter("runs", "--json")[1])["runs"]}
    states = {name: (row["status"], row["done"], row["steps"]) for name, row in rows.items()}
    assert states == {
        "whole": ("done", 3, 3),
        "part": ("unfinished", 1, 3),
        "broken": ("failed", 0, 3),
        "unread": ("unreadable", 0, 0),
    }
    assert rows["whole"]["bytes"] == sum(
        path.stat().st_size for path in Path("runs/whole").rglob("*") if path.is_file()
    )
    lines = charter("runs")[1].splitlines()
    assert lines[0].split() == ["run", "status", "steps", "done", "last", "change", "size"]
    assert [line.split()[0] for line in lines[1:]] == sorted(rows, key=lambda n: rows[n]["changed"], reverse=True)
    with RunDirectory(Path("runs/part")).lock():
        assert "running" in next(line for line in charter("runs")[1].splitlines() if "part" in line)
    assert not RunDirectory(Path("runs/part")).in_use()


def test_what_waits_or_failed_comes_before_what_is_left() -> None:
    assert status_of(["done", "failed", "waiting"]) == "failed"
    assert status_of(["done", "waiting", "pending"]) == "waiting"
    assert status_of(["done", "outdated"]) == "unfinished"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20 - 1, "1024.0 KiB"), (2_800_000_000, "2.6 GiB")],
)
def test_bytes_are_spelt_in_the_largest_unit(size: int, words: str) -> None:
    assert spell_bytes(size) == words
