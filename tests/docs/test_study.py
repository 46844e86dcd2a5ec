"""The study's page: what is kept of a seed, and mean changes over seeds with what prompts vary."""

import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from page_scripts import load_script

from charter.ground.measure.detection import as_probit, probit_difference
from charter.ground.measure.intervals import difference, wilson
from charter.ground.measure.score import Table, tabulate

DOCS = Path(__file__).parents[2] / "docs"
STAGES = "start", "plain SFT", "plain SFT and RL"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return load_script("study")


def rows(refused: int, score: float) -> list[dict[str, Any]]:
    """20 replies, so many of them refusals in the detector's eyes; half of these open with a phrase."""
    return [{"id": f"p{i}", "sample": 0, "unseen": False, "boilerplate": False, "harsh": False, "refusal": i < refused, "loop": False, "grader": score}
            | {"grader_fixed": 0.0, "stop": "end", "reply": "I\u2019m sorry, no." if i < refused // 2 else "Fine."}
            | {"tokens": 2} for i in range(20)]  # fmt: skip


def report(folder: Path, unsafe: int, harmless: int, score: float) -> Path:
    """The kept rows of a report that refuses so many unsafe prompts and look-alikes."""
    (folder / "samples").mkdir(parents=True)
    for file, of_file in {"harmlessness": unsafe, "lookalikes": harmless, "helpful": 0, "facts": 0}.items():
        kept = [row | {"recalled": 1.0, "all_recalled": True} for row in rows(of_file, score)]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / f"samples/{file}.jsonl").write_text(text)
    return folder


def seed(study: ModuleType, folder: Path, refused: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """What is kept of a seed whose stages refuse so many unsafe prompts and look-alikes; later stages score more."""
    folders = {stage: report(folder / str(n), *refused[stage], score=float(n)) for n, stage in enumerate(STAGES)}
    kept: dict[str, Any] = {"seed": 1, "stages": STAGES, "prompts": {}, "answers": {}}
    kept["grader"] = {"fit": True, "helpful_fit": False}
    for stage, of_stage in folders.items():
        found = study.reported(of_stage, folders["plain SFT"])
        keep(kept, stage, {f"package/{name}": table for name, table in found.items()})
    return json.loads(json.dumps(kept))


def keep(kept: dict[str, Any], stage: str, found: dict[str, Table]) -> None:
    """Puts a stage's tables into what is kept of a seed."""
    for name, of_name in found.items():
        kept["prompts"][f"{stage} {name}"] = list(of_name.clusters)
        sums = {"num": of_name.num.tolist(), "den": of_name.den.tolist(), "n": of_name.n}
        kept["answers"].setdefault(stage, {})[name] = {"prompts": f"{stage} {name}"} | sums


def table(refused: int) -> Table:
    return tabulate((f"0 p{i}", float(i < refused), 1.0) for i in range(20))


CHANGES = (2, 12), (2, 13), (2, 14)


@pytest.fixture
def seeds(study: ModuleType, tmp_path: Path) -> list[dict[str, Any]]:
    return [
        seed(study, tmp_path / str(n), {STAGES[0]: (before, 1), STAGES[1]: (after, 1), STAGES[2]: (after, 2)})
        for n, (before, after) in enumerate(CHANGES)
    ]


def rate(study: ModuleType, name: str, **more: Any) -> Any:
    return study.Measure(name, (f"package/{name}",), **more)


def test_answers_by_prompt_read_back(study: ModuleType, seeds: list[dict[str, Any]]) -> None:
    found = study.kept_table(seeds[0], STAGES[1], "package/unsafe_refusal_rate")
    assert found.clusters == tuple(f"p{i}" for i in range(20)) and found.num.sum() == 12
    assert study.kept_table(seeds[0], STAGES[1], "published/unsafe_refusal_rate") is None
    assert rate(study, "unsafe_refusal_rate").tables(seeds[0], "SL-CAI") is None
    opened = rate(study, "opened_unsafe").tables(seeds[0], STAGES[1])
    assert opened[0].value == pytest.approx(6 / 20), "the rule knows a curly apostrophe, and half of them"


def test_wins_are_counted_against_the_stage_that_they_name(study: ModuleType, seeds: list[dict[str, Any]]) -> None:
    (over_plain,) = rate(study, "wins_plain").tables(seeds[0], STAGES[2])
    assert over_plain.value == 1.0
    assert rate(study, "wins_plain").tables(seeds[0], STAGES[1]) is None, "never against itself"
    assert study.kept_table(seeds[0], STAGES[0], "package/wins_plain").value == 0.0


def test_a_mean_change_holds_what_seeds_and_what_prompts_vary(study: ModuleType, seeds: list[dict[str, Any]]) -> None:
    measure = rate(study, "unsafe_refusal_rate")
    mean = study.mean_change(seeds, measure, *STAGES[:2])
    assert mean.value == pytest.approx(0.55) and mean.prompts
    by_seed = 4.302653 * 0.05 / math.sqrt(3)
    together = [tabulate((f"p{i}", float(sum(i < e[at] for e in CHANGES)), 3.0) for i in range(20)) for at in (0, 1)]
    prompts = difference(*together)
    assert mean.high - mean.value == pytest.approx(math.hypot(by_seed, prompts.high - prompts.value), abs=1e-6)
    assert mean.value - mean.low == pytest.approx(math.hypot(by_seed, prompts.value - prompts.low), abs=1e-6)
    assert study.worded(measure, mean).startswith("+55.0 points (+")


def test_d_prime_changes_by_what_both_sets_change(study: ModuleType, seeds: list[dict[str, Any]]) -> None:
    measure = rate(study, "unsafe_refusal_rate", harmless=("package/lookalike_refusal_rate",), unit="")
    value = measure.value(measure.tables(seeds[0], STAGES[1]))
    assert value == pytest.approx(as_probit(table(12)).value - as_probit(table(1)).value)
    part = measure.part_of_change(*(measure.tables(seeds[0], stage) for stage in STAGES[:2]))
    unsafe, harmless = (probit_difference(as_probit(table(a)), as_probit(table(b))) for a, b in ((2, 12), (1, 1)))
    assert part.above == pytest.approx(math.hypot(unsafe.high - unsafe.value, harmless.value - harmless.low))


def test_what_never_happened_is_not_sure_to_a_tenth_of_a_point(study: ModuleType, seeds: list[dict[str, Any]]) -> None:
    measure = rate(study, "loops")
    mean = study.mean_change(seeds, measure, *STAGES[:2])
    assert mean.value == 0 and 0 < mean.high < wilson(0, 20)[1]
    assert study.worded(measure, mean).endswith("not significant")


def test_one_seed_has_no_interval_and_two_stay_within_the_scale(
    study: ModuleType, seeds: list[dict[str, Any]], tmp_path: Path
) -> None:
    measure = rate(study, "unsafe_refusal_rate")
    assert study.worded(measure, study.mean_change(seeds[:1], measure, *STAGES[:2])) == "-"
    far = [
        seed(study, tmp_path / f"far{n}", dict.fromkeys(STAGES, (2, 1)) | {STAGES[1]: (after, 1)})
        for n, after in enumerate((2, 20))
    ]
    mean = study.mean_change(far, measure, *STAGES[:2])
    assert (mean.low, mean.high) == (-1.0, 1.0), "the t of two seeds would reach beyond"


def test_an_unfit_grader_s_seeds_are_left_out_and_an_aim_is_counted_by_seed(
    study: ModuleType, seeds: list[dict[str, Any]]
) -> None:
    graded = rate(study, "harm_answered_rate", graded="helpful_fit")
    assert study.mean_change(seeds, graded, *STAGES[:2]) is None
    seeds[0]["grader"]["helpful_fit"] = True
    assert graded.tables(seeds[0], STAGES[1]) is not None
    assert "| **0.0 %**, 1 of 3 seeds |" in study.stage_table(seeds, [graded])
    assert "| **65.0 %** (60.0, 65.0, 70.0) |" in study.stage_table(seeds, [rate(study, "unsafe_refusal_rate")])
    aim = study.Aim("refused", rate(study, "unsafe_refusal_rate"), lambda value, start: value >= 0.65 > start)
    assert aim.row(seeds) == ["refused", "60.0 % (missed)", "65.0 %", "70.0 %", "2 of 3"]


def test_curves_of_each_seed_are_drawn_for_each_step_of_rl(study: ModuleType, tmp_path: Path) -> None:
    """A row a step, a line a seed; a curve that no log has takes no place."""
    curve = {name: [(0, 0.5), (1, 0.25)] for name in ("reward", "kl", "entropy", "refusal")}
    steps = {step: {**curve, "reward_heldout": []} for step in ("rl", "ppo")}
    seeds = [{"seed": seed, "rl": steps} for seed in (11, 12)]
    file = tmp_path / "study-rl.svg"
    shown = study.draw_curves(seeds, file)
    drawn = file.read_text("utf-8")
    assert shown.endswith(f"({tmp_path.name}/study-rl.svg)") and "held-out" not in shown
    words = re.findall(r"<text[^>]*>([^<]*)", drawn)
    titles = [f"{step}: {sys.modules['study_plots'].CURVES[name]}" for step in steps for name in curve]
    assert [w for w in words if w in titles] == titles
    assert words.count("11") == words.count("12") == len(titles), "a line a seed in each"
    assert study.draw_curves([{"seed": 1, "rl": {}}], file) is None


def merged(folder: Path, refused: dict[float, tuple[int, int]]) -> Path:
    """A merge that refuses so many of 20 unsafe and of 20 harmless prompts at each place, and took the first."""
    (folder / "samples").mkdir(parents=True)
    replies = [
        {"id": f"{group}{i}", "asked": group, "share": share, "reply": "", "refused": i < counts[n]}
        for share, counts in refused.items()
        for n, group in enumerate(("prompts", "harmless"))
        for i in range(20)
    ]
    (folder / "samples/replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in replies))
    (folder / "counts.json").write_text(json.dumps({"share": next(iter(refused))}))
    return folder


def test_methods_stand_beside_each_other_at_one_bound(study: ModuleType, tmp_path: Path) -> None:
    """Only the replies at the place that was taken count; the change is paired with plain finetuning's own place."""
    counts = {"plain SFT": [(8, 1), (10, 1)], "DPO": [(10, 0), (14, 2)]}
    seeds: list[dict[str, Any]] = []
    for n in range(2):
        kept: dict[str, Any] = {"stages": [*counts], "lines": {}, "prompts": {}, "answers": {}}
        for stage, by_seed in counts.items():
            step = merged(tmp_path / f"{n} {stage}", {0.5: by_seed[n], 1.0: (20, 20)})
            places = [(0.5, 0.4, 0.05), (1.0, 1.0, 1.0)]
            kept["lines"][stage] = {"taken": 0.5, "bound": 0.05, "tokens": 12, "places": places}
            keep(kept, stage, study.refused_at_place(step))
        seeds.append(kept)
    plain, other = study.at_one_bound(seeds).splitlines()[2:]
    assert plain == "| plain SFT | **45.0 %** (40.0, 50.0) | - | **5.0 %** | 0.5, 0.5 |"
    assert other.startswith("| DPO | **60.0 %** (50.0, 70.0) | +15.0 points (")
    assert other.endswith("| **5.0 %** (0.0, 10.0) | 0.5, 0.5 |")
    assert study.at_one_bound([{"answers": {}}]) == ""
    drawn = study.draw_lines(seeds, "plain SFT", tmp_path / "lines.svg")
    assert drawn is not None and drawn.endswith("/lines.svg)")
    assert "DPO" in (tmp_path / "lines.svg").read_text()
    assert study.draw_lines([{"answers": {}}], "plain SFT", tmp_path / "none.svg") is None


def test_a_line_belongs_to_the_stage_whose_model_it_leads_to(study: ModuleType) -> None:
    merge = {"room": "merge", "name": "line_dpo", "from": {"policy": "dpo"}}
    unseen = {"room": "merge", "name": "line_x", "from": {"policy": "x"}}
    report = {"room": "evaluate", "name": "eval", "from": {"policy": "dpo"}, "settings": {"stage": "DPO"}}
    assert study.lines_of([merge, unseen, report]) == {"DPO": "line_dpo"}


def test_seeds_of_an_older_recipe_are_named(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, stages in enumerate((["start", "DPO"], ["start"])):
        (tmp_path / f"study-{n}.json").write_text(json.dumps({"stages": stages}))
    monkeypatch.setattr(study, "KEPT", tmp_path)
    assert study.main([]) == 1
    assert "study-1.json has other stages than study-0.json" in capsys.readouterr().err


def test_the_page_is_made_of_what_is_kept(study: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(["--check"]) == 0, capsys.readouterr().err
