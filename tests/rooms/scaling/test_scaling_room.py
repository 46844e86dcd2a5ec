"""The scaling room: rows of every model, the planted law in its report, resume, and what no law can be fitted to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import Manifest, Metric
from charter.ground.artifact.store import read_manifest, write_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.room import Given
from charter.rooms.scaling.ladder import CONFIG, COUNTS, TEXT
from charter.rooms.scaling.run import run
from charter.rooms.scaling.settings import Settings, check
from reported import scores

LAW = 0.9, 2.0, 0.15  # floor, coefficient, exponent
DOCUMENTS = 8


def model(
    folder: Path,
    size: float,
    *,
    name: str = "",
    more: Mapping[str, float | None] = {},
    documents: int = DOCUMENTS,
    window: int = 512,
) -> Input:
    """A folder as pretrain leaves it, of a model with 20 tokens a weight that follows LAW."""
    counts = {"parameters": size, "tokens": 20 * size, "compute": 120 * size * size, **more}
    floor, scale, exponent = LAW
    loss = floor + scale * (120 * size * size / 1e12) ** -exponent
    (folder / "samples").mkdir(parents=True)
    rows = [
        {"id": f"0-{n}", "nats": loss * math.log(2) * (90 + n) * (1 + 0.05 * math.sin(n)), "bytes": 90 + n}
        for n in range(documents)
    ]
    toys.rows_file(folder / TEXT, rows)
    (folder / CONFIG).write_text(json.dumps({"max_position_embeddings": window}))
    metrics = [Metric(name=COUNTS[count], value=value) for count, value in counts.items()]
    write_manifest(
        folder,
        Manifest(kind="checkpoint", variant="policy", id=folder.name * 8, status="done", step=name or folder.name,
                 room="pretrain", recipe="r", metrics=metrics),
    )  # fmt: skip
    return Input("models", name or folder.name, "checkpoint", "policy", folder, str(folder), folder.name * 8)


def ladder(folder: Path, count: int = 4) -> list[Input]:
    return [model(folder / f"size_{k}", 1e5 * 4**k) for k in range(count)]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished report on four sizes."""
    folder = tmp_path_factory.mktemp("scaling")
    out = toys.workspace(folder / "out")
    run(Settings(stage="toys"), Inputs(ladder(folder)), out)
    return out


def test_the_report_holds_the_planted_law_and_every_model(product: Workspace) -> None:
    report = read_object(product.path / "report.json")
    law = report["laws"]["compute"]
    ease = sum((90 + n) * (1 + 0.05 * math.sin(n)) for n in range(DOCUMENTS)) / sum(range(90, 90 + DOCUMENTS))
    assert law["floor"] == pytest.approx(LAW[0] * ease, rel=1e-5)
    assert law["exponents"] == [pytest.approx(LAW[2], rel=1e-5)]
    assert law["coefficients"] == [pytest.approx(LAW[1] * ease * 1e12 ** LAW[2], rel=1e-4)]
    assert set(report["laws"]) == {"compute", "parameters"} and report["stage"] == "toys"
    for row in report["models"]:
        assert row["fitted"] == pytest.approx(row["bits_per_byte"], rel=1e-6) and row["low"] < row["high"]
    assert [row["run"] for row in report["models"]] == [f"size_{k}" for k in range(4)]
    assert "<svg" in (product.path / "scaling.svg").read_text()


def test_every_metric_follows_from_rows_or_counts_and_stands_in_the_readme(product: Workspace) -> None:
    told = {metric.name: metric for metric in product.metrics}
    again = {s.name: s for s in scores(product.path)}
    counts = read_object(product.path / "counts.json")
    assert told.keys() == again.keys() | counts.keys()
    for name, metric in told.items():
        assert metric.value == (again[name].value if name in again else counts[name])
        assert metric.n == (DOCUMENTS if name in again else None), "documents, not documents times models"
    assert counts == {"models": 4, "sizes": 4, "documents": DOCUMENTS}
    readme = (Path(__file__).parents[3] / "src/charter/rooms/scaling/README.md").read_text()
    joint = {"scaling_joint_size", "scaling_joint_text", "scaling_joint_floor", "scaling_optimal_share"}
    assert all(f"`{name}`" in readme for name in told.keys() | joint)


def test_a_second_run_gives_the_same_files(product: Workspace, tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "again")
    run(Settings(stage="toys"), Inputs(ladder(tmp_path)), out)
    assert toys.files_of(out.path) == toys.files_of(product.path)


def test_seeds_of_one_name_from_two_runs_are_told_apart(tmp_path: Path) -> None:
    models = [*ladder(tmp_path, 3), model(tmp_path / "other", 1e5, name="size_0")]
    out = toys.workspace(tmp_path / "out")
    run(Settings(), Inputs(models), out)
    names = dict.fromkeys(row["run"] for row in read_objects(out.path / "samples/scaling.jsonl"))
    assert list(names) == ["size_0@size_0si", "size_1", "size_2", "size_0@otheroth"]
    assert read_object(out.path / "counts.json") == {"models": 4, "sizes": 3, "documents": DOCUMENTS}


def test_two_sizes_are_refused_whatever_the_seeds(tmp_path: Path) -> None:
    models = [*ladder(tmp_path, 2), model(tmp_path / "again", 1e5)]
    with pytest.raises(CharterError, match="these 3 models have 2, with 2 different"):
        run(Settings(), Inputs(models), toys.workspace(tmp_path / "out"))


def test_sizes_of_one_compute_are_refused(tmp_path: Path) -> None:
    models = [model(tmp_path / f"m{k}", 1e5 * 2**k, more={"compute": 1e12}) for k in range(3)]
    with pytest.raises(CharterError, match="have 3, with 1 different computes"):
        run(Settings(), Inputs(models), toys.workspace(tmp_path / "out"))


def test_models_measured_on_other_documents_are_refused(tmp_path: Path) -> None:
    models = [*ladder(tmp_path, 2), model(tmp_path / "short", 1e7, documents=5)]
    with pytest.raises(CharterError, match="size_0 and short were measured on different held-out documents"):
        run(Settings(), Inputs(models), toys.workspace(tmp_path / "out"))


def test_models_of_different_windows_are_refused(tmp_path: Path) -> None:
    models = [*ladder(tmp_path, 2), model(tmp_path / "wide", 1e7, window=1024)]
    with pytest.raises(CharterError, match="size_0 reads 512 tokens at once and wide 1024"):
        run(Settings(), Inputs(models), toys.workspace(tmp_path / "out"))


def test_a_model_that_went_on_from_another_is_refused(tmp_path: Path) -> None:
    models = [*ladder(tmp_path, 3), model(tmp_path / "on", 1e7)]
    manifest = read_manifest(models[-1].folder)
    write_manifest(models[-1].folder, manifest.model_copy(update={"inputs": {"policy": ["0" * 64]}}))
    with pytest.raises(CharterError, match="on continued another model"):
        run(Settings(), Inputs(models), toys.workspace(tmp_path / "out"))


def test_what_pretrain_did_not_make_is_refused(tmp_path: Path) -> None:
    models = ladder(tmp_path, 3)
    with pytest.raises(CharterError, match="manifest of bare has no compute"):
        bare = model(tmp_path / "bare", 1e7, more={"compute": None})
        run(Settings(), Inputs([*models, bare]), toys.workspace(tmp_path / "out"))
    (tmp_path / "size_1" / TEXT).unlink()
    with pytest.raises(CharterError, match="size_1 keeps no losses"):
        run(Settings(), Inputs(models), toys.workspace(tmp_path / "out"))


def test_a_plan_counts_models_and_compares_what_they_read() -> None:
    models = [Given("a", 512), Given("b"), Given("c", 512)]
    assert check(Settings(), {"models": models}) == ""
    assert "at least 3 sizes, and `models` names 2" in check(Settings(), {"models": models[:2]})
    assert "a reads 512 tokens at once and d 256" in check(Settings(), {"models": [*models, Given("d", 256)]})
