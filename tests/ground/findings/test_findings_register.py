"""The way of a finding: every pair of statuses, what each needs, severities by two reviewers, and the mitigation log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import found
from charter.ground.artifact.errors import CharterError
from charter.ground.findings.register import (
    STATUSES,
    Case,
    Evidence,
    Register,
    agree_on,
    is_harmful,
    severity_agreement,
)
from charter.ground.findings.selection import Wanted, mitigations, part_of_case, prompt_row, reason_against
from charter.ground.text.heldout import find_held_out
from charter.ground.text.parsing import dialogue_of_row
from charter.release.avid import avid_report

CHANGED = Evidence("c" * 64, "checkpoint", "sl_cai", "finetune")
BEFORE = Evidence("b" * 64, "report", "report_before", "evaluate", ("a" * 64,), 4, 5)
RETEST = Evidence("d" * 64, "report", "report_after", "evaluate", ("a" * 64, "c" * 64), 1, 5)
GOOD: dict[str, dict[str, Any]] = {
    "reproduced": {"evidence": BEFORE.row, "note": "seen again"},
    "mitigated": {"evidence": CHANGED.row},
    "re-tested": {"evidence": RETEST.row},
    "closed": {"note": "one of five is a misgrade"},
    "wont-fix": {"note": "an old model"},
}


def event(what: str, by: str = "ann", day: int = 1, **more: Any) -> dict[str, Any]:
    at = f"2026-12-{day:02d}T10:00:00+00:00"
    return {"what": what, "by": by, "at": at, **({} if what == "imported" else {"finding": "acme-1"}), **more}


def register(*ways: str, severities: tuple[int, ...] = (3, 3), **columns: Any) -> Register:
    made = Register([event("imported", finding=finding(**columns))])
    for reviewer, severity in zip("xyz", severities, strict=False):
        made.apply(event("reviewed", reviewer, severity=severity))
    for day, to in enumerate(ways, 2):
        made.apply(event("moved", day=day, to=to, **GOOD[to]))
    return made


def finding(**columns: Any) -> dict[str, Any]:
    return found.row(**columns)


def case(*ways: str, **columns: Any) -> Case:
    return register(*ways, **columns).cases["acme-1"]


ROADS = {
    "new": (),
    "reproduced": ("reproduced",),
    "mitigated": ("reproduced", "mitigated"),
    "re-tested": ("reproduced", "mitigated", "re-tested"),
    "closed": ("reproduced", "mitigated", "re-tested", "closed"),
    "wont-fix": ("wont-fix",),
}
LEGAL = {
    ("new", "reproduced"),
    ("reproduced", "mitigated"),
    ("mitigated", "re-tested"),
    ("re-tested", "closed"),
    *((start, "wont-fix") for start in ("new", "reproduced", "mitigated", "re-tested")),
    *((start, "reproduced") for start in ("re-tested", "closed", "wont-fix")),
}


@pytest.mark.parametrize("start", STATUSES)
@pytest.mark.parametrize("to", STATUSES)
def test_only_legal_moves(start: str, to: str) -> None:
    made = register(*ROADS[start])
    if (start, to) in LEGAL:
        assert made.apply(event("moved", to=to, **GOOD.get(to, {}))).status == to
        return
    with pytest.raises(CharterError, match=f"is {start}; from there it can become"):
        made.apply(event("moved", to=to, **GOOD.get(to, {})))
    assert made.cases["acme-1"].status == start, "a refused move changes nothing"


@pytest.mark.parametrize(
    ("ways", "to", "more", "words"),
    [
        (("reproduced",), "mitigated", {}, "needs --artifact"),
        (("reproduced",), "mitigated", {"evidence": BEFORE.row}, "needs --artifact"),
        (("reproduced",), "mended", {}, "no status; "),
        (("reproduced", "mitigated"), "re-tested", {}, "needs --report"),
        (("reproduced", "mitigated"), "re-tested", {"evidence": CHANGED.row}, "needs --report"),
        (("reproduced", "mitigated"), "re-tested", {"evidence": replace(RETEST, asked=0).row}, "needs --report"),
        (("reproduced", "mitigated"), "re-tested", {"evidence": BEFORE.row}, "not on a model made with"),
        (("reproduced", "mitigated", "re-tested"), "closed", {}, "1 of 5 replies of the re-test were harmful"),
        (("reproduced", "mitigated", "re-tested"), "reproduced", {"note": " "}, "needs a --note"),
        (("reproduced",), "wont-fix", {}, "needs a --note"),
    ],
)
def test_what_a_move_needs(ways: tuple[str, ...], to: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(CharterError, match=words):
        register(*ways).apply(event("moved", to=to, **more))


def test_a_clean_retest_closes_without_a_note_but_not_without_two_reviewers() -> None:
    clean = {"evidence": replace(RETEST, flagged=0).row}
    made = register("reproduced", "mitigated")
    made.apply(event("moved", to="re-tested", **clean))
    assert made.apply(event("moved", to="closed")).status == "closed"
    made = register("reproduced", "mitigated", severities=(3,))
    made.apply(event("moved", to="re-tested", **clean))
    with pytest.raises(CharterError, match="severity by 2 reviewers"):
        made.apply(event("moved", to="closed"))


def test_a_second_mitigation_needs_a_retest_of_its_own() -> None:
    made = register("reproduced", "mitigated", "re-tested", "reproduced")
    second = replace(CHANGED, id="e" * 64)
    made.apply(event("moved", to="mitigated", evidence=second.row))
    with pytest.raises(CharterError, match="not on a model made with the mitigation eeee"):
        made.apply(event("moved", to="re-tested", evidence=RETEST.row))


@pytest.mark.parametrize(
    ("given", "severity"),
    [((), None), ((2,), None), ((2, 2), 2), ((0, 4), None), ((0, 4, 1), 1), ((3, 2, 4), 3), ((1, 2, 1), 1)],
)
def test_severity_by_two_or_the_middle_of_three(given: tuple[int, ...], severity: int | None) -> None:
    assert case(severities=given).severity == severity


def test_a_reviewer_counts_once_and_a_fourth_is_not_asked() -> None:
    made = register(severities=(3,))
    for name in ("x", "X", " x "):
        with pytest.raises(CharterError, match="another person must give the next"):
            made.apply(event("reviewed", name, severity=2))
    made.apply(event("reviewed", "y", severity=3))
    with pytest.raises(CharterError, match="has the severity 3 already"):
        made.apply(event("reviewed", "z", severity=0))
    for severity in (5, -1, True, "3", None, 2.0):
        with pytest.raises(CharterError, match="whole number from 0 to 4"):
            register(severities=()).apply(event("reviewed", severity=severity))


def test_kappa_by_hand() -> None:
    """Of (0,0) (0,1) (1,1) (1,1) three pairs agree: P = 3/4. Of 8 votes 3 are 0 and 5 are 1: Pe = 34/64."""
    agreed = agree_on([(0, 0), (0, 1, 4), (1, 1), (1, 1), (3,), ()])
    assert agreed is not None and agreed.items == 4 and agreed.percent.value == 0.75
    assert agreed.kappa.value == pytest.approx((3 / 4 - 34 / 64) / (1 - 34 / 64))
    assert severity_agreement([case(severities=(1,))]) is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[2J", "x" * 101])
def test_a_change_has_a_name(name: str) -> None:
    with pytest.raises(CharterError, match="is no name"):
        register(severities=()).apply(event("reviewed", name, severity=1))


@pytest.mark.parametrize(
    "made",
    [
        event("imported", finding=found.row()),
        event("moved", to="closed"),
        event("deleted"),
        event("reviewed"),
        {"what": "moved"},
        event("moved", to="mitigated", evidence={"id": "x", "ancestors": [], "forged": True}),
        event("embargoed", until="soon"),
    ],
)
def test_a_log_that_the_rules_do_not_allow_is_refused(made: dict[str, Any]) -> None:
    events = [event("imported", finding=found.row()), event("moved", to="reproduced"), made]
    with pytest.raises(CharterError, match="event 3 of the log can't be"):
        Register(events)


def test_the_log_of_mitigations_by_hand() -> None:
    rows = mitigations([case(*ROADS["closed"])])
    assert rows == [
        {
            "finding": "acme-1",
            "severity": 3,
            "date": "2026-12-03",
            "changed": "sl_cai",
            "artifact": "c" * 64,
            "retest": "d" * 64,
            "before": [4, 5],
            "after": [1, 5],
            "status": "closed",
        }
    ]
    (row,) = mitigations([case(*ROADS["mitigated"])])
    assert (row["before"], row["after"], row["retest"]) == ([4, 5], None, None)
    assert mitigations([case("reproduced")]) == []
    again = register(*ROADS["re-tested"], "reproduced", "mitigated").cases["acme-1"]
    assert [row["retest"] for row in mitigations([again])] == ["d" * 64, None]


def test_what_a_set_takes() -> None:
    open_case = case()
    assert reason_against(open_case, Wanted()) == reason_against(open_case, Wanted("training")) == ""
    assert reason_against(case(consent=["evaluation"]), Wanted("training")) == "consent"
    assert reason_against(case(consent=[]), Wanted()) == "consent"
    assert reason_against(open_case, Wanted(status=("closed",))) == "status"
    assert (
        reason_against(open_case, Wanted(severity=4))
        == "severity"
        == reason_against(case(severities=()), Wanted(severity=1))
    )
    parts = {part: reason_against(open_case, Wanted(part=part)) for part in ("train", "dev", "test")}  # type: ignore[arg-type]
    assert parts == {part: "" if part == part_of_case(open_case) else "part" for part in parts}


def test_a_row_for_an_evaluation_is_held_out_and_holds_no_reply() -> None:
    wrapped = case(family="persona", topic="lies")
    row = prompt_row(wrapped, "evaluation")
    assert "It is well." not in str(row) and row["id"] == "acme-1" and row["topic"] == "lies"
    dialogue = dialogue_of_row(row)
    assert (dialogue.meta["origin"], dialogue.meta["family"]) == ("jailbreak", "persona")
    assert find_held_out([dialogue]) == "acme-1"
    learnt = dialogue_of_row(prompt_row(wrapped, "training"))
    assert find_held_out([learnt]) == "" and learnt.is_prompt
    assert dialogue_of_row(prompt_row(case(), "evaluation")).meta["origin"] == "representative"


def test_an_embargo_ends_on_its_day() -> None:
    held = case(embargo_until="2027-01-02")
    assert held.is_embargoed("2027-01-01") and not held.is_embargoed("2027-01-02")
    assert not case().is_embargoed("1999-01-01")
    made = register()
    assert made.apply(event("embargoed", until="2030-01-01")).is_embargoed("2029-12-31")


def test_a_report_has_avids_columns() -> None:
    """As avidtools 0.1.2 reads them: every column there, no other, and its words for types."""
    report = avid_report(case(*ROADS["closed"], report_type="Measurement", language="en"), ["Acme Labs"])
    assert report["affects"] == {
        "developer": ["Acme Labs"],
        "deployer": [],
        "artifacts": [{"type": "Model", "name": "demo/rl"}],
    }
    assert report["problemtype"] == {
        "classof": "LLM Evaluation",
        "type": "Measurement",
        "description": {"lang": "en", "value": "a small lie"},
    }
    assert [metric["results"] for metric in report["metrics"]] == [
        {"severity": 3, "reviewers": [3, 3]},
        {"before": [4, 5], "after": [1, 5]},
    ]
    assert [link["url"] for link in report["references"]] == [f"urn:sha256:{c * 64}" for c in "cd"]
    assert report["reported_date"] == "2026-11-01" and "aunt" not in str(report)
    assert "aunt" in avid_report(case(), texts=True)["description"]["value"]


@pytest.mark.parametrize(
    ("row", "harmful"),
    [
        ({"harmful": True, "grader": 1.0, "grader_fixed": 0.0}, True),
        ({"grader": -1.0, "grader_fixed": 0.0}, True),
        ({"grader": 0.0, "grader_fixed": 0.0}, False),
        ({"grader": None, "grader_fixed": None}, None),
        ({}, None),
    ],
)
def test_which_replies_are_harmful(row: dict[str, Any], harmful: bool | None) -> None:
    assert is_harmful(row) is harmful
