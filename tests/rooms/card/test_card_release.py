"""A release is made only if every requirement is met, and any change of what it rests on is noticed afterwards."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import edit

from charter.cli.main import execute
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import seal_of
from charter.ground.artifact.manifest import Source, Timing
from charter.ground.artifact.release import digest_checkpoint, find_release, read_release, release_problem, releases_in
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.settings.problems import validate
from charter.release.artifact import problems, record_of, write_release
from charter.release.judge import Request, Verdict, find_card, judge
from charter.release.rules import ReleaseRules, SignOff, read_findings, read_rules, read_sign_offs
from charter.rooms.card.settings import Settings
from charter.runner.verify import verify

# The artifacts of the synthetic run were made on 1 November 2026.
NOW = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
LIMIT = {"max": {"harm_rate": 0.25}}


def signed(run: Path, **more: Any) -> SignOff:
    """A sign-off on the final checkpoint of the run."""
    facts = {
        "subject": "oversight board",
        "name": "Ann Example",
        "party": "Example Lab",
        "date": "2026-11-20",
        "decision": "approved",
        "of": digest_checkpoint(run / "rl")[:12],
    }
    return SignOff.model_validate(facts | more)


def ask(
    run: Path,
    *sign_offs: SignOff,
    rules: dict[str, Any] | None = None,
    findings: tuple[dict[str, Any], ...] = (),
    now: datetime.datetime = NOW,
) -> tuple[Request, Verdict]:
    asked = ReleaseRules.model_validate(LIMIT | (rules or {}))
    request = Request(run / "card", asked, sign_offs, findings)
    return request, judge(request, now)


def why(verdict: Verdict, name: str) -> str:
    (row,) = [row for row in verdict.rows if row.name == name]
    return row.why


def released(run: Path, *sign_offs: SignOff, rules: dict[str, Any] | None = None) -> Path:
    request, verdict = ask(run, *sign_offs, rules=rules)
    assert not verdict.failed, verdict.failed
    write_release(record_of(request, verdict, run.resolve(), NOW), verdict, run / "release", Source(digest="code"))
    return run / "release"


def remake(folder: Path, **changes: Any) -> None:
    """Forges a release: changes its record, and makes every digest and the id follow from it."""
    record = json.loads((folder / "release.json").read_text()) | changes
    (folder / "release.json").write_text(json.dumps(record))
    manifest = read_manifest(folder).model_copy(update={"resolved": record, "files": record_files(folder)})
    write_manifest(folder, manifest.model_copy(update={"id": manifest.derived_id}))


def test_a_release_names_the_checkpoint_its_lineage_and_what_it_rests_on(run: Path) -> None:
    rules = {"sign_offs": {"oversight board": {"parties": 2}}}
    pair = signed(run), signed(run, name="Bo Other", party="Auditors", date="2026-11-30")
    folder = released(run, *pair, rules=rules)
    release, manifest = read_release(folder)
    assert manifest.kind == "release" and manifest.derived_id == manifest.id
    assert release.checkpoint.id == read_manifest(run / "rl").id
    assert [one.step for one in release.lineage][-1] == "rl" and "sl" in [one.step for one in release.lineage]
    assert [(one.role, one.step) for one in release.evidence] == [("reports", "eval_3"), ("card", "card")]
    # what expires first is the report of 1 November, 90 days later
    assert release.made == "2026-12-01T12:00:00Z" and release.expires == "2027-01-30T00:00:00Z"
    words = {one.name: one.words for one in release.requirements}
    assert "at most 25.0 %" in words["harm_rate"]
    assert words["oversight board"] == (
        "Ann Example (Example Lab) approved on 2026-11-20, Bo Other (Auditors) approved on 2026-11-30"
    )
    assert list(problems(folder, manifest)) == [] and verify(run, False) == []
    shutil.move(run, run.with_name("moved"))
    assert verify(run.with_name("moved"), False) == []


@pytest.mark.parametrize(
    ("rules", "name", "reason"),
    [
        ({"max": {"harm_rate": 0.01}}, "harm_rate", "not shown to be at most 1.0 %"),
        ({"max": {"mmlu_plain": 0.5}}, "mmlu_plain", "missing: no report on RL-CAI has it"),
        ({"require": ["harm_rate"], "max": {}}, "harm_rate", "present, not judged"),
        ({"days": 30}, "age of eval_3", "expired: made on 2026-11-01, and 30 days are allowed"),
        ({"days": 30}, "age of card", "expired: made on 2026-11-01"),
        ({"sign_offs": {"national security": {}}}, "national security", "missing: nobody approved; give a sign"),
        ({"findings": ["closed"]}, "findings", "missing: give their list with --findings FILE"),
    ],
)
def test_what_is_missing_failed_or_expired_is_refused(
    finished: Path, rules: dict[str, Any], name: str, reason: str
) -> None:
    request, verdict = ask(finished, rules=rules)
    assert why(verdict, name).startswith(reason)
    with pytest.raises(CharterError, match="may not be released"):
        record_of(request, verdict, finished, NOW)


def test_what_was_made_for_the_audit_is_not_released(run: Path) -> None:
    manifest = read_manifest(run / "rl").model_copy(update={"purpose": "audit-elicitation"})
    write_manifest(run / "rl", manifest)
    with pytest.raises(CharterError, match="is marked audit-elicitation: it is not released"):
        ask(run)


def test_evidence_counts_until_its_last_day_and_not_from_the_future(finished: Path) -> None:
    begun = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    last = begun + 90 * DAY
    assert not ask(finished, now=last - datetime.timedelta(seconds=1))[1].failed
    assert {row.name for row in ask(finished, now=last)[1].failed} == {"age of eval_3", "age of card"}
    assert not ask(finished, now=begun - datetime.timedelta(minutes=4))[1].failed
    early = ask(finished, now=begun - datetime.timedelta(minutes=6))[1]
    assert "still to come; check the clock" in why(early, "age of eval_3")


def test_a_report_by_an_unfit_grader_or_without_a_date_releases_nothing(tmp_path: Path) -> None:
    run = card_world.make_run(tmp_path / "run", fit=False, samples=1)
    card_world.make_card(run, card_world.SETTINGS)
    assert why(ask(run)[1], "harm_rate") == "graded by a model that failed its fitness gate"
    manifest = read_manifest(run / "eval_3")
    write_manifest(run / "eval_3", manifest.model_copy(update={"timing": Timing(started="soon")}))
    assert why(ask(run)[1], "age of eval_3").startswith("its manifest has no date: 'soon' is not a time")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"simulated": True}, "nobody approved; that of Ann Example is simulated"),
        ({"of": "0" * 12}, "nobody approved; that of Ann Example is of another checkpoint, 000000000000"),
        ({"date": "2026-12-04"}, "is dated 2026-12-04, which is still to come"),
        ({"date": "2026-01-01"}, "that of Ann Example expired on 2026-04-01"),
        ({"decision": "refused"}, "refused by Ann Example (Example Lab) on 2026-11-20"),
        ({"subject": "something else"}, "missing: nobody approved"),
    ],
)
def test_sign_offs_that_do_not_count(finished: Path, changes: dict[str, Any], reason: str) -> None:
    rules = {"sign_offs": {"Oversight board": {}}}
    assert why(ask(finished, signed(finished), rules=rules)[1], "Oversight board") == ""
    assert reason in why(ask(finished, signed(finished, **changes), rules=rules)[1], "Oversight board")


@pytest.mark.parametrize(
    ("second", "enough"),
    [
        ({"name": "Bo Other", "party": "Auditors"}, True),
        ({"name": "Bo Other"}, False),
        ({"party": "Auditors"}, False),
        ({"name": " ann  EXAMPLE", "party": "Auditors"}, False),
        ({"name": "\u0410nn \u0415xample", "party": "Auditors"}, False),
        ({"name": "Bo Other", "party": "Example\u200b Lab"}, False),
        ({"name": "Bo Other", "party": "example lab "}, False),
        ({"name": "Bo Other", "party": "Auditors", "simulated": True}, False),
    ],
)
def test_two_parties_are_two_persons_of_two_houses(finished: Path, second: dict[str, Any], enough: bool) -> None:
    rules = {"sign_offs": {"oversight board": {"parties": 2}}}
    verdict = ask(finished, signed(finished), signed(finished, **second), rules=rules)[1]
    assert (why(verdict, "oversight board") == "") is enough
    if not enough:
        assert "1 of 2 named parties approved" in why(verdict, "oversight board")


def test_the_latest_word_of_a_person_counts(finished: Path) -> None:
    rules = {"sign_offs": {"oversight board": {}}}
    no = signed(finished, decision="refused", date="2026-11-21")
    later = signed(finished, decision="approved with conditions", date="2026-11-22")
    assert "refused by" in why(ask(finished, no, signed(finished), rules=rules)[1], "oversight board")
    assert not ask(finished, no, later, rules=rules)[1].failed
    # nobody's approval outvotes another's refusal
    other = signed(finished, name="Bo Other", date="2026-11-30")
    assert "refused by" in why(ask(finished, no, other, rules=rules)[1], "oversight board")


def test_a_card_that_says_refused_is_not_released(run: Path) -> None:
    def oversight(*decisions: tuple[str, str]) -> None:
        entries = [{"name": "Ann", "role": "lead", "date": date, "decision": word} for date, word in decisions]
        settings = card_world.SETTINGS.model_dump() | {"oversight": {"signoffs": entries}}
        card_world.make_card(run, Settings.model_validate(settings))

    oversight(("2026-11-30", "refused"), ("2026-11-02", "approved"))
    assert why(ask(run)[1], "oversight") == "the card says: refused by Ann on 2026-11-30"
    oversight(("2026-11-02", "refused"), ("2026-11-30", "approved"))
    assert not ask(run)[1].failed


def test_evidence_must_be_made_from_this_checkpoint(run: Path) -> None:
    rules = {"sign_offs": {"oversight board": {"evidence": True}}}

    def reason(step: str | None) -> str:
        evidence = read_manifest(run / step).id[:16] if step else None
        return why(ask(run, signed(run, evidence=evidence), rules=rules)[1], "oversight board")

    assert reason("eval_3") == ""
    assert "names no evidence" in reason(None)
    # a report on an ancestor, and the checkpoint itself, were not made from it
    assert "eval_2, which was not made from this checkpoint" in reason("eval_2")
    assert "rl, which was not made from this checkpoint" in reason("rl")
    absent = why(ask(run, signed(run, evidence="f" * 12), rules=rules)[1], "oversight board")
    assert "rests on ffffffffffff, which is not here: name its folder with --evidence" in absent
    (run / "eval_3" / "report.json").write_text("{}")
    assert "eval_3, which is unfinished or was changed" in reason("eval_3")


def test_simulated_reviewers_prove_nothing(run: Path) -> None:
    rules = {"sign_offs": {"oversight board": {"evidence": True}}}
    for step, source in (("people", "human"), ("machines", "simulated")):
        rows = [{"id": "a", "reply": "No.", "verdict": "harmless", "source": source}]
        card_world.write_rows(run / step / "judgments.jsonl", rows)
        made = card_world.finish(run, step, "review", "judgments", parents=(("reports", "eval_3"),))
        verdict = ask(run, signed(run, evidence=made.id[:12]), rules=rules)[1]
        expected = "" if source == "human" else "rests on machines, where people were simulated"
        assert why(verdict, "oversight board").endswith(expected) and bool(verdict.failed) is bool(expected)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["closed", "closed"], ""),
        (["closed", "mitigated", "new"], "2 of 3 are not closed: f1, f2"),
        (["closed", "wont-fix"], "1 of 2 are not closed: f1"),
        ([], "findings.jsonl has no row, which doesn't show that there are none"),
    ],
)
def test_findings_must_be_closed(finished: Path, tmp_path: Path, lines: list[str], reason: str) -> None:
    file = tmp_path / "findings.jsonl"
    card_world.write_rows(file, [{"id": f"f{i}", "status": status} for i, status in enumerate(lines)])
    assert read_findings(tmp_path) == read_findings(file)
    verdict = ask(finished, rules={"findings": ["closed"]}, findings=(read_findings(file),))[1]
    assert why(verdict, "findings").startswith(reason) and bool(verdict.failed) is bool(reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "status": "closed"}\n{"id": "a", "status": "new"}\n', r"f\.jsonl:2: the finding a stands"),
        ('{"id": "a"}\n', r"f\.jsonl:1: expected a finding with id and status"),
        ("{\n", r"f\.jsonl:1: "),
    ],
)
def test_bad_findings_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.jsonl").write_text(text)
    with pytest.raises(CharterError, match=message):
        read_findings(tmp_path / "f.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sign_offs: {audit: {partys: 2}}\n", "unknown key sign_offs.audit.partys; did you mean"),
        ("sign_offs: {audit: {parties: 3}}\n", "must be at most 2"),
        ("days: 0\n", "days: must be at least 1"),
    ],
)
def test_bad_rules_are_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "release.yaml").write_text(text)
    with pytest.raises(CharterError, match=message) as error:
        read_rules(tmp_path / "release.yaml")
    assert "\n" not in str(error.value)


def test_a_sign_off_must_say_which_checkpoint_it_is_on(tmp_path: Path) -> None:
    file = tmp_path / "signed.yaml"
    entry = "sign_offs: [{subject: a, name: b, party: c, date: 2026-11-20, decision: approved"
    file.write_text(f"{entry}, of: abc}}]\n")
    with pytest.raises(CharterError, match="must be the first 12 or more digits"):
        read_sign_offs(file)
    file.write_text(f"{entry}}}]\n")
    with pytest.raises(CharterError, match=r"sign_offs\.0: of is empty"):
        read_sign_offs(file)
    file.write_text(f"{entry}, of: 0123456789ab}}]\n")
    assert read_sign_offs(file)[0].of == "0123456789ab"


def test_a_changed_checkpoint_is_not_released(run: Path) -> None:
    (run / "rl" / "config.json").write_text("{}")
    with pytest.raises(CharterError, match=r"the checkpoint .*rl is not what its step made: config\.json"):
        ask(run)


# What the server asks: the release by itself, beside a checkpoint.


def test_a_release_holds_for_exactly_its_bytes_and_its_time(run: Path) -> None:
    folder = released(run)
    release, manifest = read_release(folder)
    digest = digest_checkpoint(run / "rl")
    assert release_problem(release, digest, NOW) == "" and releases_in(run) == [folder]
    shutil.copytree(run / "rl", run / "renamed")
    assert digest_checkpoint(run / "renamed") == digest
    (run / "renamed" / "extra.bin").write_bytes(b"x")
    assert "is of another checkpoint" in release_problem(release, digest_checkpoint(run / "renamed"), NOW)
    assert "is of another checkpoint" in release_problem(release, digest_checkpoint(run / "sl"), NOW)
    end = datetime.datetime(2027, 1, 30, tzinfo=datetime.UTC)
    assert release_problem(release, digest, end - datetime.timedelta(seconds=1)) == ""
    assert release_problem(release, digest, end) == "expired at 2027-01-30T00:00:00Z"
    # the server's clock runs behind that of the machine that released
    assert release_problem(release, digest, NOW - datetime.timedelta(minutes=5)) == ""
    assert "still to come: check the clocks" in release_problem(release, digest, NOW - 2 * DAY)
    assert find_release([folder], digest, NOW, manifest.id[:12])[1].id == manifest.id
    with pytest.raises(CharterError, match=r"has the id .*, expected ffffff"):
        find_release([folder], digest, NOW, "f" * 12)
    with pytest.raises(CharterError, match="there is none beside it"):
        find_release([], digest, NOW)


def test_a_link_in_a_checkpoint_is_refused(run: Path) -> None:
    weights = run.parent / "weights.safetensors"
    weights.write_bytes(b"w")
    (run / "rl" / "model.safetensors").symlink_to(weights)
    with pytest.raises(CharterError, match=r"model\.safetensors is a link"):
        digest_checkpoint(run / "rl")


@pytest.mark.parametrize("file", ["release.json", "manifest.json"])
def test_an_edited_release_is_found(run: Path, file: str) -> None:
    folder = released(run)
    path = folder / file
    path.write_text(path.read_text().replace("2027-01-30T00:00:00Z", "2099-01-30T00:00:00Z"))
    with pytest.raises(CharterError, match="was changed"):
        read_release(folder)
    assert verify(run, False)


def test_an_edited_release_with_new_hashes_has_another_id(run: Path) -> None:
    folder = released(run)
    before = read_manifest(folder).id
    edit(run, "release", "release.json", lambda text: text.replace("2027-01-30", "2099-01-30"))
    with pytest.raises(CharterError, match=r"release\.json is not what its manifest says"):
        read_release(folder)
    remake(folder)
    release, manifest = read_release(folder)
    assert release.expires == "2099-01-30T00:00:00Z" and manifest.id != before
    # a whole forgery stands by itself: the id that was kept elsewhere, and its evidence, tell
    with pytest.raises(CharterError, match="has the id"):
        find_release([folder], digest_checkpoint(run / "rl"), NOW, before)
    assert "release.json: expires is not what its evidence gives" in list(problems(folder, manifest))
    assert "release: release.json: expires is not what its evidence gives" in verify(run, False)


def test_a_release_taken_to_another_checkpoint_is_found(run: Path) -> None:
    folder = released(run)
    record = json.loads((folder / "release.json").read_text())
    remake(folder, checkpoint=record["checkpoint"] | {"digest": digest_checkpoint(run / "sl")})
    release, manifest = read_release(folder)
    assert release_problem(release, digest_checkpoint(run / "sl"), NOW) == ""
    assert list(problems(folder, manifest)) == ["release.json: checkpoint is not what its evidence gives"]


def test_evidence_that_changed_after_the_release_is_found(run: Path) -> None:
    folder = released(run, rules={"require": {"harm_rate": 0.05}, "baseline": str(run / "eval_0")})
    assert list(problems(folder, read_manifest(folder))) == []
    manifest = read_manifest(run / "eval_3")
    write_manifest(run / "eval_3", manifest.model_copy(update={"command": "other.yaml"}))
    lines = list(problems(folder, read_manifest(folder)))
    assert "release.json: evidence is not what its evidence gives" in lines
    late = manifest.timing.model_copy(update={"started": "2026-11-30T00:00:00Z"})
    write_manifest(run / "eval_3", manifest.model_copy(update={"timing": late}))
    (line,) = problems(folder, read_manifest(folder))
    assert "eval_3 is not what card was made from" in line


def test_there_must_be_one_card(run: Path) -> None:
    assert find_card(run) == run / "card" == find_card(run / "card")
    with pytest.raises(CharterError, match="has no card, and a release rests on one"):
        find_card(run / "eval_3")


def test_the_command_refuses_in_lines_and_then_releases(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    today = datetime.datetime.now(datetime.UTC)
    rules, sign = tmp_path / "release.yaml", tmp_path / "signed.yaml"
    rules.write_text("days: 3650\nmax: {harm_rate: 0.25}\nsign_offs: {release: {}}\n")
    sign.write_text(
        f"sign_offs:\n- {{subject: release, name: Ann, party: Lab, date: {today.date()}, decision: approved, "
        f"of: {digest_checkpoint(run / 'rl')[:12]}}}\n"
    )
    assert execute(["release", str(run), "--rules", str(rules)]) == 1
    out, err = capsys.readouterr()
    digest = digest_checkpoint(run / "rl")[:12]
    seal = seal_of(read_manifest(run / "card"))[:12]
    assert out.splitlines()[0] == f"checkpoint rl, digest {digest}; seal of the card {seal}"
    assert f"FAIL  release: missing: nobody approved; give a sign-off with of: {digest}" in out
    assert err == f"charter: error: {run} may not be released: release\n" and releases_in(run) == []
    assert execute(["gate", str(run), "--rules", str(rules)]) == 0
    assert "judges numbers alone; the other rules are those of charter release" in capsys.readouterr().out
    assert execute(["release", str(run), "--rules", str(rules), "--sign-offs", str(sign), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"] and [Path(facts["release"])] == releases_in(run)
    assert execute(["card", "verify", str(run)]) == 0
    # a changed reply behind a number: the card no longer holds, so nothing is released
    capsys.readouterr()
    edit(run, "eval_3", "samples/harmlessness.jsonl", lambda text: text.replace('"refusal": true', '"refusal": false'))
    assert execute(["release", str(run), "--rules", str(rules), "--sign-offs", str(sign)]) == 1
    assert "FAIL  verified: " in capsys.readouterr().out and len(releases_in(run)) == 1


def test_older_spellings_of_a_sign_off_are_read_as_one_record(tmp_path: Path) -> None:
    facts = {"role": "lead", "date": "2026-11-20"}
    older = {"topic": "cyber", "signer": "Ada", "conclusion": "both", "basis": ["a" * 12], "dissent": "no"}
    newer = {"subject": "cyber", "name": "Ada", "decision": "both", "evidence": ["a" * 12], "words": "no"}
    assert SignOff.model_validate(older | facts) == SignOff.model_validate(newer | facts)
    with pytest.raises(CharterError, match="unknown key topic"):
        validate(SignOff, older | newer | facts, "both")
    file = tmp_path / "signed.yaml"
    older = {"subject": "board", "name": "Ann", "party": "Lab", "of": "b" * 12, "evidence": "a" * 12}
    file.write_text(json.dumps({"sign_offs": [older | facts | {"decision": "approved"}]}))
    assert read_sign_offs(file)[0].evidence == ("a" * 12,)


def test_a_sign_off_that_names_no_checkpoint_or_party_approves_nothing(finished: Path) -> None:
    rules = {"sign_offs": {"oversight board": {}}}
    for lacking in ({"of": None}, {"party": ""}):
        assert "names no" in why(ask(finished, signed(finished, **lacking), rules=rules)[1], "oversight board")
