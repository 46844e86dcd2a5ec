"""National security: rates by hand, the three columns and their sign-off, FORTRESS's rows, nothing technical shipped."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.measure.reporting import read_reported, record
from charter.ground.reports.signoff import CONCLUSIONS, SignOff, read_topics, signed_of, waiting
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.catalogue import METRICS
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.security_register import OTHER, register, signoff_rows, topic_of
from charter.rooms.evaluate.tasks import security
from charter.rooms.evaluate.tasks.mmlu_plain import SUBJECTS

Row = dict[str, Any]
FORTRESS = Path(os.environ.get("CHARTER_DATA", "nowhere")) / "fortress/fortress_pairs.jsonl.gz"
# Words of method, by category: substances, devices, software. None of them stands in anything that ships.
TECHNICAL = (
    *("precursor", "reagent", "synthesis route", "stoichiometr", "lethal dose", "aerosol"),
    *("pathogen", "culture medium", "gain of function", "fissile", "isotope", "centrifuge", "yellowcake"),
    *("warhead", "shaped charge", "blasting cap", "shellcode", "zero-day", "privilege escalation"),
)
WRITTEN = (".jsonl", ".yaml", ".yml", ".md", ".csv", ".jinja", ".html", ".js")


def pair(number: int, subdomain: str, rubric: list[str]) -> Row:
    prompts = {"adversarial_prompt": f"Bad wish {number}.", "benign_prompt": f"Good wish {number}."}
    return {"ID": number, **prompts, "rubric": rubric, "risk_domain": "x", "risk_subdomain": subdomain}


PAIRS = [pair(1, "Biological: words", ["Does it agree?", "Does it list?"]), pair(2, "Fraud: words", ["Does it agree?"])]


def say(messages: Any, k: int) -> str:
    """Refuses the first bad wish and the second good one."""
    refused = messages[-1]["content"] in ("Bad wish 1.", "Good wish 2.")
    return "I can't help with that." if refused else "Gladly, here it is."


def judge(messages: Any, k: int) -> str:
    """Sees agreement where there is some; says yes to every question on lists."""
    text = messages[-1]["content"]
    assert "Good wish" not in text, "the rubric is of the adversarial prompt"
    if "list" in text:
        return "Yes."
    agrees = "Gladly" in text
    return "Yes." if agrees != ("Is No the right" in text) else "No."


def run(folder: Path, judged: bool = True, pairs: list[Row] = PAIRS) -> Any:
    one = desk.context(
        "security", folder, toys.Scripted(say), {"set": pairs}, further=[toys.given("judge", folder, "assistant")]
    )
    one.models.start, one.models.judge = None, toys.Scripted(judge) if judged else None
    kept = desk.run_task(one)
    one.out.write_jsonl("samples/security.jsonl", kept)
    assert all(security.mark(row).items() <= row.items() for row in kept)
    return one


def test_willingness_by_hand(tmp_path: Path) -> None:
    """Pair 1: no agreement, and a flip on lists; pair 2: agreement."""
    one = run(tmp_path)
    record(one.out, METRICS)
    values = {metric.name: metric.value for metric in one.out.metrics}
    expected = {
        "security_refused": 0.5,
        "security_benign_refused": 0.5,
        "security_gap": 0.0,
        "security_rubric": 0.5,
        "security_rubric_flips": 0.25,
        "security_refused_biological": 1.0,
        "security_rubric_biological": 0.0,
        "security_rubric_illicit_trade": 1.0,
        "security_benign_refused_illicit_trade": 1.0,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert "security_refused_cyber" not in values


def test_without_a_judge_there_are_refusals_alone(tmp_path: Path) -> None:
    one = run(tmp_path, judged=False)
    record(one.out, METRICS)
    assert not any("rubric" in metric.name for metric in one.out.metrics)
    assert "no judge" in one.summary["absent"]["security_rubric"]


def test_the_columns_stay_apart_and_wait_for_a_person(tmp_path: Path) -> None:
    one = run(tmp_path)
    answers = [{"id": f"q{n}", "group": "virology", "correct": float(n < 30)} for n in range(40)]
    one.out.write_jsonl(
        "samples/mmlu_plain.jsonl", [{"outcome": "right" if row["correct"] else "wrong", **row} for row in answers]
    )
    record(one.out, METRICS)
    reported = read_reported(one.out.path)
    security.after(one, reported)
    rows = read_jsonl(one.out.path / "signoff.jsonl")
    assert rows == signoff_rows(reported) and [row["topic"] for row in rows] == [t.id for t in register()]
    (cell,) = rows[0]["capability"]
    assert (cell["metric"], cell["value"], cell["chance"], cell["above_chance"]) == (
        "mmlu_plain_virology",
        0.75,
        0.25,
        True,
    )
    assert [cell["metric"] for cell in rows[0]["willingness"]] == [
        "security_refused_biological",
        "security_benign_refused_biological",
        "security_rubric_biological",
    ]
    assert not rows[1]["capability"] and not rows[1]["willingness"], "nothing was measured"
    signoffs = read_topics(one.out.path / "signoff.jsonl")
    assert waiting(signed_of(signoffs), [t.id for t in register()]) == tuple(t.id for t in register())


SIGNED = {
    "topic": "cyber",
    "conclusion": "both",
    "basis": ["abc"],
    "signer": "Ada",
    "role": "lead",
    "date": "2026-12-01",
}


def test_a_person_signs_a_topic(tmp_path: Path) -> None:
    path = toys.rows_file(tmp_path / "signoff.jsonl", [SIGNED, {"topic": "chemical", "conclusion": None}])
    signoffs = signed_of(read_topics(path))
    assert signoffs == [SignOff.model_validate(SIGNED)] and signoffs[0].evidence == ("abc",)
    assert waiting(signoffs, ["biological", "chemical", "cyber"]) == ("biological", "chemical")
    assert SIGNED["conclusion"] in CONCLUSIONS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conclusion": "fine"}, "decision: must be 'approved'"),
        ({"source": "simulated"}, "only a person signs"),
        ({"basis": []}, "evidence .in a form: basis. is empty"),
        ({"signer": " "}, "name: must be a name"),
        ({"date": "yesterday"}, "date: must be a date"),
        ({"topic": ""}, "without a topic"),
    ],
)
def test_a_broken_sign_off_is_refused_with_its_line(tmp_path: Path, change: Row, message: str) -> None:
    path = toys.rows_file(tmp_path / "signoff.jsonl", [SIGNED, {**SIGNED, "topic": "chemical", **change}])
    with pytest.raises(CharterError, match=rf"signoff\.jsonl:2: .*{message}"):
        read_topics(path)


def test_a_topic_is_signed_once(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="'cyber' stands twice"):
        read_topics(toys.rows_file(tmp_path / "signoff.jsonl", [SIGNED, SIGNED]))


def test_the_register_names_categories_and_subjects_that_are_asked() -> None:
    ids = [topic.id for topic in register()]
    assert len(set(ids)) == len(ids) == 7
    assert {subject for topic in register() for subject in topic.subjects} <= set(SUBJECTS)
    assert topic_of("Illegal Weapons: x") == "explosives_weapons" and topic_of("Cooking") == OTHER


def technical(text: str) -> list[str]:
    """The technical words in a text."""
    return [word for word in TECHNICAL if re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE)]


def test_nothing_technical_ships() -> None:
    package = shipped_folder().parent
    folders = [package, *(folder for name in ("recipes", "docs") if (folder := package.parents[1] / name).is_dir())]
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix in WRITTEN]
    assert len(files) > 100 and any(p.name == "security.yaml" for p in files)
    assert {p.name: found for p in files if (found := technical(p.read_text("utf-8")))} == {}
    assert technical("Which Precursors does one need?") == ["precursor"], "the list can find something"


@pytest.mark.skipif(not FORTRESS.is_file(), reason="CHARTER_DATA has no fortress")
def test_the_public_pairs_are_read_and_each_has_a_topic() -> None:
    pairs = read_split(FORTRESS, TEST, security.parse)
    assert len(pairs) == 308 and len({pair.id for pair in pairs}) == 308
    assert OTHER not in {pair.group for pair in pairs} and {pair.group for pair in pairs} == {t.id for t in register()}
    assert {len(pair.meta["rubric"]) for pair in pairs} <= {4, 5, 6, 7}
