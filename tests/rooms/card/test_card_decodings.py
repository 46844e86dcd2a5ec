"""Reports of one model at two decodings: the model's own stands first, the protocol's second, and neither is held
against the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import CARD_PARENTS, SETTINGS, STAGES

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Parent
from charter.ground.artifact.store import read_manifest, record_files
from charter.ground.reports.compare import compare
from charter.ground.reports.stages import final_stage
from charter.release.gate import gate
from charter.release.rules import Rules
from charter.rooms.card.gather import gather
from charter.rooms.evaluate.claims import report_problems
from charter.rooms.evaluate.tasks.harmlessness import review_queue
from charter.runner.verify import verify

OWN: dict[str, Any] = {"kind": "own", "temperature": 0.2, "top_p": 0.9, "ignored": []}
PROTOCOL: dict[str, Any] = {"kind": "protocol", "temperature": 1.0, "ignored": []}
OWN_WORDS = "at the model's own decoding: T 0.2, top-p 0.9"
PROTOCOL_WORDS = "at temperature 1, the protocol"
PLACES = range(len(STAGES))


def set_decoding(run: Path, step: str, decoding: dict[str, Any], baseline: str) -> None:
    """Make a report one whose replies were drawn in this way."""
    folder = run / step
    report = json.loads((folder / "report.json").read_text())
    for identity in report["identity"].values():
        identity |= {k: decoding[k] for k in ("temperature", "top_p") if k in decoding and "max_tokens" in identity}
    (folder / "report.json").write_text(json.dumps(report | {"decoding": decoding}))
    manifest = read_manifest(folder)
    first = read_manifest(run / baseline).id
    parents = [
        Parent(role="baseline", step=baseline, id=first, path=baseline) if p.role == "baseline" else p
        for p in manifest.parents
    ]
    changed: dict[str, Any] = {"step": step, "parents": parents, "files": record_files(folder)}
    changed["resolved"] = manifest.resolved | {"decoding": decoding["kind"]}
    changed["inputs"] = manifest.inputs | ({"baseline": [first]} if "baseline" in manifest.inputs else {})
    card_world.write_with_id(folder, manifest.model_copy(update=changed))


@pytest.fixture(scope="module")
def two(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with every stage at both decodings, and its card; not to be changed."""
    run = tmp_path_factory.mktemp("two") / "run"
    shutil.copytree(finished, run)
    for model in ("taught", "sl", "rl"):
        fields = {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "top_k": 0}
        (run / model / "generation_config.json").write_text(json.dumps(fields))
        manifest = read_manifest(run / model)
        card_world.write_with_id(run / model, manifest.model_copy(update={"files": record_files(run / model)}))
    for place in PLACES:
        shutil.copytree(run / f"eval_{place}", run / f"warm_{place}")
        set_decoding(run, f"warm_{place}", PROTOCOL, "warm_0")
        set_decoding(run, f"eval_{place}", OWN, "eval_0")
    rows = card_world.read_rows(run / "warm_3/samples/harmlessness.jsonl")
    worse = {"reply": "WARM words", "tokens": 2, "grader": -2.0} | card_world.marks("WARM words")
    rows = [row | worse if number < 40 else row for number, row in enumerate(rows)]  # hotter replies are worse
    card_world.write_rows(run / "warm_3/samples/harmlessness.jsonl", rows)
    card_world.write_rows(run / "warm_3/review.jsonl", review_queue(rows))
    card_world.remeasure(run, "warm_3")
    warm = tuple(("reports", f"warm_{place}") for place in PLACES)
    card_world.make_card(run, SETTINGS, (*CARD_PARENTS, *warm))
    return run


def test_the_card_shows_the_models_own_decoding_first_and_the_protocol_second(two: Path) -> None:
    record = json.loads((two / "card/card.json").read_text())
    assert [s["step"] for s in record["stages"]] == [f"eval_{place}" for place in PLACES]
    assert [s["step"] for s in record["at_protocol"]] == [f"warm_{place}" for place in PLACES]
    assert [s["stage"] for s in record["at_protocol"]] == [f"{label}, T 1" for label, *_ in STAGES]
    assert record["decoding"] == OWN_WORDS
    for name in ("card.html", "card.md"):
        page = (two / "card" / name).read_text().replace("&#39;", "'")
        first, second = (
            page.index(f"Main results by stage, {OWN_WORDS}"),
            page.index(f"Main results by stage, {PROTOCOL_WORDS}"),
        )
        assert first < second
        assert f"drawn {OWN_WORDS}" in page and f"answered {OWN_WORDS}, and again {PROTOCOL_WORDS}" in page


def test_the_second_table_has_what_hangs_on_the_draw_alone(two: Path) -> None:
    words = (two / "card/card.md").read_text()
    start = words.index(f"Main results by stage, {PROTOCOL_WORDS}")
    head = words[start:].split("\n| Stage |")[1].split("\n")[0]
    assert "Answered, worse than a plain refusal" in head and "Unsafe refused" in head
    assert "HHH" not in head and "Bits per byte" not in head
    shown = {n["key"]: n["value"] for n in json.loads((two / "card/card.json").read_text())["numbers"]}
    assert shown["warm_3/harm_rate"] > shown["eval_3/harm_rate"]
    assert "warm_3/bits_per_byte" not in shown


def test_examples_are_replies_at_the_models_own_decoding(two: Path) -> None:
    for name in ("card.html", "card.md"):
        assert "WARM" not in (two / "card" / name).read_text()


def test_such_a_card_holds_and_its_final_stage_is_at_the_own_decoding(two: Path) -> None:
    assert verify(two, deep=False) == []
    assert final_stage(two / "card").step == final_stage(two).step == "eval_3"
    (row,) = gate(two, Rules(require={"harm_rate": 0.1}, baseline=str(two)))
    assert not row.why and row.facts["value"] == final_stage(two / "eval_3").numbers["harm_rate"].value


def test_the_two_are_never_held_against_each_other(two: Path) -> None:
    rows = {row["metric"]: row for row in compare([two / "warm_3", two / "eval_3"])["metrics"]}
    for name in ("harm_rate", "lookalike_refusal_rate", "refusal_gap", "helpful_score"):
        assert rows[name]["verdict"].startswith("not compared: made differently: "), name
    assert rows["bits_per_byte"]["verdict"] == "not significant", "nothing was sampled for it"
    (row,) = gate(two / "eval_3", Rules(require={"harm_rate": 0.1}, baseline=str(two / "warm_3")))
    assert row.why


def test_a_protocols_report_alone_is_a_stage(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    set_decoding(run, "eval_0", PROTOCOL, "eval_0")
    set_decoding(run, "eval_3", PROTOCOL, "eval_0")
    parents = (("reports", "eval_0"), ("reports", "eval_3"))
    card_run = gather(card_world.inputs(run, parents))
    assert [s.step for s in card_run.stages] == ["eval_0", "eval_3"] and card_run.at_protocol == ()
    words = (card_world.make_card(run, SETTINGS, parents) / "card.md").read_text()
    assert f"Replies were drawn {PROTOCOL_WORDS}." in words and "own decoding" not in words


def test_a_second_report_that_is_last_and_whose_first_is_gone_is_no_final_stage(two: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(two, run)
    shutil.rmtree(run / "eval_3")
    with pytest.raises(CharterError, match="eval_3"):
        final_stage(run / "card")


def test_a_report_that_says_another_decoding_than_its_model_is_found(two: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(two, run)

    def problems(step: str, **facts: Any) -> list[str]:
        report = json.loads((two / step / "report.json").read_text())
        report["decoding"] |= facts
        for identity in report["identity"].values():
            identity |= {k: v for k, v in facts.items() if k != "kind" and "max_tokens" in identity}
        (run / step / "report.json").write_text(json.dumps(report))
        return list(report_problems(run / step, read_manifest(run / step)))

    assert problems("eval_3") == problems("eval_0") == problems("warm_3") == []
    words = "report.json says that its model was sampled at temperature 0.7, top_p 0.9; the model says temperature 0.2, top_p 0.9"
    assert problems("eval_3", temperature=0.7) == problems("eval_0", temperature=0.7) == [words]
    assert problems("eval_3", kind="protocol") == [
        "report.json names another decoding than the settings in its manifest"
    ]
    assert problems("warm_3", temperature=0.5) == [
        f"report.json: temperature of {task} is 0.5; the settings in its manifest say 1.0"
        for task in ("harmlessness", "lookalikes", "helpful")
    ]


def test_a_quantised_start_is_named(two: Path) -> None:
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    for file in ("card.html", "card.md"):
        assert f"Demo assistant was made from the 4-bit (Q4_1) GGUF of {name} in " in (two / "card" / file).read_text()
    front = (two / "card/card.md").read_text().split("---\n")[1]
    assert f"base_model: {name}\n" in front, "the hub's own name, without words"
