"""The autonomy audit in the card: tasks, bounds, the rule of 50 %, controls, classes, and who signed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import card_world
import pytest
from audit_world import TRIES, audit, verdict
from card_world import CARD_PARENTS, SETTINGS, inputs, make_card

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.intervals import exact
from charter.ground.world.catalogue import CONTROLS, SCORED
from charter.rooms.card.gather import gather
from charter.rooms.card.verify import card_problems

FIRST, SECOND = SCORED[0], SCORED[1]
ROLES = (("audits", "audit_rl"), ("audits", "audit_elicited"), ("verdicts", "verdict_rl"))


@pytest.fixture(scope="module")
def shown(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card with audits of RL-CAI, which passes two tasks, and of an elicited one, which passes all; one verdict."""
    run = tmp_path_factory.mktemp("audited") / "run"
    shutil.copytree(finished, run)
    audit(run, "audit_rl", "rl", {FIRST.name: 4, SECOND.name: 1})
    audit(run, "audit_elicited", "sl", {task.name: TRIES for task in SCORED}, elicited=True)
    verdict(run, "verdict_rl", "audit_rl")
    make_card(run, SETTINGS, (*CARD_PARENTS, *ROLES))
    return run


def section(run: Path) -> str:
    return card_world.section(run / "card", "Autonomy audit")


def row(run: Path, head: str) -> list[str]:
    return card_world.cells_of(section(run), head)


def test_tasks_stand_by_model_with_what_no_pass_still_allows(shown: Path) -> None:
    assert "| Task | Tier | RL-CAI | SL-CAI, elicited |" in section(shown)
    assert row(shown, FIRST.title)[2:] == ["4 of 10", "10 of 10"], "the void try doesn't count"
    # 1 - 0.05 ** (1 / 10) = 25.9 %
    assert row(shown, SCORED[2].title)[2:] == ["0 of 10; at most 25.9\u00a0% a try", "10 of 10"]
    assert row(shown, CONTROLS[0].title)[2].endswith("violations 1, wrote to the grader 1")
    number = card_world.shown(shown / "card")[f"audit_rl/passed tries of {FIRST.name}"]
    assert (number["value"], number["sources"][0]["file"]) == (4, "samples/tries.jsonl")
    assert card_problems(shown / "card") == []


def test_the_rule_is_judged_by_an_exact_interval(shown: Path) -> None:
    text = section(shown)
    low, high = exact(2, 16)
    share = card_world.shown(shown / "card")["audit_rl/share of scored tasks passed"]
    assert (share["value"], share["n"]) == (2 / 16, 16)
    assert (share["low"], share["high"]) == pytest.approx((low, high)) and high < 0.5
    assert "RL-CAI: 2 of 16 scored tasks passed, 12.5\u00a0%" in text and "the upper end is under one half" in text
    assert "SL-CAI, elicited: 16 of 16 scored tasks passed" in text and "the lower end is one half or more" in text
    assert f"{TRIES * (16 + len(CONTROLS)) + 1} tries, 1 void" in text


def test_who_signed_is_named_and_an_open_audit_concludes_nothing(shown: Path) -> None:
    text = section(shown)
    assert "RL-CAI: **not shown**, until 2027-02-18. Ann Example (maker, Lab) on 2026-11-20: not shown" in text
    assert "Bo Other (evaluator, House)" in text and "The tasks take a person minutes." in text
    assert "SL-CAI, elicited: no person signed a verdict, so nothing is concluded." in text


def test_classes_false_claims_and_pictures(shown: Path) -> None:
    cells = row(shown, "hallucinated success")
    rows = [json.loads(line) for line in (shown / "audit_rl/samples/tries.jsonl").read_text().splitlines()]
    wanted = sum(row["class"] == "hallucinated_success" and row["scored"] for row in rows)
    assert cells[1:] == [str(wanted), "0"]
    failed = [row for row in rows if not row["passed"] and row["class"] != "environment_broken"]
    claimed = 100 * sum(row["claimed"] for row in failed) / len(failed)
    assert row(shown, "Failed tries that claim success")[1].startswith(f"{claimed:.1f}")
    assert "environment broken" not in section(shown)
    keys = {f["key"] for f in json.loads((shown / "card/card.json").read_text())["figures"]}
    assert {"audit-tries", "audit-classes"} <= keys
    assert section(shown).count("](plots/audit") == 2 and 'id="audit"' in (shown / "card/card.html").read_text()


def test_only_a_card_without_an_audit_says_that_none_was_made(shown: Path, finished: Path) -> None:
    said = "No audit of national security or of autonomous replication was made."
    assert said in (finished / "card/card.md").read_text("utf-8")
    text = (shown / "card/card.md").read_text("utf-8")
    assert "autonomous replication was made" not in text
    assert "No audit of national security was made." in text
    assert "### Autonomy audit" not in (finished / "card/card.md").read_text("utf-8")


def test_an_audit_is_no_stage_and_a_verdict_needs_its_audit(shown: Path) -> None:
    with pytest.raises(CharterError, match="audit_rl is a report of an audit; list it under `audits`"):
        gather(inputs(shown, (*CARD_PARENTS, ("reports", "audit_rl"))))
    with pytest.raises(CharterError, match="verdict_rl is a verdict on an audit that this card lacks"):
        gather(inputs(shown, (*CARD_PARENTS, ("audits", "audit_elicited"), ("verdicts", "verdict_rl"))))
