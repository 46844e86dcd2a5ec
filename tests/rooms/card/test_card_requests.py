"""The 328 requests in a card: figures with their numbers, and verdicts on flagged replies."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import CARD_PARENTS, benchmark, inputs

from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import digest_file
from charter.ground.measure.plots import forest
from charter.ground.reports.number import Number
from charter.ground.text.heldout import BENIGN, JAILBREAK, REPRESENTATIVE, TWIN
from charter.rooms.card import task_plots
from charter.rooms.card.gather import Run, gather
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.published import beside_published
from charter.rooms.card.review import summarise_verdicts
from charter.rooms.card.task_plots import request_parts, requests

REPORTS = (("reports", "bench_0"), ("reports", "bench_3"))


def kept(place: int) -> list[dict[str, Any]]:
    """10 plain requests, 10 as personas, 10 harmless ones and their twins, 5 samples each; the later the safer."""
    rows = []
    for origin, family in ((REPRESENTATIVE, "plain"), (JAILBREAK, "persona"), (BENIGN, "plain"), (TWIN, "persona")):
        for n in range(10):
            for k in range(5):
                rng = random.Random(f"{origin}{n}{k}")
                harmful = origin in (REPRESENTATIVE, JAILBREAK) and rng.random() < 0.6 / (1 + place)
                rows.append(
                    {
                        "id": f"{origin}-{n}",
                        "sample": k,
                        "origin": origin,
                        "family": family,
                        "topic": ("fraud", "cyber")[n % 2],
                        "prompt": f"{origin} {n}",
                        "messages": [{"role": "user", "content": f"{origin} {n}"}],
                        "reply": f"Reply {n} {k}.",
                        "grader": -1.0 if harmful else 1.0,
                        "grader_fixed": 0.0,
                        "refusal": rng.random() < 0.3,
                        "rule": False,
                        "harmful": harmful,
                        "harmful_screened": None,
                        "refused_screened": None,
                    }
                )
    return rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("requests") / "run"
    card_world.make_run(run, samples=1)
    for place in (0, 3):
        benchmark(run, place, None, {"requests": kept(place)})
    return run


@pytest.fixture(scope="module")
def gathered(world: Path) -> Run:
    return gather(inputs(world, (*CARD_PARENTS, *REPORTS)))


def test_harm_by_stage_stands_on_a_log_axis_from_1_to_a_hundredth(
    gathered: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def keep(axes: Any, *rest: Any, **more: Any) -> None:
        drawn.append(axes)
        forest(axes, *rest, **more)

    monkeypatch.setattr(task_plots, "forest", keep)
    ledger = Ledger()
    figure = requests(gathered, ledger)
    assert figure is not None and "50 replies to 10 requests" in figure.caption
    assert set(ledger.shown) == {
        f"{step}/requests_harm_rate_{part}" for step in ("bench_0", "bench_3") for part in ("plain", "jailbreak")
    }
    assert drawn[0].get_xscale() == "log" and drawn[0].get_xlim() == pytest.approx((0.01, 1.1))


def test_families_and_areas_stand_beside_harmless_requests(gathered: Run) -> None:
    ledger = Ledger()
    figure = request_parts(gathered, ledger)
    assert figure is not None
    assert {key.removeprefix("bench_3/requests_") for key in ledger.shown} == {
        *("harm_rate_persona", "twin_refused_persona"),
        *("harm_rate_fraud", "harm_rate_cyber", "benign_refused_fraud", "benign_refused_cyber"),
    }
    number = ledger.shown["bench_3/requests_harm_rate_fraud"]
    rows = [r for r in kept(3) if r["topic"] == "fraud" and r["origin"] in (REPRESENTATIVE, JAILBREAK)]
    assert number.value == pytest.approx(sum(r["harmful"] for r in rows) / len(rows)) and number.n == 50


def test_without_the_task_there_is_no_figure(finished: Path) -> None:
    bare = gather(inputs(finished))
    assert requests(bare, Ledger()) is None and request_parts(bare, Ledger()) is None


def test_verdicts_on_flagged_requests_count_apart_from_other_prompts(world: Path, tmp_path: Path) -> None:
    flagged = [r for r in kept(3) if r["harmful"]]
    columns = ("id", "sample", "prompt", "reply", "family")
    judgments = [{k: r[k] for k in columns} | {"verdict": "harmful"} for r in flagged]
    path = tmp_path / "verdicts.jsonl"
    card_world.write_rows(path, judgments)
    entry = Input("judgments", "./verdicts.jsonl", "judgments", None, path, str(path), digest_file(path))
    run = gather(Inputs([*inputs(world, (*CARD_PARENTS, *REPORTS)), entry]))
    last = [r for r in summarise_verdicts(run) if r.stage == f"{run.final.label}, requests"]
    assert len(last) == 1 and last[0].flagged.value == last[0].judged.value == len(flagged)
    assert last[0].harm is not None and last[0].harm.value == pytest.approx(len(flagged) / 100)
    assert last[0].harm.sources[0].file == "samples/requests.jsonl"
    (cases,) = (r for r in beside_published(run) if r.row.what.startswith("Flagged cases"))
    assert cases.ours == last[0].confirmed


def test_the_cards_four_of_328_stand_beside_ours_with_what_differs(gathered: Run) -> None:
    rows = beside_published(gathered)
    (row,) = (r for r in rows if isinstance(r.ours, Number) and r.ours.name == "requests_harm_prompts")
    ((model, theirs),) = row.values
    assert model == "Claude 2" and isinstance(theirs, Number)
    assert theirs.value == pytest.approx(4 / 328, abs=5e-4)
    prompts = {r["id"] for r in kept(3) if r["harmful"]}
    assert isinstance(row.ours, Number) and row.ours.clusters == 20
    assert row.ours.value == pytest.approx(len(prompts) / 20)
    there = "red-team prompts and public jailbreaks"
    assert row.differences[0] == f"data:requests (20 of 328 items); there {there}"
    assert "the grader and the prompts are ours" in row.differences
    counted = {r.row.what: r.ours.value for r in rows if isinstance(r.ours, Number)}
    assert counted["Harmful and jailbreak prompts"] == 20 and counted["Replies a prompt"] == 5
