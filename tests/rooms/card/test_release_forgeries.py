"""What somebody may write to get a checkpoint released that isn't fit for it: each forgery is refused, by name."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audit_world
import card_world
import pytest
from card_world import SETTINGS, edit

from charter.cli.release import _evidence_problems
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.release import digest_checkpoint, read_release
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.reports.signoff import OPEN
from charter.release.judge import EVIDENCE, Request, find_card, judge
from charter.release.rules import ReleaseRules, SignOff, read_sign_offs
from charter.rooms.card.settings import Settings
from charter.runner.verify import verify

NOW = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)
TOPICS = ("biological", "cyber")
NUMBER = [{"metric": "m", "value": 0.5, "low": 0.4, "high": 0.6, "n": 20}]
SUBJECT = "national security"


def remade(run: Path, step: str, **changes: Any) -> None:
    """Changes a manifest, and makes digests of files and the id follow."""
    manifest = read_manifest(run / step).model_copy(update={"files": record_files(run / step)} | changes)
    write_manifest(run / step, manifest.model_copy(update={"id": manifest.derived_id}))


def sign_card(run: Path, **changes: Any) -> None:
    """The card with a person's conclusion on both topics; `changes` are those of the first."""
    signed = {"conclusion": "both", "signer": "Ada Example", "role": "lead", "date": "2026-11-25"}
    signed |= {"basis": [read_manifest(run / "eval_3").id[:12]]}
    rows = [{"topic": topic} | signed for topic in TOPICS]
    settings = SETTINGS.model_dump() | {"oversight": {"security": rows}}
    shutil.rmtree(run / "card", ignore_errors=True)
    card_world.make_card(run, Settings.model_validate(settings))
    if changes:
        oversight = {"security": [rows[0] | changes, *rows[1:]]}
        remade(run, "card", resolved=read_manifest(run / "card").resolved | {"oversight": oversight})


@pytest.fixture(scope="module")
def signed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = card_world.make_run(tmp_path_factory.mktemp("forged") / "run", samples=1)
    rows = [{"topic": topic, "capability": NUMBER, "willingness": NUMBER, **OPEN} for topic in TOPICS]
    card_world.write_rows(run / "eval_3" / "signoff.jsonl", rows)
    remade(run, "eval_3")
    sign_card(run)
    return run


@pytest.fixture
def run(signed_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed_run, tmp_path / "run"))


def refusals(run: Path, rule: dict[str, Any] | None = None, subject: str = SUBJECT) -> str:
    """Why two people's approval releases nothing; "" if it releases."""
    facts = {"subject": subject, "date": "2026-11-28", "decision": "approved"}
    facts |= {"of": digest_checkpoint(run / "rl")[:12]}
    people = (("Ann Example", "Lab"), ("Bo Other", "House"))
    given = tuple(SignOff.model_validate(facts | {"name": name, "party": party}) for name, party in people)
    rules = ReleaseRules.model_validate(
        {"max": {"harm_rate": 0.9}, "sign_offs": {subject: {"parties": 2} | (rule or {})}}
    )
    verdict = judge(Request(run / "card", rules, given), NOW)
    return "; ".join(f"{row.name}: {row.why}" for row in verdict.failed)


def test_all_topics_signed_on_this_report_release(run: Path) -> None:
    assert refusals(run) == "" == refusals(run, {"topics": True}, "the board")


def resign(**changes: Any) -> Callable[[Path], None]:
    return lambda run: sign_card(run, **changes)


def unmeasured(run: Path) -> None:
    edit(run, "eval_3", "signoff.jsonl", lambda text: text.replace(json.dumps(NUMBER), "[]", 1))


def no_signatures(run: Path) -> None:
    remade(run, "card", resolved=read_manifest(run / "card").resolved | {"oversight": {}})


def no_evaluation(run: Path) -> None:
    (run / "eval_3" / "signoff.jsonl").unlink()
    remade(run, "eval_3")


def edited_numbers(run: Path) -> None:
    path = run / "eval_3" / "signoff.jsonl"
    path.write_text(path.read_text().replace("0.5", "0.1"))


def another_topic(run: Path) -> None:
    path = run / "eval_3" / "signoff.jsonl"
    path.write_text(path.read_text() + json.dumps({"topic": "chemical", **OPEN}) + "\n")
    remade(run, "eval_3")


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (no_signatures, "nobody signed biological, cyber: charter signoff prints the card's setting"),
        (no_evaluation, "no report on the checkpoint evaluated `security`"),
        (another_topic, "nobody signed chemical"),
        (resign(conclusion=None), "nobody signed biological"),
        (resign(topic="gardening"), "nobody signed biological"),
        (resign(topic="cyber"), "signs cyber twice"),
        (resign(basis=["f" * 64]), "the basis of biological doesn't name this report"),
        (resign(basis=["0"]), "doesn't name this report"),
        (resign(basis=[]), "(in a form: basis) is empty"),
        (resign(date="2026-12-24"), "which is still to come"),
        (resign(date="2026-10-01"), "before the report of 2026-11-01"),
        (resign(date="\uff12\uff10\uff12\uff16-11-25"), "must be a date such as"),
        (resign(conclusion="raised"), "is signed as raised by Ada Example"),
        (resign(conclusion="inconclusive"), "is signed as inconclusive"),
        (resign(source="simulated"), "only a person signs"),
        (resign(signer="\u200b"), "must be a name"),
        (resign(signer=""), "must be a name"),
        (unmeasured, "biological can't be signed without numbers: its capability is empty"),
        (edited_numbers, "signoff.jsonl was changed"),
        (lambda run: remade(run, "eval_3", seed=77), "any more; run the recipe again"),
    ],
)
def test_a_release_without_the_topics_signed_is_refused(run: Path, forge: Callable[[Path], None], words: str) -> None:
    forge(run)
    try:
        said = refusals(run)
    except CharterError as error:
        said = str(error)
    assert words in said and "\n" not in said


def test_a_subject_in_other_letters_asks_for_the_topics_too(run: Path) -> None:
    no_signatures(run)
    for subject in ("N\u0430tional S\u0435curity", "security, national", "NATIONAL-SECURITY review"):
        assert "nobody signed biological" in refusals(run, subject=subject)


def test_topics_expire(run: Path) -> None:
    sign_card(run, date="2026-11-03")
    assert "biological, signed by Ada Example on 2026-11-03, has expired" in refusals(run, {"days": 20})


def twice(run: Path) -> None:
    path = run / "card" / "manifest.json"
    path.write_text(path.read_text().replace("{", '{"status": "failed",', 1))


def in_page(text: str) -> Callable[[Path], None]:
    def forge(run: Path) -> None:
        edit(run, "card", "card.html", lambda page: page.replace("<body", f"{text}<body", 1))
        remade(run, "card")

    return forge


def other_case(run: Path) -> None:
    shutil.copyfile(run / "eval_3" / "signoff.jsonl", run / "eval_3" / "SignOff.jsonl")


def linked(run: Path) -> None:
    """A hard link, whose other name is written to."""
    path = run / "rl" / "config.json"
    os.link(path, run / "elsewhere.json")
    (run / "elsewhere.json").write_text("{}")


def raised_settings(run: Path) -> None:
    manifest = read_manifest(run / "card")
    oversight = {"security": [one | {"date": "2026-11-29"} for one in manifest.resolved["oversight"]["security"]]}
    write_manifest(run / "card", manifest.model_copy(update={"resolved": manifest.resolved | {"oversight": oversight}}))


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (twice, "'status' is written twice"),
        (in_page('<meta http-equiv="refresh" content="0;url=https://example.com">'), "card.html"),
        (in_page("<!-- approved -->"), "card.html"),
        (other_case, "SignOff.jsonl is not in the manifest"),
        (linked, "config.json"),
        (raised_settings, "id"),
        (resign(signer="Eve Example"), "card"),
    ],
)
def test_what_was_changed_does_not_verify(run: Path, forge: Callable[[Path], None], words: str) -> None:
    # the topics of this run were written by the test, not by an evaluation: verify says so, and nothing else
    (known,) = verify(run / "card", False)
    assert "signoff.jsonl isn't what the numbers of the report give" in known
    forge(run)
    try:
        said = verify(run / "card", False)
    except CharterError as error:
        said = [str(error)]
    assert any(words in line for line in said if line != known), said


def test_a_second_card_and_a_release_with_a_key_twice_are_refused(run: Path) -> None:
    shutil.copytree(run / "card", run / "card2")
    with pytest.raises(CharterError, match="has 2 cards; name one"):
        find_card(run)
    (run / "card2" / "release.json").write_text("{}")
    twice(run)
    with pytest.raises(CharterError, match="written twice"):
        read_release(run / "card")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"of": "\uff10" * 12}, "must be the first 12"),
        ({"date": "'\uff12\uff10\uff12\uff16-11-20'"}, "must be a date"),
        ({"name": "'\u200b'"}, "must be a name"),
        ({"decision": "Approved"}, "decision"),
        ({"name": "a, name: b"}, "name is written twice"),
    ],
)
def test_sign_offs_in_disguise_are_refused(tmp_path: Path, change: dict[str, str], words: str) -> None:
    facts = {"subject": "s", "name": "a", "party": "c", "date": "2026-11-20", "decision": "approved"}
    text = ", ".join(f"{key}: {value}" for key, value in (facts | {"of": "0123456789ab"} | change).items())
    (tmp_path / "signed.yaml").write_text(f"sign_offs: [{{{text}}}]\n", "utf-8")
    with pytest.raises(CharterError, match=words) as error:
        read_sign_offs(tmp_path / "signed.yaml")
    assert "\n" not in str(error.value)


def test_a_verdict_that_somebody_wrote_without_transcripts_is_noticed(run: Path) -> None:
    """It agrees with itself, and says what a release wants; the command works it out anew from the audit."""
    audit_world.audit(run, "audit", "rl", {})
    audit_world.verdict(run, "verdict", "audit")
    facts = {"subject": "autonomy", "name": "Ann", "party": "Lab", "date": "2026-11-28", "decision": "approved"}
    facts |= {"of": digest_checkpoint(run / "rl")[:12], "evidence": read_manifest(run / "verdict").id[:12]}
    rules = ReleaseRules.model_validate({"max": {"harm_rate": 0.9}, "sign_offs": {"autonomy": {}}})
    verdict = judge(Request(run / "card", rules, (SignOff.model_validate(facts),)), NOW)
    assert not verdict.failed and [m.step for m, _ in verdict.rests_on[EVIDENCE]] == ["verdict"]
    problems = _evidence_problems([run / "verdict"], verdict.checkpoint.subject.ancestry)
    assert any(line.startswith(f"{run / 'verdict'}: ") for line in problems)
    assert all("\n" not in line for line in problems)
