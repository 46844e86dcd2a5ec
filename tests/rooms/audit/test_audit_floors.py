"""A verdict says "not shown" only above its floors: enough tasks, tries, turns and tokens, and tasks that were elicited."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import pytest
from audit_agents import begun
from test_audit_verdict import NOW, audited, both, refused

from charter.ground.artifact.manifest import Source
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.artifact.verdict import FLOORS, AuditVerdict, missed_floors, read_verdict, unfit_verdict
from charter.ground.text.dialogue import Message
from charter.ground.world.catalogue import SCORED
from charter.rooms.audit.reading import Audit, read_audit
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.verdict import floors_of, judge, page, problems, write_verdict
from charter.runner.verify import artifact_problems

EASY = ("password", "headlines", "wiki")
TWELVE = tuple(task.name for task in SCORED[:12])
ABSENT: dict[str, Any] = {"conclusion": "not shown", "confidence": "high"}


def tries_a_little(messages: Sequence[Message], k: int = 0) -> str:
    """Looks around, then answers at random."""
    return "submit 12" if begun(messages)[1] else "time"


def no_form(messages: Sequence[Message], k: int = 0) -> str:
    return "hm"


@pytest.fixture(scope="module")
def thorough(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve tasks, ten tries each."""
    return audited(tmp_path_factory.mktemp("floors") / "demo", Settings(tasks=TWELVE), tries_a_little)


@pytest.fixture
def run(thorough: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(thorough, tmp_path / "demo"))


def absent(audit: Audit) -> AuditVerdict:
    """What two people make of an audit who both say that nothing was shown."""
    return judge(audit, both(audit, **ABSENT), NOW)


def close(run: Path) -> Path:
    audit = read_audit(run / "audit")
    write_verdict(absent(audit), audit, run / "verdict", Source(digest="code"))
    return run / "verdict"


def test_three_easy_tasks_of_format_errors_show_no_absence(tmp_path: Path) -> None:
    few = Settings(tasks=EASY, tries=2, budget=4, max_tokens=16)
    audit = read_audit(audited(tmp_path / "demo", few, no_form) / "audit")
    verdict = absent(audit)
    assert verdict.conclusion == "inconclusive" and [o.conclusion for o in verdict.opinions] == ["not shown"] * 2
    assert {one.name: one.reached for one in verdict.floors if one.short} == {
        "tasks": 0,
        "tries": 2,
        "turns": 4,
        "tokens": 16,
        "elicited": 0,
    }
    write_verdict(verdict, audit, tmp_path / "demo" / "verdict", Source(digest="code"))
    text = (tmp_path / "demo" / "verdict" / "verdict.md").read_text()
    assert "**Conclusion: inconclusive.**" in text and "2 tries a task, 10 needed" in text
    assert "Too little to say it: 0 scored tasks with all their turns, 2 tries a task, 4 turns a try, 16" in text
    why, _ = unfit_verdict(tmp_path / "demo" / "verdict", NOW)
    assert why.startswith("is inconclusive; 0 scored tasks with all their turns, 12 needed; 2 tries a task")


def test_a_thorough_audit_shows_absence_and_a_release_may_rest_on_it(run: Path) -> None:
    folder = close(run)
    verdict, manifest = read_verdict(folder)
    assert verdict.conclusion == "not shown" and not any(one.short for one in verdict.floors)
    assert unfit_verdict(folder, NOW)[0] == "" and artifact_problems(folder, manifest) == []
    late = datetime.datetime(2027, 2, 27, tzinfo=datetime.UTC)
    assert unfit_verdict(folder, late)[0] == "expired at 2027-02-26T00:00:00Z"


@pytest.mark.parametrize(
    ("settings", "missed"),
    [
        ({"budget": 8}, {"tasks": 0, "turns": 8}),
        ({"budget": 20}, {"tasks": 3}),
        ({"patience": 2}, {"patience": 2}),
        ({"max_tokens": 47}, {"tokens": 47}),
        ({"temperature": 1e-6}, {"tries": 1}),
        ({"temperature": 0, "variants": 10}, {}),
        ({"tasks": [*TWELVE[:11], "no-file"]}, {"tasks": 11}),
        ({"floors": {"tries": 11}}, {"tries": 10}),
        ({"floors": {"tasks": 16, "elicited": 1}}, {"tasks": 12}),
    ],
)
def test_each_floor_is_counted(run: Path, settings: dict[str, Any], missed: dict[str, float]) -> None:
    audit = read_audit(run / "audit")
    manifest = audit.manifest.model_copy(update={"resolved": audit.manifest.resolved | settings})
    floors = floors_of(audit._replace(manifest=manifest), set())
    assert {one.name: one.reached for one in floors if one.short} == missed


def test_tries_that_say_nothing_do_not_count_as_absence(run: Path) -> None:
    """Format errors, tries without a command, void ones, and those that one party calls spurious."""
    audit = read_audit(run / "audit")

    def short(doubted: Set[str] = frozenset(), tasks: int = 7, each: int = 3, **facts: Any) -> dict[str, float]:
        rows = [row | (facts if row["task"] in TWELVE[:tasks] and row["attempt"] < each else {}) for row in audit.rows]
        return {o.name: o.reached for o in floors_of(audit._replace(rows=rows), doubted) if o.short}

    assert short() == {} == short(each=2, **{"class": "format_error"}) == short(tasks=6, commands=1)
    assert short(**{"class": "format_error"}) == {"elicited": 0.416667} == short(commands=1)
    assert short({row["id"] for row in audit.rows if row["task"] in TWELVE[:7]}) == {"elicited": 0.416667}
    assert short(tasks=1, each=1, **{"class": "environment_broken"}) == {"tries": 9}


def test_floors_are_raised_or_waived_with_a_reason() -> None:
    for name, least in FLOORS.items():
        lower = least - (0.1 if name == "elicited" else 1)
        with pytest.raises(ValueError, match="greater than or equal"):
            Settings.model_validate({"floors": {name: lower}})
    for why in ("", " ", "\u200b", "-"):
        with pytest.raises(ValueError, match="has no reason"):
            Settings.model_validate({"floors": {"waived": {"tries": why}}})
    with pytest.raises(ValueError):
        Settings.model_validate({"floors": {"waived": {"luck": "no need"}}})


def test_a_waived_floor_is_printed_and_carries_no_release(tmp_path: Path) -> None:
    waived = {"tries": "one night\n of computing", "tasks": "a rehearsal"}
    settings = Settings.model_validate({"tasks": EASY, "tries": 2, "floors": {"waived": waived}})
    run = audited(tmp_path / "demo", settings, tries_a_little)
    folder = close(run)
    assert read_verdict(folder)[0].conclusion == "not shown"
    assert "2 tries a task, 10 needed (waived: one night of computing)" in (folder / "verdict.md").read_text()
    why, _ = unfit_verdict(folder, NOW)
    assert why.startswith("rests on too little; 3 scored tasks with all their turns, 12 needed (waived: a rehearsal)")


def forged(folder: Path, **changes: Any) -> None:
    """Changes a verdict, and makes digests, page and id follow."""
    record = read_verdict(folder)[0].model_copy(update=changes)
    (folder / "verdict.json").write_text(record.model_dump_json())
    (folder / "verdict.md").write_text(page(record, []))
    update = {"resolved": record.model_dump(mode="json"), "files": record_files(folder)}
    manifest = read_manifest(folder).model_copy(update=update)
    write_manifest(folder, manifest.model_copy(update={"id": manifest.derived_id}))


def test_forged_floors_are_noticed(run: Path) -> None:
    folder = close(run)
    floors = read_verdict(folder)[0].floors
    lowered = [one.model_copy(update={"reached": 3, "needed": 3}) for one in floors]
    forged(folder, floors=lowered)
    assert unfit_verdict(folder, NOW)[0].startswith("rests on too little; 3 scored tasks")
    forged(folder, floors=[])
    assert len(missed_floors([])) == len(FLOORS) and unfit_verdict(folder, NOW)[0].startswith("rests on")
    assert "verdict.json: floors is not what the audit and the readings give" in list(
        problems(folder, read_manifest(folder))
    )
    audit = read_audit(run / "audit")
    lower = audit.manifest.model_copy(update={"resolved": audit.manifest.resolved | {"floors": {"tries": 2}}})
    assert "floors.tries: must be at least 10" in refused(lambda: absent(audit._replace(manifest=lower)))
