"""`charter conduct` beside a service: what it shows, what it decides, and its errors."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from charter.ground.moderation.actions import Verdict
from charter.ground.moderation.policy import shipped_policy
from charter_service.accounts.grants import Grant
from charter_service.accounts.keys import Caller, find_caller, make_key
from charter_service.accounts.ladder import Ladder
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import GRANTS
from charter_service.api.conduct import Conduct, RequestFacts
from charter_service.web.database import reading, writing
from charter_service.web.tokens import digest_of

Charter = Callable[..., tuple[int, str, str]]
LADDER = Ladder(warned=2, enhanced=4, throttled=6, suspended=8)
RUDE = "it was [red]rude[/red] \x1b[31m and long, so long that no table has room for all of it"


@pytest.fixture
def engine(tmp_path: Path, charter: Charter) -> Iterator[Engine]:
    accounts = open_accounts(str(tmp_path / "serve.sqlite"))
    yield accounts
    accounts.dispose()


@pytest.fixture
def caller(engine: Engine) -> Caller:
    with writing(engine) as c:
        _, secret = make_key(c, make_organisation(c, "acme"), "first")
        return find_caller(c, secret)


@pytest.fixture
def service(engine: Engine, caller: Caller) -> Iterator[Conduct]:
    """A service in which acme had three requests blocked and reported a reply."""
    conduct = Conduct(engine, LADDER, keep_content=True)
    verdict = Verdict("prompt", "weapons", 0.9, 0.5, "block", classifiers={"probe": "1"})
    talk = {"messages": [{"role": "user", "content": "a question"}], "reply": ""}
    for n in range(3):
        conduct.record(RequestFacts(caller, f"req_{n}", "small", digest_of("user 7")), [verdict], talk)
    conduct.record(RequestFacts(caller, "req_fine", "small", digest_of("user 7")), [])
    conduct.give_feedback(caller, "req_fine", "down", RUDE)
    yield conduct
    conduct.close()


def run_json(charter: Charter, *words: object):
    """The JSON that a command prints."""
    code, out, err = charter("conduct", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def run_words(charter: Charter, *words: object) -> str:
    code, out, err = charter("conduct", *words)
    assert code == 0, err
    return out


def refused(charter: Charter, *words: object) -> str:
    code, out, err = charter("conduct", *words)
    assert code == 1 and err.count("\n") == 1 and not out, (code, out, err)
    return err


def test_the_queue_in_a_table_and_in_json(charter: Charter, service: Conduct) -> None:
    out = run_words(charter, "queue")
    assert out.count("weapons") == 3 and "acme" in out
    assert "\x1b" not in out and "[red]rude[/red]" in out and "no table has room" not in out
    page = run_json(charter, "queue", "--kind", "flag", "--limit", "2")
    assert len(page["cases"]) == 2 and page["after"] == page["cases"][1]["id"]
    assert page["cases"][0]["content"]["messages"][0]["content"] == "a question"
    rest = run_json(charter, "queue", "--kind", "flag", "--after", page["after"])
    assert len(rest["cases"]) == 1 and rest["after"] == ""
    assert page["after"] in run_words(charter, "queue", "--kind", "flag", "--limit", "2")
    assert len(run_json(charter, "queue", "--organisation", "acme")["cases"]) == 4
    assert "there is no such case" in run_words(charter, "queue", "--state", "closed")
    assert "no organisation" in refused(charter, "queue", "--organisation", "nobody")
    assert "no case" in refused(charter, "queue", "--after", "case_x")


def test_a_case_is_shown_and_decided_by_the_services_own_rules(charter: Charter, service: Conduct, caller) -> None:
    first, second, _ = (case["id"] for case in run_json(charter, "queue", "--kind", "flag")["cases"])
    out = run_words(charter, "case", first)
    assert "account   warned" in out and "a question" in out and "block" in out
    assert run_json(charter, "case", first)["decisions"][0]["category"] == "weapons"
    assert "dismissed by ann" in run_words(charter, "case", first, "--dismiss", "--by", "ann", "--note", "a play")
    assert run_json(charter, "standing", "acme")["level"] == "warned"
    run_words(charter, "case", second, "--dismiss", "--by", "ann")
    assert run_json(charter, "standing", "acme")["level"] == "good"
    service.refresh()
    assert service.standing(caller.organisation).level == "good"
    assert "was dismissed by ann already" in refused(charter, "case", first, "--uphold", "--by", "bob")
    assert "needs a person's name" in refused(charter, "case", second, "--uphold")
    assert "one of --uphold and --dismiss" in refused(charter, "case", first, "--uphold", "--dismiss")
    assert "go with a verdict" in refused(charter, "case", first, "--by", "ann")
    assert "no case case_x" in refused(charter, "case", "case_x")
    assert "no case case_x" in refused(charter, "case", "case_x", "--uphold", "--by", "ann")


def test_standings_decisions_and_appeals(charter: Charter, service: Conduct, caller) -> None:
    assert "acme" in run_words(charter, "standing")
    out = run_words(charter, "standing", "acme")
    assert "acme is warned: violations weigh 3; one level is lifted on" in out and "rule" in out
    run_words(charter, "decide", caller.organisation, "suspended", "--by", "ann", "--reason", "they sell it")
    service.refresh()
    assert service.standing(caller.organisation).blocked
    id = run_words(charter, "appeal", "acme", "it was a test").strip()
    assert "already waits for a decision" in refused(charter, "appeal", "acme", "hello?")
    run_words(charter, "case", id, "--uphold", "--by", "bob", "--note", "it was")
    assert [c["level"] for c in run_json(charter, "standing", "acme")["changes"]] == ["warned", "suspended", "good"]
    assert run_json(charter, "standing") == [] and "all accounts are in good" in run_words(charter, "standing")
    assert "no organisation" in refused(charter, "standing", "nobody")
    code, _, err = charter("conduct", "decide", "acme", "banned", "--by", "ann", "--reason", "x")
    assert code == 2 and "banned" in err


def test_a_request_is_traced_to_its_verdicts(charter: Charter, service: Conduct) -> None:
    service.log.flush()
    rows = run_json(charter, "decisions", "req_0")
    assert [(d["action"], d["score"], d["classifiers"]) for d in rows["decisions"]] == [("block", 0.9, '{"probe":"1"}')]
    out = run_words(charter, "decisions", "req_fine")
    assert "not checked  " in out and "allow" not in out, "no classifier was asked"
    assert "thumb down" in out and "\x1b" not in out
    assert "there is no decision about req_x" in refused(charter, "decisions", "req_x")


def test_an_audit(charter: Charter, service: Conduct) -> None:
    first = run_json(charter, "queue", "--kind", "flag")["cases"][0]["id"]
    run_words(charter, "case", first, "--uphold", "--by", "ann")
    (row,) = run_json(charter, "audit")
    assert (row["category"], row["upheld"], row["waiting"], row["precision"]) == ("weapons", 1, 2, 1.0)
    assert re.search(r"weapons +1 +0 +2 +1\.00 +0\.21 to 1\.00 +0", run_words(charter, "audit"))


def test_the_log_is_verified(charter: Charter, engine: Engine, service: Conduct) -> None:
    service.log.flush()
    tip = run_json(charter, "verify")["tip"]
    assert tip.startswith("4:") and tip in run_words(charter, "verify", "--tip", tip)
    assert "is not a tip" in refused(charter, "verify", "--tip", "4")
    assert "no longer holds" in refused(charter, "verify", "--tip", "9" + tip[1:])
    with writing(engine) as c:
        for name in ("decisions_stay_update", "decisions_stay_delete"):
            c.exec_driver_sql(f"DROP TRIGGER {name}")
        c.exec_driver_sql("UPDATE decisions SET action = 'allow' WHERE number = 2")
    assert "broken at row 2" in refused(charter, "verify")


def emptied(engine: Engine) -> None:
    """Edits the database directly, without its triggers."""
    with writing(engine) as c:
        c.exec_driver_sql(
            "INSERT INTO anchors (number, chain, at) SELECT number, chain, at FROM decisions "
            "ORDER BY number DESC LIMIT 1"
        )
        c.exec_driver_sql("DROP TRIGGER IF EXISTS decisions_stay_delete")
        c.exec_driver_sql("DELETE FROM decisions")


def test_a_log_that_was_emptied_is_found_out(charter: Charter, engine: Engine, service: Conduct) -> None:
    service.log.flush()
    tip = run_json(charter, "verify")["tip"]
    number, noted, chain = tip.split(":")
    emptied(engine)
    assert f"the tip {tip}" in refused(charter, "verify", "--tip", tip)
    assert "removed from the log" in refused(charter, "verify"), "no row here can be that old"
    old = f"{int(number) - 1}:{float(noted) - 200 * 86_400}:{chain}"
    with writing(engine) as c:
        c.exec_driver_sql("UPDATE organisations SET created = 1.0")
    assert "the decision of case_" in refused(charter, "verify"), "a case of today has none"
    with writing(engine) as c:
        c.exec_driver_sql("DELETE FROM cases")
    assert "can't check whether" in refused(charter, "verify", "--tip", old)
    assert "can't check whether" in refused(charter, "verify", "--tip", f"{int(number) - 1}:{chain}")
    assert run_words(charter, "verify", "--tip", f"{number}:{chain}"), "the anchor itself"


def test_a_grant_that_was_put_in_behind_an_emptied_log_is_found_out(
    charter: Charter, engine: Engine, service: Conduct
) -> None:
    service.log.flush()
    emptied(engine)
    with writing(engine) as c:
        owner = c.exec_driver_sql("SELECT id FROM organisations LIMIT 1").scalar_one()
        forged = Grant("exempt_x", "exemption", owner, "", "", "", "", time.time(), 9e9, "Ms Ear", "x")
        c.execute(GRANTS.insert().values(**forged.row()))
        c.exec_driver_sql("UPDATE organisations SET created = 1.0")
        c.exec_driver_sql("DELETE FROM cases")
    assert "exempt_x differs from the log" in refused(charter, "verify")


def test_exports_and_what_is_forgotten(charter: Charter, service: Conduct, tmp_path: Path) -> None:
    assert "left out: 4 cases that wait" in run_words(charter, "export", "--out", tmp_path / "frozen")
    assert (tmp_path / "frozen/feedback.jsonl").is_file()
    assert "equal" in run_words(charter, "export", "--out", "frozen")
    run_words(charter, "export", "--out", "runs/new/conduct")
    assert (tmp_path / "runs/new/conduct/feedback.jsonl").is_file()
    run_words(charter, "export", "--organisation", "acme", "--out", "handed/out/acme.jsonl")
    assert (tmp_path / "handed/out/acme.jsonl").is_file()
    assert "File exists: frozen/feedback.jsonl" in refused(charter, "export", "--out", "frozen/feedback.jsonl/x")
    run_words(charter, "export", "--organisation", "acme", "--out", "acme.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "acme.jsonl").read_text().splitlines()]
    assert {"organisations", "keys", "decisions", "cases", "feedback"} <= {row["table"] for row in rows}
    assert stat.S_IMODE((tmp_path / "acme.jsonl").stat().st_mode) == 0o600
    assert "exists already" in refused(charter, "export", "--organisation", "acme", "--out", "acme.jsonl")
    assert "leave out --content" in refused(charter, "export", "--organisation", "acme", "--content", "--out", "x")
    assert "confirm with --yes" in refused(charter, "forget", "acme")
    assert "deleted: 1 piece of feedback, the texts of 4 cases" in run_words(
        charter, "forget", "acme", "--user", "user 7", "--yes"
    )
    assert all(case["content"] is None for case in run_json(charter, "queue")["cases"])
    assert "deleted: 0 pieces" in run_words(charter, "forget", "acme", "--yes")
    assert len(run_json(charter, "decisions", "req_0")["decisions"]) == 1


@pytest.fixture
def policed(engine: Engine, caller: Caller) -> Iterator[Conduct]:
    """A service with the shipped policy, in which acme's user 7 had requests of three severities blocked."""
    conduct = Conduct(engine, Ladder(), shipped_policy())
    by_severity = {one.severity: one.id for one in shipped_policy().categories}
    for n, severity in enumerate(("high", "low", "severe")):
        if severity in by_severity:
            facts = RequestFacts(caller, f"req_{n}", "small", digest_of("user 7"), None, f"{n:064}")
            conduct.record(facts, [Verdict("prompt", by_severity[severity], 0.9, 0.5, "block")])
    yield conduct
    conduct.close()


def test_the_queue_by_severity(charter: Charter, policed: Conduct) -> None:
    cases = run_json(charter, "queue")["cases"]
    assert [case["severity"] for case in cases] == ["severe", "high", "low"]
    assert [case["severity"] for case in run_json(charter, "queue", "--severity", "high")["cases"]] == ["high"]
    out = run_words(charter, "queue")
    assert out.index("severe ") < out.index("high ") < out.index("low ")
    code, _, err = charter("conduct", "queue", "--severity", "odd")
    assert code == 2 and "odd" in err


def test_end_users(charter: Charter, policed: Conduct, caller: Caller) -> None:
    standing = run_json(charter, "standing", "acme")
    (of_user,) = standing["users"]
    assert (standing["level"], of_user["level"]) == ("good", "enhanced")
    assert of_user["user"] in run_words(charter, "standing", "acme")
    out = run_words(charter, "standing", "acme", "--user", "user 7")
    assert "the user user 7 of acme is enhanced: violations weigh 6.5" in out
    assert run_json(charter, "standing", "acme", "--user", "user 8")["level"] == "good"
    assert "the end user's organisation" in refused(charter, "standing", "--user", "user 7")
    run_words(charter, "decide", "acme", "suspended", "--user", "user 7", "--by", "ann", "--reason", "they sell it")
    policed.refresh()
    assert policed.standing(caller.organisation, digest_of("user 7")).blocked
    assert not policed.standing(caller.organisation).blocked
    id = run_words(charter, "appeal", "acme", "it was a test", "--user", "user 7").strip()
    run_words(charter, "case", id, "--uphold", "--by", "bob")
    policed.refresh()
    assert policed.standing(caller.organisation, digest_of("user 7")).level == "good"


def test_what_people_let_pass(charter: Charter, policed: Conduct, caller: Caller, engine: Engine) -> None:
    people = ("--by", "ann", "--reason", "a play")
    assert "no release or exemption is in force" in run_words(charter, "grants")
    assert "passes once until" in run_words(charter, "release", "req_0", *people, "--hours", "5")
    soon = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%d")
    far = (datetime.now(UTC) + timedelta(days=200)).strftime("%Y-%m-%d")
    low = next(one.id for one in shipped_policy().categories if one.severity == "low")
    severe = next(one.id for one in shipped_policy().categories if one.severity == "severe")
    out = run_words(charter, "exempt", "acme", *people, "--until", soon, "--category", low)
    assert f"acme is exempt from {low} until {soon} 00:00" in out
    policed.refresh()
    assert policed.exempt_from(caller.organisation) == {low}
    for words, why in (
        (("exempt", "acme", *people, "--until", far, "--category", severe), "92 days"),
        (("exempt", "acme", *people, "--until", far, "--category", low, "--category", severe), "92 days"),
        (("exempt", "acme", *people, "--until", soon), "give --category ID, or --all"),
        (("exempt", "acme", *people, "--until", soon, "--all", "--category", low), "give --category ID"),
        (("exempt", "acme", *people, "--until", "2001-01-01", "--all"), "must end in the future"),
        (("release", "req_9", *people), "there is no case of a blocked request req_9"),
        (("release", "req_0", *people, "--hours", "9999"), "at most 720 hours"),
        (("revoke", "exempt_none", *people), "there is no release or exemption"),
    ):
        assert why in refused(charter, *words), words
    rows = run_json(charter, "grants", "acme")
    assert {(row["kind"], row["state"], row["by"], row["reason"]) for row in rows} == {
        ("release", "in force", "ann", "a play"),
        ("exemption", "in force", "ann", "a play"),
    }
    out = run_words(charter, "grants")
    assert low in out and "req_0" in out
    for row in rows:
        assert f"{row['id']} was revoked by bob" in run_words(
            charter, "revoke", row["id"], "--by", "bob", "--reason", "enough"
        )
    assert run_json(charter, "grants") == []
    assert {row["state"] for row in run_json(charter, "grants", "--all")} == {"revoked"}
    assert [d["action"] for d in run_json(charter, "decisions", "req_0")["decisions"]] == ["block", "release", "revoke"]
    assert "not checked" not in run_words(charter, "decisions", "req_0").split("release")[1]
    assert "the log is intact" in run_words(charter, "verify")
    with writing(engine) as c:
        c.exec_driver_sql("UPDATE grants SET reason = 'another' WHERE kind = 'release'")
    assert "differs from the log of decisions" in refused(charter, "verify")


def test_what_is_old_expires(charter: Charter, service: Conduct) -> None:
    (report,) = run_json(charter, "queue", "--kind", "report")["cases"]
    run_words(charter, "case", report["id"], "--dismiss", "--by", "ann")
    assert "emptied: 0 pieces of feedback, the texts of 0 cases" in run_words(charter, "expire", "--days", "1")
    assert "emptied: 1 piece of feedback, the texts of 1 case" in run_words(charter, "expire", "--days", "0")


@pytest.mark.parametrize(
    "words",
    [
        ("queue",),
        ("case", "case_1"),
        ("case", "case_1", "--uphold", "--by", "ann"),
        ("decide", "acme", "good", "--by", "ann", "--reason", "x"),
        ("standing",),
        ("appeal", "acme", "please"),
        ("release", "req_1", "--by", "ann", "--reason", "x"),
        ("exempt", "acme", "--by", "ann", "--reason", "x", "--until", "2030-01-01", "--all"),
        ("revoke", "exempt_1", "--by", "ann", "--reason", "x"),
        ("grants",),
        ("decisions", "req_1"),
        ("audit",),
        ("verify",),
        ("export", "--out", "x"),
        ("forget", "acme", "--yes"),
        ("expire", "--days", "1"),
    ],
)
def test_without_a_service_each_says_so(charter: Charter, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert "there is no database serve.sqlite" in refused(charter, *words)
    assert not list(tmp_path.iterdir())


def test_an_untouched_service(charter: Charter, engine: Engine) -> None:
    assert "no case waits" in run_words(charter, "queue")
    assert "there are no flags" in run_words(charter, "audit")
    assert run_json(charter, "verify")["rows_to"] == 0
    assert "no feedback and no closed case" in refused(charter, "export", "--out", "x")
    with reading(engine):
        pass
