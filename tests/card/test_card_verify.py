"""Verification: an untouched run holds, and each kind of tampering is found."""

from __future__ import annotations

import json
from pathlib import Path

import card_world
import pytest
from card_world import edit

from charter.card.verify import _file_problems, artifact_problems, card_problems, verify
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Metric
from charter.ground.artifact.store import read_manifest, record_files, write_manifest


def of(run: Path, step: str) -> list[str]:
    """Problems of one artifact."""
    return artifact_problems(run / step, read_manifest(run / step))


def test_an_untouched_run_holds_and_deep_samples_every_report(finished: Path) -> None:
    asked = []

    def regenerate(report: Path, count: int) -> list[str]:
        asked.append(report.name)
        return ["eval_2: differs"] if report.name == "eval_2" else []

    assert verify(finished, True, regenerate) == ["eval_2: differs"]
    assert asked == ["eval_0", "eval_1", "eval_2", "eval_3"]


def test_a_moved_card_holds_with_its_ancestors(run: Path) -> None:
    moved = run.rename(run.with_name("elsewhere"))
    problems = verify(moved / "card", deep=True)
    assert len(problems) == 1 and "not drawn anew" in problems[0]
    assert verify(moved / "card/card.html", deep=False) == []


def test_a_changed_file_is_found(run: Path) -> None:
    path = run / "eval_1/review.jsonl"
    path.write_text("{}\n")
    assert of(run, "eval_1") == ["review.jsonl is not in the manifest"]
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
    assert any(p.startswith("harm_rate: value is") and "the kept rows give" in p for p in problems)
    assert any("can't be made again" in p for p in card_problems(run / "card"))


def test_a_changed_score_is_found_though_the_metrics_were_made_again(run: Path) -> None:
    edit(run, "eval_3", "samples/harmlessness.jsonl", better)
    old = read_manifest(run / "eval_3")
    parents = tuple((p.role, p.step) for p in old.parents)
    resolved = dict(old.resolved)
    made = card_world.finish(run, "eval_3", "evaluate", "report", parents=parents, resolved=resolved)
    write_manifest(run / "eval_3", made.model_copy(update={"id": old.id, "external": old.external}))
    assert of(run, "eval_3") == []
    problems = card_problems(run / "card")
    assert any("value of eval_3/harm_rate" in p for p in problems) and "further problems" in problems[-1]


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
        kept = list(_file_problems(folder, {name: content}, True))
        assert kept == []
        (line,) = _file_problems(folder, {name: content.replace("Second", "Third")}, True)
        assert "'First.\\rSecond" in line or "Second" in line


def test_drawings_of_another_matplotlib_are_not_compared(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.__version__", "0.1")
    edit(run, "card", "plots/harm.svg", lambda t: t.replace("start", "begin"))
    assert card_problems(run / "card") == []


def test_a_metric_without_source_is_found(run: Path) -> None:
    manifest = read_manifest(run / "rl")
    metrics = [*manifest.metrics, Metric(name="brilliance", value=1.0)]
    write_manifest(run / "rl", manifest.model_copy(update={"metrics": metrics}))
    assert any("brilliance = 1.0 has no source" in p for p in of(run, "rl"))


def test_a_dropped_metric_is_found(run: Path) -> None:
    manifest = read_manifest(run / "eval_3")
    metrics = [m for m in manifest.metrics if m.name != "lookalike_refusal_rate"]
    write_manifest(run / "eval_3", manifest.model_copy(update={"metrics": metrics}))
    assert any("lookalike_refusal_rate follows from the kept rows" in p for p in of(run, "eval_3"))


def test_a_wrong_parent_is_found(run: Path) -> None:
    manifest = read_manifest(run / "sl")
    write_manifest(run / "sl", manifest.model_copy(update={"id": "0" * 64}))
    assert any("sl (policy" in p for p in of(run, "rl"))


def test_a_false_verdict_on_the_grader_is_found(run: Path) -> None:
    edit(run, "eval_3", "report.json", lambda t: t.replace('"fit": true', '"fit": false'))
    assert any("the kept triples say otherwise" in p for p in of(run, "eval_3"))


def test_a_false_verdict_on_the_reward_model_is_found(run: Path) -> None:
    rows = run / "eval_3/samples"
    (rows / "fitness_reward.jsonl").write_bytes((rows / "fitness.jsonl").read_bytes())
    manifest = read_manifest(run / "eval_3")
    write_manifest(run / "eval_3", manifest.model_copy(update={"files": record_files(run / "eval_3")}))

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
        manifest = read_manifest(run / step)
        old = [m.model_copy(update={"version": 1}) for m in manifest.metrics]
        write_manifest(run / step, manifest.model_copy(update={"metrics": old}))
    (line,) = verify(run, deep=False)
    assert line.startswith("eval_1, eval_2: made by another version of the measures (1, this charter has")


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="no finished artifact"):
        verify(tmp_path, deep=False)


def test_card_counts_its_numbers(finished: Path) -> None:
    counts = json.loads((finished / "card/counts.json").read_text())
    assert counts["sections"] == 18 and counts["stages"] == 4
    assert record_files(finished / "card") == read_manifest(finished / "card").files
