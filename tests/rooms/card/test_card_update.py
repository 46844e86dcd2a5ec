"""An update adds an appendix to a finished card: the base stays as it is, and verifying reaches it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from card_world import benchmark, edit, make_card

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.reports.stages import final_stage
from charter.rooms.card.settings import Settings, check
from charter.rooms.card.verify import card_problems
from charter.runner.verify import verify

NEWER = Settings(model_name="demo 1.1")
OLD = tuple(("reports", f"eval_{i}") for i in range(3))
UPDATE = (("reports", "eval_3"), ("reports", "bench_3"), ("base", "card"))


@pytest.fixture
def updated(run: Path) -> Path:
    """A run whose card goes up to SL-CAI, and an update of it with the model that RL made."""
    make_card(run, Settings(model_name="demo 1.0"), OLD)
    benchmark(run, 3)
    make_card(run, NEWER, UPDATE, step="update")
    return run


def test_the_page_is_the_base_with_a_notice_and_an_appendix(updated: Path) -> None:
    base, page = ((updated / step / "card.html").read_text("utf-8") for step in ("card", "update"))
    before, _, rest = base.partition("<main>\n")
    body, _, after = rest.partition("</main>\n")
    assert page.startswith(before) and page.endswith(after) and page.count(body) == 1
    added = page.replace(base[: base.index("<main>\n")], "").replace(body, "")
    assert "Appendix: update to demo 1.1, RL-CAI" in added and "An update was added" in added
    assert page.count("<main>\n") == page.count("</main>\n") == 1 and "&lt;main" not in page
    words = (updated / "update/card.md").read_text("utf-8")
    assert words.startswith((updated / "card/card.md").read_text("utf-8"))
    for plot in (updated / "card/plots").iterdir():
        assert (updated / "update/plots" / plot.name).read_bytes() == plot.read_bytes()
    assert not (updated / "update/.eval_results").exists()


def test_the_record_holds_the_base_whole_and_the_changes_with_their_sources(updated: Path) -> None:
    record = json.loads((updated / "update/card.json").read_text("utf-8"))
    assert record["base"] == json.loads((updated / "card/card.json").read_text("utf-8"))
    assert record["update_of"] == {"step": "card", "id": read_manifest(updated / "card").id}
    assert "bits_per_byte" in record["verdicts"]["worse"]
    numbers = {n["key"]: n for n in record["numbers"]}
    assert numbers["eval_2..eval_3/bits_per_byte"]["value"] > 0 and all(n["sources"] for n in numbers.values())
    assert {"name": "arc", "why": "only RL-CAI has it"} in record["refused"]


def test_an_update_verifies_with_its_base_and_fails_where_either_was_changed(updated: Path) -> None:
    assert verify(updated, deep=False) == []
    assert verify(updated / "update", deep=False) == []
    edit(updated, "update", "card.html", lambda t: t.replace("No regression", "No loss").replace("+0.0", "+0.1"))
    assert any("card.html is not what the artifacts give" in p for p in card_problems(updated / "update"))
    page = updated / "card/card.html"
    page.write_text(page.read_text("utf-8").replace("Graded worse than a plain refusal", "Harm"), "utf-8")
    problems = verify(updated / "update", deep=False)
    assert any("the base card card is damaged: card.html" in p for p in problems)
    assert any(p.startswith("card: card.html") for p in problems)


def test_the_newest_card_of_a_run_stands_for_it_and_an_update_can_be_updated(updated: Path) -> None:
    assert final_stage(updated).step == "eval_3" and "arc" in final_stage(updated / "update").numbers
    benchmark(updated, 2)
    parents = (("reports", "eval_2"), ("reports", "bench_2"), ("base", "update"))
    again = make_card(updated, NEWER, parents, step="again")
    page = (again / "card.html").read_text("utf-8")
    assert page.count("<h2>Appendix: update to") == 2 and page.count("An update was added") == 2
    ids = [part.partition('"')[0] for part in page.split('id="')[1:]]
    assert len(ids) == len(set(ids)) and card_problems(again) == []
    assert final_stage(updated).step == "eval_2"


def test_a_damaged_base_is_no_base(run: Path) -> None:
    (run / "card/card.md").write_text("other")
    with pytest.raises(CharterError, match=r"the base card card is damaged: card\.md"):
        make_card(run, NEWER, (("reports", "eval_3"), ("base", "card")), step="update")


def test_an_update_takes_reports_alone() -> None:
    assert check(Settings(), {"reports", "base"}) == "" == check(Settings(), {"reports", "previous", "rl"})
    assert "leave out previous, rl, or `base`" in check(Settings(), {"reports", "base", "previous", "rl"})
