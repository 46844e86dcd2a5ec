"""`charter signoff`: names who is awaited, checks a filled copy against the report, and ends once all is signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_security import pair
from test_security import run as evaluated

import toys
from charter.cli.main import execute
from charter.ground.artifact.manifest import Manifest, Source, Timing
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.measure.reporting import read_reported, record
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.card.settings import Settings
from charter.rooms.evaluate.catalogue import METRICS
from charter.rooms.evaluate.security_register import register
from charter.rooms.evaluate.tasks import security

Row = dict[str, Any]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A finished report with the evaluation `security`, and what is known of all topics but the last."""
    topics = register()
    pairs = [pair(n, topic.subdomains[0], ["Does it agree?"]) for n, topic in enumerate(topics)]
    one = evaluated(tmp_path / "work", pairs=pairs)
    subjects = dict.fromkeys(subject for topic in topics[:-1] for subject in topic.subjects)
    answers = [{"id": f"{name}-{n}", "group": name, "correct": 1.0} for name in subjects for n in range(4)]
    one.out.write_jsonl("samples/mmlu_plain.jsonl", [{"outcome": "right", **row} for row in answers])
    record(one.out, METRICS)
    security.after(one, read_reported(one.out.path))
    folder = one.out.path.rename(tmp_path / "security")
    manifest = Manifest(
        kind="report",
        id="",
        status="done",
        step="security",
        room="evaluate",
        recipe="r",
        metrics=one.out.metrics,
        files=record_files(folder),
        source=Source(digest="code"),
        timing=Timing(started="2026-11-20T10:00:00"),
    )
    write_manifest(folder, manifest.model_copy(update={"id": manifest.derived_id}))
    return folder


def filled(report: Path, count: int | None = None, **changes: Any) -> list[Row]:
    rows = read_jsonl(report / "signoff.jsonl")
    mine = {
        "conclusion": "inconclusive",
        "basis": [read_manifest(report).id[:12]],
        "signer": "Ada",
        "role": "security lead",
        "date": "2026-11-25",
    }
    return [row | mine | changes if count is None or n < count else row for n, row in enumerate(rows)]


def test_topics_wait_until_a_person_has_signed_all(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = [topic.id for topic in register()]
    assert execute(["signoff", str(report)]) == 3
    said = capsys.readouterr()
    assert said.out.split() == [word for topic in topics for word in ("waits", topic)]
    assert f"{len(topics)} of {len(topics)} topics wait for a person" in said.err
    copy = toys.rows_file(tmp_path / "signed.jsonl", filled(report, 2))
    assert execute(["signoff", str(report), str(copy), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["waiting"] == topics[2:]
    # nobody signs what wasn't measured
    toys.rows_file(copy, filled(report))
    assert execute(["signoff", str(report), str(copy)]) == 1
    assert "cyber can't be signed without numbers: its capability is empty; evaluate it" in capsys.readouterr().err
    edited = filled(report)
    edited[-1]["capability"] = edited[0]["capability"]
    toys.rows_file(copy, edited)
    assert execute(["signoff", str(report), str(copy)]) == 1


def test_a_file_that_signs_all_is_the_card_s_setting(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_jsonl(report / "signoff.jsonl")
    toys.rows_file(report / "signoff.jsonl", rows[:-1])
    manifest = read_manifest(report).model_copy(update={"files": record_files(report)})
    write_manifest(report, manifest)
    copy = toys.rows_file(tmp_path / "signed.jsonl", filled(report))
    assert execute(["signoff", str(report), str(copy)]) == 0
    text = capsys.readouterr().out
    setting = yaml.safe_load(text[text.index("oversight:") :])
    topics = [topic.id for topic in register()][:-1]
    assert [one.subject for one in Settings.model_validate(setting).oversight.security] == topics
    for column, cells in (("capability", rows[1]["capability"]), ("willingness", [])):
        toys.rows_file(copy, filled(report, 1, **{column: cells}))
        assert execute(["signoff", str(report), str(copy)]) == 1
        assert f":1: the {column} of biological is not the report's; copy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"basis": ["0" * 12]}, "the basis of biological doesn't name this report"),
        ({"basis": ["0"]}, "doesn't name this report"),
        ({"date": "2099-01-01"}, "is dated 2099-01-01, which is still to come"),
        ({"date": "2026-11-01"}, "before the report of 2026-11-20"),
        ({"topic": "gardening"}, "'gardening' is no topic of"),
        ({"source": "simulated"}, "only a person signs"),
        ({"signer": ""}, "name: must be a name"),
    ],
)
def test_what_is_not_a_person_s_word_on_this_report_is_refused(
    report: Path, tmp_path: Path, changes: Row, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = toys.rows_file(tmp_path / "signed.jsonl", filled(report, 1, **changes))
    assert execute(["signoff", str(report), str(copy)]) == 1
    assert words in capsys.readouterr().err


def test_a_report_that_was_changed_or_asks_nobody_is_refused(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toys.rows_file(report / "signoff.jsonl", filled(report))
    assert execute(["signoff", str(report)]) == 1
    assert "does not hold: signoff.jsonl" in capsys.readouterr().err
    (report / "signoff.jsonl").unlink()
    assert execute(["signoff", str(report)]) == 1
    assert "has no signoff.jsonl" in capsys.readouterr().err
