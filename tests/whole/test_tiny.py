"""The tiny recipe end to end through the command line, and killed in every room and resumed."""

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.judge.detect import DETECTORS
from charter.runner.identity import package_folder
from charter.runner.verify import verify
from reported import keep_tables

RECIPE = Path(__file__).parents[2] / "recipes/tiny.yaml"
STEPS = [step["name"] for step in yaml.safe_load(RECIPE.read_text())["steps"]]
KILLER = Path(__file__).parent / "kill_rooms.py"

pytestmark = pytest.mark.timeout(3600)  # a minute of work, but machines are shared


def environment(cache: Path) -> dict[str, str]:
    """One thread, a cache of the test's own, and the sources that this process runs."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CHARTER_LAUNCHED": "1",
        "CHARTER_CACHE": str(cache),
        "PYTHONPATH": str(package_folder().parent),
        "PYTHONWARNINGS": "ignore",
    }


def charter(folder: Path, *words: object, killed: tuple[object, ...] = ()) -> subprocess.CompletedProcess[str]:
    start = [KILLER, *killed] if killed else ["-m", "charter"]
    return subprocess.run(
        [sys.executable, *map(str, [*start, *words])],
        cwd=folder,
        env=environment(folder / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )


def run(folder: Path, out: str, *words: object, killed: tuple[object, ...] = ()) -> subprocess.CompletedProcess[str]:
    return charter(folder, "run", RECIPE, "--out", out, "--device", "cpu", *words, killed=killed)


def records(folder: Path, out: str) -> list[dict[str, Any]]:
    shown = charter(folder, "show", out, "--json")
    assert shown.returncode == 0, shown.stderr
    found: list[dict[str, Any]] = json.loads(shown.stdout)["steps"]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipe was run once, to `tiny`; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder, "tiny")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.whole
def test_all_steps_are_done_and_the_card_is_there(finished: Path) -> None:
    steps = records(finished, "tiny")
    assert [step["name"] for step in steps] == STEPS and {step["status"] for step in steps} == {"done"}
    for file in ("card.html", "card.md", "card.json", "counts.json"):
        assert (finished / "tiny/card" / file).stat().st_size > 0
    assert list((finished / "tiny/card/plots").glob("*.svg"))
    for name in ("start", "debiased", "taught", "sl_cai", "pm_reward", "pm_grader", "rater", "dpo", "rl"):
        assert (finished / "tiny" / name / "model.safetensors").is_file()
    assert not list((finished / "tiny/.partial").glob("*")), "no resume state is left"


@pytest.mark.whole
def test_reported_numbers_lie_where_they_can(finished: Path) -> None:
    by_name = {step["name"]: step["metrics"] for step in records(finished, "tiny")}
    for name in (n for n in STEPS if n.startswith("eval_")):
        metrics = by_name[name]
        assert {"harm_rate", "lookalike_refusal_rate", "helpful_score", "hhh_policy", "bits_per_byte"} <= metrics.keys()
        assert all(0 <= metrics[key] <= 1 for key in metrics if key.endswith("_rate"))
    assert by_name["eval_rl"].keys() >= {"harm_rating", "harm_rating_lookalikes"}
    assert by_name["taught"]["tokens_learnt"] < by_name["taught"]["tokens_read"]
    first = json.loads((finished / "tiny/rl/log.jsonl").read_text().splitlines()[0])
    assert abs(first["kl"]) < 1e-4 and first["clip_fraction"] == 0
    curve = [json.loads(line)["loss"] for line in (finished / "tiny/start/log.jsonl").read_text().splitlines()]
    assert sum(curve[-10:]) / 10 < sum(curve[:10]) / 10 - 1, "the start has learnt something"


@pytest.mark.parametrize(
    "deep",
    [
        pytest.param(False, id="kept", marks=pytest.mark.whole),
        pytest.param(True, id="deep", marks=pytest.mark.slow),  # where it was moved to it holds so as well
    ],
)
def test_the_card_verifies(finished: Path, deep: bool) -> None:
    done = charter(finished, "card", "verify", "tiny", *(["--deep"] if deep else []))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "the card of tiny holds" in done.stdout


@pytest.mark.whole
def test_a_second_run_reuses_everything(finished: Path) -> None:
    before = {name: read_manifest(finished / "tiny" / name) for name in STEPS}
    again = run(finished, "tiny")
    assert again.returncode == 0, again.stderr
    for name in STEPS:
        assert f"{name}: reused" in again.stderr + again.stdout
        assert read_manifest(finished / "tiny" / name) == before[name]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "tiny", tmp_path / "moved")
    return tmp_path / "moved"


@pytest.mark.slow
def test_a_moved_run_verifies_also_deep(copy: Path) -> None:
    done = charter(copy.parent, "card", "verify", "moved", "--deep")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_verdicts_of_people_remake_the_card_alone(copy: Path) -> None:
    folder = copy.parent
    queue = [json.loads(line) for line in (copy / "eval_rl/review.jsonl").read_text().splitlines()]
    told = [row | {"verdict": "harmful" if n else "harmless"} for n, row in enumerate(queue)]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    done = run(folder, "moved", "--set", f"card.from.judgments={folder}/verdicts.jsonl")
    assert done.returncode == 0, done.stderr
    assert "eval_rl: reused" in done.stderr and "card: done" in done.stderr + done.stdout
    numbers = {n["key"]: n for n in json.loads((copy / "card/card.json").read_text())["numbers"]}
    assert numbers["eval_rl/flagged_confirmed"]["value"] == pytest.approx(1 - 1 / len(queue))
    assert charter(folder, "card", "verify", "moved").returncode == 0
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queue))
    changed = charter(folder, "card", "verify", "moved")
    assert changed.returncode == 1 and "verdicts.jsonl (judgments) has changed since" in changed.stdout


def with_hashes_made_again(folder: Path, **changes: Any) -> None:
    manifest: Manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"files": record_files(folder), **changes}))


@pytest.mark.slow
def test_a_score_changed_in_the_cards_json_is_caught_though_hashes_were_made_again(copy: Path) -> None:
    path = copy / "card/card.json"
    content = json.loads(path.read_text())
    number = next(n for n in content["numbers"] if "harm_rate" in json.dumps(n) and isinstance(n.get("value"), float))
    number["value"] = number["value"] / 2 + 0.001
    path.write_text(json.dumps(content, indent=1))
    with_hashes_made_again(copy / "card")
    done = charter(copy.parent, "card", "verify", "moved")
    assert done.returncode == 1 and "does not hold" in done.stderr
    assert "harm_rate" in done.stdout and "sha256" not in done.stdout


@pytest.mark.slow
def test_a_sample_changed_with_all_that_follows_from_it_is_caught_deep(copy: Path) -> None:
    """Whoever rewrites a kept reply, and all numbers that follow from it, is found only by sampling anew."""
    report = copy / "eval_rl"
    path = report / "samples/harmlessness.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["reply"] += " Kindly yours."
    rows[0] |= {name: detect(rows[0]["reply"]) for name, detect in DETECTORS.items()}
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    made = {s.name: s for s in keep_tables(report)}
    metrics = [
        m.model_copy(update={"value": s.value, "low": s.low, "high": s.high}) if (s := made.get(m.name)) else m
        for m in read_manifest(report).metrics
    ]
    with_hashes_made_again(report, metrics=metrics)
    shallow = verify(copy, deep=False)
    found = [line for line in shallow if "eval_rl:" in line]
    assert found == [], "hashes, flags and metrics of the report agree with it"
    done = charter(copy.parent, "card", "verify", "moved", "--deep")
    assert done.returncode == 1
    assert f"eval_rl: harmlessness: {rows[0]['id']} sample 0: its reply is another text" in done.stdout


# step, what it calls, which call in that step since the process began, and on which side of it the process dies
MOMENTS = [
    ("start", "charter.ground.learn.loop:update", 6, "before"),  # the step is not taken
    ("start", "charter.ground.learn.checkpoint:save_file", 3, "after"),  # half of a resume state is written
    ("debiased", "charter.rooms.debias.run:answer_rows", 2, "after"),  # answers are there, their chunk is not saved
    ("debiased", "charter.ground.learn.loop:update", 4, "before"),
    ("taught", "charter.ground.learn.product:save_policy", 1, "after"),  # all is written, nothing published
    ("revisions", "charter.rooms.critique.run:_drafts", 2, "after"),  # a chunk is made and not saved
    ("revisions", "charter.rooms.critique.run:_round", 3, "before"),  # between the rounds
    ("labels", "charter.rooms.feedback.run:_labels", 2, "after"),
    ("pm_reward", "charter.ground.learn.loop:update", 8, "after"),  # weights moved, nothing logged
    ("pm_grader", "charter.runner.directory:publish", 1, "before"),  # done, and not yet renamed
    ("best", "charter.rooms.select.replies:_sample_chunk", 2, "after"),
    ("rater", "charter.ground.learn.loop:update", 7, "after"),
    ("rl", "charter.rooms.rl.run:update", 3, "after"),  # the first of the second round's two minibatches
    ("rl", "charter.rooms.rl.policy:Policy.reference_logprobs", 1, "after"),  # right after that resume, mid-round
    ("eval_rl", "charter.rooms.evaluate.replying:sample", 2, "after"),
    ("votes", "charter_service.arena.pairs:_sampled", 2, "after"),
    ("reviews", "charter_service.review.run:flagged_cases", 1, "after"),
    ("card", "charter.rooms.card.run:make", 1, "after"),
]
# resume states often enough to be hit, and rounds of two updates
CHANGES = [
    f"--set={change}"
    for change in (
        "start.save_every=4",
        "debiased.train.save_every=2",
        "taught.save_every=9",
        "sl_cai.save_every=3",
        "pm_reward.save_every=3",
        "pm_grader.save_every=50",
        "rater.save_every=5",
        "rl.minibatches=2",
    )
]


@pytest.mark.parametrize("target", sorted({target for _, target, _, _ in MOMENTS}))
def test_what_dies_at_a_moment_exists(target: str) -> None:
    """The kills run seldom; a renamed function must be noticed before."""
    module, _, name = target.partition(":")
    assert callable(attrgetter(name)(importlib.import_module(module)))


def made_of(run: Path) -> dict[str, Any]:
    """Ids, files and metrics of all artifacts; of the card, which names times, its id."""
    found: dict[str, Any] = {}
    for name in STEPS:
        manifest = read_manifest(run / name)
        assert manifest.status == "done"
        files = {f.path: f.sha256 for f in manifest.files}
        for path, digest in files.items():
            assert hashlib.sha256((run / name / path).read_bytes()).hexdigest() == digest
        found[name] = manifest.id if name == "card" else (manifest.id, files, manifest.metrics)
    return found


@pytest.mark.slow
def test_killed_in_every_room_and_resumed_is_equal_to_unbroken(tmp_path: Path) -> None:
    whole = run(tmp_path, "whole", *CHANGES)
    assert whole.returncode == 0, whole.stderr[-2000:]
    for moment in MOMENTS:
        died = run(tmp_path, "broken", *CHANGES, killed=moment)
        assert died.returncode == -signal.SIGKILL, (moment, died.returncode, died.stderr[-2000:])
        for path in (tmp_path / "broken").iterdir():
            assert path.name.startswith(".") or not path.is_dir() or read_manifest(path).status == "done", moment
        assert not (tmp_path / "broken" / moment[0]).exists(), (moment, "the step is visible before it is done")
    last = run(tmp_path, "broken", *CHANGES)
    assert last.returncode == 0, last.stderr[-2000:]
    unbroken, resumed = made_of(tmp_path / "whole"), made_of(tmp_path / "broken")
    for name in STEPS:
        assert resumed[name] == unbroken[name], name
    assert not list((tmp_path / "broken/.partial").glob("*"))
    assert verify(tmp_path / "broken", deep=False) == []
