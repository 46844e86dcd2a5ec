"""Verification: an untouched run holds, and each kind of tampering is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import SETTINGS, edit

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import External, Metric, digest_file
from charter.ground.artifact.recount import Kept, count_problems
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.judge.detect import precision_recall, training_digest
from charter.ground.judge.fitness import Fitness
from charter.ground.settings.sources import shipped
from charter.rooms.card import verify as card_verify
from charter.rooms.card.layout import IDS
from charter.rooms.card.verify import _file_problems, card_problems
from charter.rooms.critique.product import REASONS as critique_reasons
from charter.rooms.critique.verify import COUNTS, REASONS
from charter.rooms.feedback.labels import label_weight
from charter.rooms.feedback.settings import Settings as FeedbackSettings
from charter.rooms.feedback.verify import COUNTS as OF_FEEDBACK
from charter.runner.verify import artifact_problems, recompute, verify


def of(run: Path, step: str) -> list[str]:
    """Problems of one artifact."""
    return artifact_problems(run / step, read_manifest(run / step))


def test_an_untouched_run_holds_and_deep_samples_every_report(finished: Path) -> None:
    reports = []

    def regenerate(report: Path, count: int) -> list[str]:
        reports.append(report.name)
        return ["eval_2: differs"] if report.name == "eval_2" else []

    assert verify(finished, True, regenerate) == ["eval_2: differs"]
    assert reports == ["eval_0", "eval_1", "eval_2", "eval_3"]


@pytest.mark.slow
def test_a_moved_card_holds_with_its_ancestors(run: Path) -> None:
    moved = run.rename(run.with_name("elsewhere"))
    problems = card_verify.verify(moved / "card", True, recompute)
    assert len(problems) == 1 and "not drawn anew" in problems[0]
    assert verify(moved / "card/card.html", deep=False) == []


def test_a_changed_file_is_found(run: Path) -> None:
    path = run / "eval_1/more.jsonl"
    path.write_text("{}\n")
    assert of(run, "eval_1") == ["more.jsonl is not in the manifest"]
    path.unlink()
    path = run / "eval_1/report.json"
    path.write_text(path.read_text().replace("taught", "tuaght"))
    assert of(run, "eval_1") == ["report.json was changed (sha256 differs)"]


def better(text: str) -> str:
    rows = [json.loads(line) for line in text.splitlines()]
    first = next(r for r in rows if r["grader"] < r["grader_fixed"])
    first["grader"] = first["grader_fixed"] + 1
    return "".join(json.dumps(r) + "\n" for r in rows)


def test_a_changed_score_is_found_though_hashes_were_made_again(run: Path) -> None:
    edit(run, "eval_3", "samples/harmlessness.jsonl", better)
    problems = of(run, "eval_3")
    assert not any("sha256" in p for p in problems)
    assert "harm_rate: tables.json has other sums than the kept rows give" in problems


def test_a_changed_score_is_found_though_the_metrics_were_made_again(run: Path) -> None:
    edit(run, "eval_3", "samples/harmlessness.jsonl", better)
    old = read_manifest(run / "eval_3")
    parents = tuple((p.role, p.step) for p in old.parents)
    resolved = dict(old.resolved)
    external = tuple((e.role, e.ref) for e in old.external)
    card_world.finish(run, "eval_3", "evaluate", "report", parents=parents, external=external, resolved=resolved)
    assert read_manifest(run / "eval_3").id == old.id
    assert of(run, "eval_3") == []
    problems = card_problems(run / "card")
    assert any("value of eval_3/harm_rate" in p for p in problems) and "further problems" in problems[-1]


def changed_row(run: Path, step: str, file: str, number: int, change: Callable[[Any], Any]) -> None:
    path = run / step / file
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number] = change(rows[number])
    card_world.write_rows(path, [row for row in rows if row is not None])


def turned(key: str) -> Callable[[Any], Any]:
    return lambda row: {**row, key: not row[key]}


def remade(run: Path, *steps: str) -> list[str]:
    """Hashes, metrics and card made again after a change, and what verification says then."""
    for step in steps:
        card_world.remeasure(run, step)
    card_world.make_card(run, SETTINGS)
    return verify(run, deep=False)


def test_changed_flags_are_found_though_metrics_hashes_and_card_were_made_again(run: Path) -> None:
    changes = [
        ("eval_3", "harmlessness", "refusal"),
        ("eval_3", "harmlessness", "boilerplate"),
        ("eval_2", "lookalikes", "refusal"),
        ("eval_2", "helpful", "loop"),
        ("eval_1", "hhh", "correct"),
        ("eval_1", "fitness", "fixed_above_harmful"),
        ("eval_1", "fitness_reward", "good_above_fixed"),
        ("pm_grader", "heldout_pairs", "correct"),
        ("labels", "known_pairs", "correct"),
    ]
    for step, file, key in changes:
        changed_row(run, step, f"samples/{file}.jsonl", 0, turned(key))
    said_again(run, "eval_1")
    problems = remade(run, *{step for step, _, _ in changes})
    # each report keeps a copy of the pairs that its grader held out, one of which was changed there
    copies = [p for p in problems if p.endswith("does not hold the helpful pairs that the grader pm_grader held out")]
    assert [p.partition(":")[0] for p in copies] == ["eval_0", "eval_1", "eval_2", "eval_3"]
    assert len(problems) == len(changes) + len(copies), problems
    for step, file, key in changes:
        assert any(p.startswith(f"{step}: samples/{file}.jsonl: {key} of ") for p in problems), (file, key)


def said_again(run: Path, step: str) -> None:
    """The verdicts of a report's graders from its changed triples."""

    def change(text: str) -> str:
        report = json.loads(text)
        for role, file in (("grader", "fitness"), ("reward", "fitness_reward")):
            gate = Fitness(read_objects(run / step / f"samples/{file}.jsonl"))
            report[role] |= {"fit": gate.fit, "why": gate.why}
        return json.dumps(report)

    edit(run, step, "report.json", change)


@pytest.mark.slow
def test_changed_counts_are_found_though_metrics_hashes_and_card_were_made_again(run: Path) -> None:
    changes: dict[str, dict[str, float]] = {
        "revisions": {"kept": 59, "kept_share": 0.99, "dropped_loop": 0, "prompts": 61},
        "labels": {"comparisons": 241, "pairs": 253, "label_weight": 0.5, "mean_p_chosen": 0.9},
        "pm_reward": {"heldout_pairs": 151},
    }
    for step, counts in changes.items():
        edit(run, step, "counts.json", lambda text, counts=counts: json.dumps(json.loads(text) | counts))  # type: ignore[misc]
    problems = remade(run, *changes)
    starts = [f"{s}: counts.json: {n} is {float(v)}; the rows" for s, c in changes.items() for n, v in c.items()]
    assert all(any(p.startswith(start) for p in problems) for start in starts), problems
    assert all(p.startswith(tuple(starts)) for p in problems), problems


def test_counts_of_drafts_are_counted_again(run: Path) -> None:
    drafts = [
        {"id": str(n), "draft": text, "stop": stop, "rounds": []}
        for n, (text, stop) in enumerate(
            (("Go by bus.", "end"), ("Take the", "length"), (card_world.LOOPS, "length"), ("", "end"))
        )
    ]
    files = {"transcripts.jsonl": drafts, "dialogues.jsonl": [{"id": "0"}, {"id": "1"}]}
    counts = {"prompts": 4.0, "samples": 2.0, "cut": 1.0, "loop": 1.0}
    assert list(count_problems(COUNTS, Kept(files, counts, {}))) == []
    for name in counts:
        (line,) = count_problems(COUNTS, Kept(files, counts | {name: 7.0}, {}))
        assert line.startswith(f"counts.json: {name} is 7.0")


def test_rules_follow_the_rooms() -> None:
    assert critique_reasons == REASONS
    kept = Kept({"samples/known_pairs.jsonl": []}, {}, FeedbackSettings().model_dump())
    weights = dict(OF_FEEDBACK[:4])
    for right in (0, 20, 30, 45, 60):
        known = [{"id": f"c{n}", "correct": n < right} for n in range(60)]
        expected = label_weight(FeedbackSettings(), known)
        assert weights["label_weight"](replace(kept, files={"samples/known_pairs.jsonl": known})) == expected
    assert weights["label_weight"](kept) == 1.0


def test_replies_of_other_detectors_are_not_marked_again(run: Path) -> None:
    def other(text: str) -> str:
        report = json.loads(text)
        report["identity"]["lookalikes"]["detectors"] = "0" * 64
        return json.dumps(report)

    changed_row(run, "eval_1", "samples/lookalikes.jsonl", 0, turned("refusal"))
    edit(run, "eval_1", "report.json", other)
    card_world.remeasure(run, "eval_1")
    (line,) = of(run, "eval_1")
    assert "detectors trained on other examples" in line


@pytest.mark.slow
def test_artifacts_of_other_runs_are_verified_each_once(run: Path) -> None:
    foreign = card_world.elsewhere(run, "pm_reward")
    parents = (*card_world.CARD_PARENTS, ("preference", "../other/pm_reward"))
    card_world.make_card(run, SETTINGS, parents)
    assert verify(run, deep=False) == []
    (foreign / "config.json").write_text("{}")
    for place in (run, run / "card"):
        (line,) = verify(place, deep=False)
        assert line.startswith("../other/pm_reward: config.json has 2 bytes")
    shutil.rmtree(foreign)
    assert any("pm_reward (preference" in line for line in verify(run, deep=False))


def test_damage_of_any_form_gives_a_line(run: Path) -> None:
    def gone(row: dict[str, Any]) -> dict[str, Any]:
        left = {k: v for k, v in row.items() if k not in ("prompt", "boilerplate")}
        return left | {"messages": [{}], "refusal": True}

    changed_row(run, "eval_3", "samples/lookalikes.jsonl", 0, gone)
    card_world.remeasure(run, "eval_3")
    assert any("can't be read (KeyError: 'boilerplate')" in line for line in of(run, "eval_3"))
    manifest = read_manifest(run / "card")
    shows_all = manifest.resolved | {"failures_shown": 50}
    write_manifest(run / "card", manifest.model_copy(update={"resolved": shows_all}))
    assert card_problems(run / "card") == ["can't be made again: KeyError: 'content'"]


def test_a_page_that_is_no_text_gives_a_line(run: Path) -> None:
    path = run / "card/card.html"
    path.write_bytes(path.read_bytes() + b"\xff")
    (line,) = card_problems(run / "card")
    assert line.startswith("card.html can't be read (UnicodeDecodeError")


@pytest.mark.parametrize("error", [RuntimeError("out of\nmemory"), CharterError("no model there")])
def test_an_error_while_sampling_anew_keeps_what_was_found(run: Path, error: Exception) -> None:
    (run / "taught/config.json").write_text("{}")

    def regenerate(report: Path, count: int) -> list[str]:
        if report.name == "eval_1":
            raise error
        return []

    problems = verify(run, True, regenerate)
    assert len(problems) == 2 and problems[0].startswith("taught: config.json")
    assert problems[1].startswith("eval_1: samples can't be drawn anew (") and "\n" not in problems[1]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"grader": None}, "report.json calls its grader None; the kept triples say otherwise"),
        ({"reward": None}, "report.json names another reward than its manifest"),
        (
            {"identity": {"harmlessness": {"data": [{"ref": "x", "id": "b"}]}}},
            "names another red_team than its manifest",
        ),
        (
            {"identity": {"harmlessness": {"max_tokens": 5}}},
            "report.json: max_tokens of harmlessness is 5; the settings in its manifest say 96",
        ),
    ],
    ids=["no grader", "no reward", "set", "setting"],
)
def test_what_a_report_says_of_itself_must_be_so(run: Path, change: dict[str, Any], line: str) -> None:
    edit(run, "eval_3", "report.json", lambda text: json.dumps(json.loads(text) | change))
    assert any(line in problem for problem in of(run, "eval_3"))


@pytest.mark.parametrize("column", ["score", "baseline"])
def test_wins_that_no_reply_earned_are_found(run: Path, column: str) -> None:
    changed_row(run, "eval_3", "samples/wins.jsonl", 4, lambda row: row | {column: 9.0})
    card_world.remeasure(run, "eval_3")
    (line,) = (p for p in of(run, "eval_3") if "wins.jsonl" in p)
    assert f"samples/wins.jsonl: {column} of" in line and "is 9.0; the report that it comes from says" in line


def test_precision_and_recall_of_detectors_are_measured_again(run: Path) -> None:
    labelled = shipped("detectors.heldout")
    path = run / "eval_3"
    outside = External(role="detectors", ref="shipped:detectors.heldout", digest=digest_file(labelled))
    manifest = read_manifest(path)
    inputs = manifest.inputs | {"detectors": [outside.digest]}
    changed = {"external": [*manifest.external, outside], "inputs": inputs}
    card_world.write_with_id(path, manifest.model_copy(update=changed))

    def list_problems(scores: dict[str, Any]) -> list[str]:
        def change(text: str) -> str:
            report = json.loads(text)
            report["identity"]["harmlessness"]["detectors"] = training_digest()
            return json.dumps(report | {"detectors": scores})

        edit(run, "eval_3", "report.json", change)
        return of(run, "eval_3")

    measured = precision_recall(read_objects(labelled))
    assert list_problems(measured) == []
    measured["loop"]["recall"] = 1.0 - measured["loop"]["recall"] / 2
    assert list_problems(measured) == [
        "report.json: precision and recall of the detectors are not what shipped:detectors.heldout gives"
    ]


def test_a_file_that_no_card_is_made_of_is_found(run: Path) -> None:
    folder = run / "card"
    (folder / ".eval_results/flattery.yaml").write_text("harm: 0\n")
    edit(run, "card", "counts.json", lambda text: text.replace('"sections": ', '"sections": 1'))
    problems = card_problems(folder)
    assert ".eval_results/flattery.yaml is not a file of a card" in problems
    assert any(p.startswith("counts.json is not what the artifacts give") for p in problems)


def test_false_words_on_a_grader_are_found(run: Path) -> None:
    edit(
        run, "eval_3", "report.json", lambda t: t.replace("fixed reply above the harmful one in", "fixed reply near", 1)
    )
    (line,) = of(run, "eval_3")
    assert (
        line.startswith("report.json says of its grader: fixed reply near")
        and "triples give: fixed reply above" in line
    )


def test_a_changed_card_is_found(run: Path) -> None:
    def flatter(text: str) -> str:
        card = json.loads(text)
        number = next(n for n in card["numbers"] if n["key"] == "eval_3/harm_rate")
        number["value"] /= 2
        return json.dumps(card)

    edit(run, "card", "card.json", flatter)
    edit(run, "card", "card.html", lambda t: t.replace("not significant", "better", 1))
    edit(run, "card", "card.md", lambda t: t + "It won every prize.\n")
    assert of(run, "card") == []
    problems = card_problems(run / "card")
    assert any("card.json: value of eval_3/harm_rate is" in p for p in problems)
    assert any("card.html is not what the artifacts give" in p for p in problems)
    assert any("card.md is not what the artifacts give: it has" in p for p in problems)


def test_a_carriage_return_in_a_reply_is_no_difference(run: Path) -> None:
    """The card is compared as bytes; a line of it ends at a newline and nowhere else."""
    odd = "First.\rSecond.\u2028Third."
    folder = run / "card"
    for name in ("card.md", "card.html"):
        content = (folder / name).read_bytes().decode() + odd
        (folder / name).write_bytes(content.encode())
        kept = list(_file_problems(folder, {name: content}))
        assert kept == []
        (line,) = _file_problems(folder, {name: content.replace("Second", "Third")})
        assert "'First.\\rSecond" in line or "Second" in line


@pytest.mark.parametrize("name", ["card.html", "plots", "manifest.json"])
def test_a_link_in_place_of_a_file_is_found(run: Path, name: str) -> None:
    place = run / "card" / name
    place.rename(run.with_name(name))
    place.symlink_to(run.with_name(name))
    problems = of(run, "card")
    assert problems and all("is a link" in one for one in problems)


def test_a_metric_without_source_is_found(run: Path) -> None:
    manifest = read_manifest(run / "rl")
    metrics = [*manifest.metrics, Metric(name="brilliance", value=1.0)]
    write_manifest(run / "rl", manifest.model_copy(update={"metrics": metrics}))
    assert any("brilliance = 1.0 has no source" in p for p in of(run, "rl"))


def test_a_dropped_metric_is_found(run: Path) -> None:
    manifest = read_manifest(run / "eval_3")
    metrics = [m for m in manifest.metrics if m.name != "lookalike_refusal_rate"]
    write_manifest(run / "eval_3", manifest.model_copy(update={"metrics": metrics}))
    assert any("lookalike_refusal_rate has a table and is missing from the manifest" in p for p in of(run, "eval_3"))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"resolved": {"steps": 4}}, "its id does not follow from the settings"),
        ({"seed": 7}, "its id does not follow from the settings"),
        ({"inputs": {}}, "its manifest lists other inputs than its parents and sources"),
        ({"external": []}, "its manifest lists other inputs than its parents and sources"),
    ],
    ids=["settings", "seed", "inputs", "sources"],
)
def test_an_id_that_does_not_follow_is_found(run: Path, change: dict[str, Any], line: str) -> None:
    write_manifest(run / "rl", read_manifest(run / "rl").model_copy(update=change))
    (problem,) = of(run, "rl")
    assert problem.startswith(line)


def test_a_wrong_parent_is_found(run: Path) -> None:
    manifest = read_manifest(run / "sl")
    write_manifest(run / "sl", manifest.model_copy(update={"id": "0" * 64}))
    assert any("sl (policy" in p for p in of(run, "rl"))


def test_a_false_verdict_on_the_grader_is_found(run: Path) -> None:
    edit(run, "eval_3", "report.json", lambda t: t.replace('"fit": true', '"fit": false'))
    assert any("the kept triples say otherwise" in p for p in of(run, "eval_3"))


def test_a_false_verdict_on_the_reward_model_is_found(run: Path) -> None:
    def called(fit: bool) -> list[str]:
        def change(text: str) -> str:
            report = json.loads(text)
            return json.dumps(report | {"reward": report["reward"] | {"fit": fit}})

        edit(run, "eval_3", "report.json", change)
        return of(run, "eval_3")

    assert called(True) == []
    assert called(False) == ["report.json calls its reward unfit; the kept triples say otherwise"]


def test_damaged_rows_and_manifests_give_a_line_each(run: Path) -> None:
    edit(run, "eval_1", "samples/text.jsonl", lambda t: t + "{half")
    edit(run, "eval_2", "samples/text.jsonl", lambda t: t.replace('"nats"', '"gnats"'))
    (run / "labels/manifest.json").write_text("{")
    (run / "card/manifest.json").unlink()
    problems = verify(run, deep=False)
    assert any("text.jsonl:25" in p for p in problems)
    assert any("eval_2" in p and "bits_per_byte" in p and "damaged" in p for p in problems)
    assert any("labels" in p and "cannot be read" in p for p in problems)
    assert any("has no card" in p for p in problems)
    assert all("\n" not in p for p in problems)


@pytest.mark.parametrize(
    ("step", "file", "content"),
    [
        ("eval_1", "report.json", '{"grader": '),
        ("eval_1", "report.json", '{"grader": [1]}'),
        ("rl", "log.jsonl", '{"kl": 1.0}\n[]\n'),
        ("rl", "counts.json", '{"rounds": "many"}'),
        ("rl", "counts.json", "3"),
        ("card", "card.json", "{"),
    ],
)
def test_damaged_json_gives_a_line_that_names_it(run: Path, step: str, file: str, content: str) -> None:
    edit(run, step, file, lambda text: content)
    problems = verify(run, deep=False)
    assert any(file in p for p in problems)
    assert all("\n" not in p for p in problems)


def test_what_another_version_made_is_one_line(run: Path) -> None:
    for step in ("eval_1", "eval_2"):
        edit(run, step, "tables.json", lambda text: text.replace('"measures": 7', '"measures": 1'))
    (line,) = verify(run, deep=False)
    assert line.startswith("eval_1, eval_2: its numbers were made by version 1 of the measures, this charter has")


def test_what_an_earlier_charter_made_is_one_line(run: Path) -> None:
    (run / "eval_1" / "tables.json").unlink()
    write_manifest(
        run / "eval_1", read_manifest(run / "eval_1").model_copy(update={"files": record_files(run / "eval_1")})
    )
    (line,) = verify(run, deep=False)
    assert line.startswith("eval_1: its numbers were made by an earlier charter, which kept no tables.json")


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="no finished artifact"):
        verify(tmp_path, deep=False)


def test_card_counts_its_numbers(finished: Path) -> None:
    counts = json.loads((finished / "card/counts.json").read_text())
    assert counts["sections"] == len(IDS) - 4 and counts["stages"] == 4
    assert record_files(finished / "card") == read_manifest(finished / "card").files
