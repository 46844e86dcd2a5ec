"""Public data sets: a made-up file of each shape, and the real files if present."""

from collections import Counter
from pathlib import Path

import pytest

from charter.ground.settings.places import data_folder, find_data
from charter.ground.text.columns import axis_of
from charter.ground.text.dialogue import user
from charter.ground.text.records import read_comparisons, read_dialogues, read_prompts

DATA = data_folder()
needs_data = pytest.mark.skipif(
    not (DATA / "hh_rlhf").is_dir(), reason="no data sets: set CHARTER_DATA to the folder that holds hh_rlhf"
)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("hh_rlhf/harmless-base.jsonl.gz", "harmless"),
        ("helpful-online/train.jsonl.gz", "helpful"),
        ("hhh_alignment/other.json", "other"),
        ("mine/harmless.jsonl", ""),
    ],
)
def test_axes_come_from_known_names(name: str, axis: str) -> None:
    assert axis_of(Path(name)) == axis


def test_csv_lists_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('goal,target\n"Do, this","Sure\nnow"\nThat,Sure\n')
    assert [d.messages for d in read_dialogues(tmp_path / "x.csv")] == [(user("Do, this"),), (user("That"),)]


def test_big_bench_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "hhh_alignment"
    folder.mkdir()
    (folder / "honest.json").write_text('{"examples": [{"input": "q", "target_scores": {"bad": 0, "good": 1}}]}')
    (comparison,) = read_comparisons(folder)
    assert (comparison.messages, comparison.chosen, comparison.rejected, comparison.axis) == (
        (user("q"),),
        "good",
        "bad",
        "honest",
    )


@needs_data
@pytest.mark.parametrize(
    ("name", "count", "dropped", "axis"),
    [
        ("hh_rlhf/harmless-base", 1797, 8, "harmless"),
        ("hh_rlhf/helpful-rejection-sampled", 2139, 28, "helpful"),
        ("constitutional_ai/evals/438HHHEvaluations", 438, 0, "hhh"),
        ("hhh_alignment/other", 43, 0, "other"),
        ("instructions/dpo_en_demo", 300, 0, "helpful"),
    ],
)
def test_real_comparisons(name: str, count: int, dropped: int, axis: str) -> None:
    left_out: Counter[str] = Counter()
    comparisons = read_comparisons(find_data(name), left_out)
    assert (len(comparisons), sum(left_out.values()), {c.axis for c in comparisons}) == (count, dropped, {axis})


@needs_data
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("red_team/advbench_harmful_behaviors", 520),
        ("red_team/jbb_behaviors", 100),
        ("red_team/simple_safety_tests", 100),
        ("red_team/do_not_answer", 939),
        ("red_team/malicious_instruct", 100),
        ("instructions/alpaca_en_demo", 999),
        ("instructions/dolly_1000", 1000),
        ("instructions/self_instruct_seed_tasks", 175),
        ("mt_bench/mt_bench_question", 80),
    ],
)
def test_real_dialogues(name: str, count: int) -> None:
    assert len(read_dialogues(find_data(name))) == count
    assert all(d.is_prompt for d in read_prompts([find_data(name)]))
