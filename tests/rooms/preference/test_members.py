"""Several preference models in one: their average, what is said of them, and runs killed inside any of them."""

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import toys
from charter.ground.artifact.curves import read_log, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.measure.counts import real_pair
from charter.ground.measure.metrics import MEMBERS
from charter.ground.model.checkpoint import named_tensors
from charter.ground.settings.frozen import Lora
from charter.rooms.preference import run as room
from charter.rooms.preference.members import Sum, member_seed
from charter.rooms.preference.settings import Pairs, Settings
from toys import comparison

ROWS = [
    comparison(f"c{n}", f"Question {n % 12} of many?", f"Answer {n} in detail.", f"Dunno {n}.", axis="helpful")
    for n in range(24)
]
LONE = Settings(batch=4, lr=1e-3, head_lr=1e-2, warmup=0, save_every=1, pairs=Pairs(heldout_share=0.4))
THREE = LONE.model_copy(update={"members": 3})
SEED = 5


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    rows = toys.rows_file(tmp_path / "pairs.jsonl", ROWS)
    triples = toys.rows_file(tmp_path / "fitness.jsonl", toys.TRIPLES)
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.given("comparisons", rows, "comparisons"),
            toys.given("fitness", triples, "triples"),
        ]
    )


def run_room(settings: Settings, inputs: Inputs, folder: Path, seed: int = SEED, progress: Any = None) -> Path:
    out = toys.workspace(folder, seed=seed, progress=progress)
    room.run(settings, inputs, out)
    (out.folder / "metrics-for-test.json").write_text(json.dumps({m.name: m.value for m in out.metrics}))
    return out.path


def metrics_of(path: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((path.parent / "metrics-for-test.json").read_text())
    return metrics


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    model = PreferenceModel.open(path)
    return {**named_tensors(model.model), "head": model.head.weight.detach()}


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_the_product_is_the_mean_of_models_that_were_learnt_alone(
    inputs: Inputs, tmp_path: Path, lora: Lora | None
) -> None:
    """A member is what a run of one model makes with the member's seed; the split hangs on no seed."""
    update = {"lora": lora}
    average = run_room(THREE.model_copy(update=update), inputs, tmp_path / "average")
    alone = [
        run_room(LONE.model_copy(update=update), inputs, tmp_path / str(n), member_seed(SEED, n)) for n in range(3)
    ]
    members = [weights_of(path) for path in alone]
    assert not torch.equal(members[0]["head"], members[1]["head"]), "another order learns something else"
    for name, weight in weights_of(average).items():
        assert torch.allclose(weight, sum(own[name] for own in members) / 3, atol=1e-6), name  # type: ignore[arg-type]

    rows = read_objects(average / "samples/heldout_pairs.jsonl")
    own = [read_objects(path / "samples/heldout_pairs.jsonl") for path in alone]
    for row, *others in zip(rows, *own, strict=True):
        assert row["pair"] == others[0]["pair"]
        gaps = [other["chosen_score"] - other["rejected_score"] for other in others]
        assert row["member_gaps"] == pytest.approx(gaps, abs=1e-6)
    metrics = metrics_of(average)
    assert [metrics[f"member_accuracy_{n}"] for n in (1, 2, 3)] == [metrics_of(path)["pair_accuracy"] for path in alone]
    spreads = [statistics.stdev(row["member_gaps"]) for row in rows if real_pair(row)]
    assert metrics["member_spread"] == pytest.approx(statistics.fmean(spreads)) and min(spreads) > 0
    assert "member_accuracy_4" not in metrics and not any("member" in name for name in metrics_of(alone[0]))
    log = read_log(average)
    assert [row["step"] for row in log] == list(range(len(log)))
    assert [row["member"] for row in log] == sorted(row["member"] for row in log) and log[-1]["member"] == 3
    assert log[-1]["pairs"] == 3 * read_log(alone[0])[-1]["pairs"]


def killed(settings: Settings, inputs: Inputs, folder: Path) -> Callable[[int], Path]:
    def at(after: int) -> Path:
        with pytest.raises(toys.Interrupted):
            run_room(settings, inputs, folder / str(after), progress=toys.StoppingProgress(after))
        return folder / str(after)

    return at


@pytest.mark.slow
def test_a_run_killed_inside_any_member_is_bit_equal_to_an_unbroken_one(inputs: Inputs, tmp_path: Path) -> None:
    whole = toys.files_of(run_room(THREE, inputs, tmp_path / "whole"))
    kill = killed(THREE, inputs, tmp_path)
    steps = len(read_log(tmp_path / "whole/files")) // 3
    seen = set()
    for after in (2, steps + 1, steps + 3, 2 * steps + 4, 3 * steps + 3, 3 * steps + 4):
        folder = kill(after)
        seen.add(Sum(folder / "state").count())
        learning = [path.name for path in (folder / "state").glob("member-*")]
        assert len(learning) <= 1, "what a member kept goes with its end"
        assert toys.files_of(run_room(THREE, inputs, folder)) == whole, after
    assert seen == {0, 1, 2, 3}, "it was killed in every member, and behind the last"


def test_a_kill_while_a_sum_is_written_leaves_the_sum_before(inputs: Inputs, tmp_path: Path) -> None:
    whole = toys.files_of(run_room(THREE, inputs, tmp_path / "whole"))
    steps = len(read_log(tmp_path / "whole/files")) // 3
    folder = killed(THREE, inputs, tmp_path)(steps + 3)
    (sum_file,) = (folder / "state").glob("members-*.safetensors")
    (folder / "state/.tmp-members-00002.safetensors").write_bytes(sum_file.read_bytes()[:999])
    assert toys.files_of(run_room(THREE, inputs, folder)) == whole


def test_a_damaged_sum_and_a_full_disk_are_told_in_one_line(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    run_room(THREE, inputs, tmp_path / "whole")
    steps = len(read_log(tmp_path / "whole/files")) // 3
    folder = killed(THREE, inputs, tmp_path)(steps + 3)
    (sum_file,) = (folder / "state").glob("members-*.safetensors")
    sum_file.write_bytes(sum_file.read_bytes()[:999])
    with pytest.raises(CharterError, match=r"the sum of 1 members can't be read .*charter gc RUN") as caught:
        run_room(THREE, inputs, folder)
    assert "\n" not in str(caught.value)
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    model = PreferenceModel.open(checkpoints / "grader")
    with pytest.raises(CharterError, match=r"the sum of 1 members can't be written to .*gone.*make room on the disk"):
        Sum(tmp_path / "gone").add(model.model, model.head, [0.0])


def test_there_is_a_metric_for_as_many_members_as_there_may_be() -> None:
    (bound,) = (m.le for m in Settings.model_fields["members"].metadata if hasattr(m, "le"))
    assert bound == MEMBERS
