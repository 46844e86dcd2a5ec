"""A card with a scaling report: its figure and table, what verification finds changed, and reports in a wrong place."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import card_world
import pytest
from card_world import CARD_PARENTS, SETTINGS, edit, inputs, make_card, remeasure

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import Manifest, Metric
from charter.ground.artifact.store import read_manifest, write_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.measure.counts import bits_by_part
from charter.ground.measure.intervals import interval
from charter.rooms.card.gather import gather
from charter.rooms.card.verify import card_problems
from charter.rooms.scaling import run as room
from charter.rooms.scaling.settings import Settings
from charter.runner.verify import artifact_problems

PARENTS = (("reports", "eval_0"), ("scaling", "law"))
SIZES = tuple((f"size_{k}", 1e5 * 4**k, 2e6 * 4**k) for k in range(4))


def write_pretrained(run: Path, step: str, weights: float, tokens: float) -> Manifest:
    """A model as pretrain leaves it."""
    (run / step).mkdir()
    (run / step / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    loss = 0.9 + (1e9 / (6 * weights * tokens)) ** 0.12
    rows = [
        {"id": f"0-{n}", "nats": loss * math.log(2) * 100 * (1 + 0.1 * math.sin(n)), "bytes": 100}
        | {"source": "books", "language": "en"}
        for n in range(24)
    ]
    card_world.write_rows(run / step / "samples" / "text.jsonl", rows)
    counts = {"weights": weights, "tokens_learnt": tokens, "compute": 6 * weights * tokens}
    parts = [
        Metric(name=name, value=table.value, low=low, high=high, n=table.n)
        for name, table in bits_by_part(rows)
        for low, high in [interval(table)]
    ]
    counts |= {part.name: part.value or 0.0 for part in parts}
    (run / step / "counts.json").write_text(json.dumps(counts))
    manifest = card_world.finish(run, step, "pretrain", "checkpoint", variant="policy", parents=(("corpus", "texts"),),
                             resolved={"size": step})  # fmt: skip
    others = [metric for metric in manifest.metrics if metric.name not in {part.name for part in parts}]
    manifest = manifest.model_copy(update={"metrics": [*others, *parts]})
    write_manifest(run / step, manifest)
    return manifest


def sizes(documents: int) -> dict[str, int]:
    return {
        "unique": documents,
        "documents": 2 * documents,
        "heldout": documents,
        "bytes": 900 * documents,
        "tokens": 300 * documents,
    }


def add_corpus(run: Path) -> None:
    """A corpus as its room leaves it, in many languages."""
    folder = run / "texts"
    folder.mkdir()
    whole = {
        "total": sizes(91),
        "by": {
            "source": {"books <old>": sizes(91) | {"read": 120}},
            "language": {f"l{n}": sizes(n) for n in range(1, 14)},
            "licence": {"CC-BY-4.0": sizes(60), "public domain": sizes(31)},
        },
        "dropped": {"too_short": 25, "near_copy": 4, "binary": 0},
    }
    (folder / "composition.json").write_text(json.dumps(whole))
    counts = {"documents": 182, "documents_unique": 91, "documents_heldout": 91, "documents_read": 120}
    (folder / "counts.json").write_text(json.dumps(counts | {"bytes": 81_900, "tokens": 27_300}))
    train = [{"documents": 100, "bytes": 50_000, "tokens": 20_000}, {"documents": 82, "bytes": 31_000, "tokens": 7_000}]
    heldout = [{"documents": 91, "bytes": 900, "tokens": 300}]
    (folder / "corpus.json").write_text(json.dumps({"splits": {"train": train, "heldout": heldout}}))
    card_world.finish(run, "texts", "corpus", "corpus", external=(("sources", "books.yaml"),))


def add_ladder(run: Path) -> None:
    """Four models and the report on them, as the room makes it."""
    add_corpus(run)
    models = {step: write_pretrained(run, step, *counts) for step, *counts in SIZES}
    out = Workspace(run.parent / "scaling-work", step="law")
    room.run(
        Settings(),
        Inputs([Input("models", s, "checkpoint", "policy", run / s, s, m.id) for s, m in models.items()]),
        out,
    )
    shutil.move(out.path, run / "law")
    card_world.finish(
        run, "law", "scaling", "report", variant="ladder", parents=tuple(("models", step) for step in models)
    )


@pytest.fixture(scope="module")
def laid(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with a ladder, and its card made anew."""
    run = tmp_path_factory.mktemp("ladder") / "run"
    shutil.copytree(finished, run)
    add_ladder(run)
    make_card(run, SETTINGS, PARENTS)
    return run


def test_the_card_draws_the_law_and_lists_the_models(laid: Path) -> None:
    page, words = ((laid / "card" / name).read_text("utf-8") for name in ("card.html", "card.md"))
    record = json.loads((laid / "card" / "card.json").read_text())
    assert "Loss against compute" in {figure["title"] for figure in record["figures"]}
    assert (laid / "card/plots/scaling.svg").is_file()
    shown = {n["key"]: n for n in record["numbers"]}
    assert shown["law/scaling_exponent"]["value"] == pytest.approx(0.12, rel=1e-4)
    assert shown["law/compute of size_3"]["value"] == 6 * SIZES[3][1] * SIZES[3][2]
    for text in (page, words):
        assert "Models behind the law" in text and "size_2" in text and "4.92e15\u00a0FLOPs" in text
        assert "the interval leaves out how far another seed moves its loss" in text
    assert "with no training" in page and "pretraining on raw text" not in page  # of the ladder alone
    assert artifact_problems(laid / "law", read_manifest(laid / "law")) == []
    assert card_problems(laid / "card") == []


def test_the_card_cites_the_corpus_with_licences_languages_and_drops(laid: Path) -> None:
    page, words = ((laid / "card" / name).read_text("utf-8") for name in ("card.html", "card.md"))
    for text in (re.sub("<[^>]+>", "", page), words):
        assert "Of 120 documents read, 91 different ones were kept." in text
        assert "too short 25, near copy 4." in text and not re.search(r"binary \d", text)
        assert "CC-BY-4.0" in text and "public domain" in text and "1 more" in text
        assert "l13" in text and "| l1 |" not in text and ">l1<" not in page  # the rarest of 13 languages
    assert "books &lt;old&gt;" in page and "54,000" in page
    shown = card_world.shown(laid / "card")
    assert shown["texts/licence/CC-BY-4.0/documents"]["value"] == 120
    assert shown["texts/licence/CC-BY-4.0/documents"]["sources"][0]["file"] == "composition.json"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '"licence": {"CC-BY-4.0": {"unique": 60',
            '"licence": {"CC-BY-4.0": {"unique": 61',
            "unique by licence add up",
        ),
        ('"bytes": 81900', '"bytes": 81901', "has 81901 bytes; counts.json says 81900"),
        ('"tokens": 27300', '"tokens": 27301', "has 27301 tokens; the shards hold 27300"),
        ('"near_copy": 4', '"near_copy": 5', "120 documents read less 30 dropped"),
    ],
)
def test_a_corpus_that_says_what_it_does_not_hold_is_found(
    laid: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(laid, run)
    assert artifact_problems(run / "texts", read_manifest(run / "texts")) == []
    edit(run, "texts", "composition.json", lambda text: text.replace(old, new, 1))
    problems = artifact_problems(run / "texts", read_manifest(run / "texts"))
    assert any(words in line for line in problems), problems


def test_the_loss_of_a_language_must_follow_from_its_documents(laid: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(laid, run)
    manifest, name = read_manifest(run / "size_1"), "bits_per_byte language en"
    assert artifact_problems(run / "size_1", manifest) == []
    metrics = [m.model_copy(update={"high": 9.0}) if m.name == name else m for m in manifest.metrics]
    (line,) = artifact_problems(run / "size_1", manifest.model_copy(update={"metrics": metrics}))
    assert line.startswith(f"{name}: high is 9.0 in the manifest; the kept rows give")
    fewer = [m for m in manifest.metrics if m.name != name]
    problems = artifact_problems(run / "size_1", manifest.model_copy(update={"metrics": fewer}))
    assert f"{name} follows from the kept rows and is missing from the manifest" in problems


def test_a_run_without_a_ladder_says_nothing_of_one(finished: Path) -> None:
    assert "Models behind the law" not in (finished / "card/card.html").read_text("utf-8")


@pytest.mark.slow
def test_a_ladder_whose_rows_are_not_its_models_is_found(laid: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(laid, run)
    edit(run, "law", "samples/scaling.jsonl", lambda text: text.replace('"bytes": 100}', '"bytes": 101}', 1))
    remeasure(run, "law")
    problems = artifact_problems(run / "law", read_manifest(run / "law"))
    assert problems == ["samples/scaling.jsonl differs from the losses and counts that its models keep"]


def test_reports_in_a_wrong_place_are_named(laid: Path) -> None:
    with pytest.raises(CharterError, match="law is a report on a ladder of models; list it under `scaling`"):
        gather(inputs(laid, (("reports", "law"), *CARD_PARENTS)))
