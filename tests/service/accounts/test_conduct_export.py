"""What leaves the database: frozen rows, an organisation's own data, and what is forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conduct_desk import SHORT, counted, entry, joined
from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.measure.intervals import wilson
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.judgments import Judgment, read_judgments
from charter_service.accounts.cases import NewCase, find_case, open_case, queue
from charter_service.accounts.decisions import append, user_mark, verify_chain
from charter_service.accounts.export import (
    Forgotten,
    expire,
    forget_organisation,
    forget_user,
    freeze_conduct,
    organisation_data,
)
from charter_service.accounts.feedback import Opinion, give_feedback
from charter_service.accounts.keys import Caller
from charter_service.accounts.standings import settle
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES, CASES, DECISIONS, FEEDBACK
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound

NOW, DAY, USER = 1_000_000.0, 86_400.0, "a" * 64
SECRET = "the secret words"


def lived(engine: Engine, caller: Caller) -> dict[str, str]:
    """Some days of a service: a flagged prompt, two flagged replies, a report, thumbs, one flag that waits. Ids of
    cases by request."""
    org, kept = caller.organisation, {}
    talk = {"messages": [{"role": "user", "content": SECRET}], "reply": f"answer to {SECRET}"}
    blocks = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "in"}, {"type": "text", "text": "parts"}]}],
        "reply": "done",
    }
    with writing(engine) as c:
        mark = user_mark(org, USER)
        rows = [
            entry("r_prompt", org, NOW, side="prompt", category="weapons", classifiers='{"probe":"1"}'),
            entry("r_reply", org, NOW, side="reply", category="hate", user=mark, classifiers='{"probe":"1"}'),
            entry("r_blocks", org, NOW, side="reply", category="hate", classifiers='{"probe":"1"}'),
            entry("r_waits", org, NOW, side="reply", category="hate", user=mark, classifiers="{}"),
            entry("r_fine", org, NOW, side="request", action="allow", category="", user=mark, classifiers="{}"),
        ]
        append(c, rows)
        for request, category, content in (
            ("r_prompt", "weapons", {"messages": talk["messages"], "reply": ""}),
            ("r_reply", "hate", talk),
            ("r_blocks", "hate", blocks),
            ("r_waits", "hate", talk),
        ):
            kept[request] = open_case(c, NewCase("flag", org, request, category, content=content), NOW)
        give_feedback(c, caller, "r_fine", Opinion("down", SECRET, "fraud", talk), NOW)
        give_feedback(c, caller, "r_prompt", Opinion("up", "thanks"), NOW + 1)
    with reading(engine) as c:
        kept["r_fine"] = queue(c, "report", organisation=org).cases[0].id
    verdicts = {"r_prompt": "upheld", "r_reply": "dismissed", "r_blocks": "upheld", "r_fine": "upheld"}
    for request, verdict in verdicts.items():
        with writing(engine) as c:
            settle(c, kept[request], verdict, "ann", "as seen", SHORT, NOW + 2)
    return kept


def test_an_export_without_content_holds_no_words(engine: Engine, tmp_path: Path) -> None:
    lived(engine, joined(engine))
    made = freeze_conduct(engine, tmp_path / "out")
    manifest = read_manifest(made.folder)
    assert manifest.kind == "judgments" and manifest.room == "accounts" and not verify_files(made.folder, manifest)
    assert made.counts == {"cases": 4, "flags": 3, "flags_upheld": 2, "thumbs_up": 1, "thumbs_down": 1, "judgments": 0}
    assert made.left_out == {"cases that wait for people": 1, "words and contents": 4}
    precision, (low, high) = manifest.metric("flag_precision"), wilson(2, 3)
    assert precision is not None and (precision.value, precision.low, precision.high) == (2 / 3, low, high)
    for file in made.folder.rglob("*"):
        assert file.is_dir() or SECRET not in file.read_text()
    rows = {row["request"]: row for row in read_jsonl(made.folder / "cases.jsonl")}
    assert rows["r_reply"]["verdict"] == "dismissed" and rows["r_reply"]["classifiers"] == {"probe": "1"}
    assert (rows["r_fine"]["kind"], rows["r_fine"]["category"], rows["r_fine"]["action"]) == (
        "report",
        "fraud",
        "allow",
    )
    assert [r["thumb"] for r in read_jsonl(made.folder / "feedback.jsonl")] == ["down", "up"]
    assert not (made.folder / "judgments.jsonl").exists()
    again = freeze_conduct(engine, tmp_path / "again")
    assert again.id == made.id and not freeze_conduct(engine, tmp_path / "out").new


def test_an_export_with_content_holds_judgments_on_replies(engine: Engine, tmp_path: Path) -> None:
    lived(engine, joined(engine))
    plain = freeze_conduct(engine, tmp_path / "plain")
    made = freeze_conduct(engine, tmp_path / "out", content=True)
    assert made.id != plain.id and made.left_out == {"cases that wait for people": 1}
    # the flagged prompt is no verdict on a reply
    assert sorted(read_judgments(made.folder), key=lambda j: j.id) == [
        Judgment("r_blocks", 0, "done", "harmful", "in\nparts", "as seen"),
        Judgment("r_fine", 0, f"answer to {SECRET}", "harmful", SECRET, "as seen"),
        Judgment("r_reply", 0, f"answer to {SECRET}", "harmless", SECRET, "as seen"),
    ]
    with pytest.raises(CharterError, match="is another export"):
        freeze_conduct(engine, tmp_path / "plain", content=True)


@pytest.mark.parametrize(
    "content", [[], {}, {"reply": 3}, {"reply": ""}, {"too_long": 9}, {"reply": "x", "messages": 7}]
)
def test_contents_of_any_shape_are_exported(engine: Engine, tmp_path: Path, content) -> None:
    caller = joined(engine)
    with writing(engine) as c:
        append(c, [entry("r", caller.organisation, side="reply", category="hate", classifiers="{}")])
        case = open_case(c, NewCase("flag", caller.organisation, "r", "hate", content=content), NOW)
        settle(c, case, "upheld", "ann", "", SHORT, NOW)
    made = freeze_conduct(engine, tmp_path / "out", content=True)
    assert made.counts["cases"] == 1
    assert made.counts["judgments"] == (isinstance(content, dict) and content.get("reply") == "x")


def test_nothing_to_export_is_said(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="no feedback and no closed case"):
        freeze_conduct(engine, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def batch(engine: Engine, caller: Caller, id: str, state: str) -> None:
    with writing(engine) as c:
        owner = {"organisation": caller.organisation, "key": caller.key}
        c.execute(BATCHES.insert().values(id=id, state=state, size=1, created=NOW, expires=NOW, **owner))
        c.execute(
            BATCH_ITEMS.insert().values(batch=id, number=0, custom_id="a", params=json.dumps(SECRET), state="waiting")
        )


def test_an_organisation_gets_all_that_is_its_own_and_nothing_else(engine: Engine) -> None:
    caller, other = joined(engine), joined(engine, "other")
    lived(engine, caller)
    batch(engine, caller, "msgbatch_1", "ended")
    lived(engine, other)
    with reading(engine) as c:
        rows = list(organisation_data(c, caller.organisation))
        with pytest.raises(NotFound):
            list(organisation_data(c, "org_none"))
    held = {name for name, _ in rows}
    assert held == {"organisations", "keys", "decisions", "standings", "cases", "feedback", "batches", "batch_items"}
    text = json.dumps(rows)
    assert SECRET in text and other.organisation not in text and other.key not in text
    assert not any("digest" in row for _, row in rows)
    assert sum(name == "decisions" for name, _ in rows) == 5


def test_who_is_forgotten_leaves_no_words_and_all_decisions(engine: Engine) -> None:
    caller, other = joined(engine), joined(engine, "other")
    cases, others = lived(engine, caller), lived(engine, other)
    with writing(engine) as c:
        assert forget_user(c, caller.organisation, USER) == Forgotten(feedback=1, cases=3)
        assert forget_user(c, caller.organisation, "b" * 64) == Forgotten(0, 0)
        with pytest.raises(CharterError, match="digest of a user's id"):
            forget_user(c, caller.organisation, "")
    with reading(engine) as c:
        for request in ("r_reply", "r_waits", "r_fine"):
            gone = find_case(c, cases[request])
            assert (gone.words, gone.content, gone.note) == ("", "", "")
        assert find_case(c, cases["r_fine"]).verdict == "upheld"
        assert find_case(c, cases["r_prompt"]).content and find_case(c, others["r_fine"]).words == SECRET
        assert verify_chain(c) is None
    assert counted(engine, DECISIONS) == 10 and counted(engine, FEEDBACK) == 3


def test_an_organisation_is_forgotten_with_what_it_wrote(engine: Engine) -> None:
    caller, other = joined(engine), joined(engine, "other")
    lived(engine, caller)
    lived(engine, other)
    batch(engine, caller, "msgbatch_1", "ended")
    batch(engine, caller, "msgbatch_2", "in_progress")
    with writing(engine) as c:
        assert forget_organisation(c, caller.organisation) == Forgotten(feedback=2, cases=5, batches=1)
    with reading(engine) as c:
        rows = [(n, r) for n, r in organisation_data(c, caller.organisation) if not n.startswith("batch")]
        assert SECRET not in json.dumps(rows)
        assert SECRET in json.dumps(list(organisation_data(c, other.organisation)))
    assert counted(engine, BATCH_ITEMS) == 1 and counted(engine, DECISIONS) == 10


def test_what_is_old_expires(engine: Engine) -> None:
    lived(engine, joined(engine))
    with writing(engine) as c:
        assert expire(c, 10, NOW + 9 * DAY) == Forgotten(0, 0)
        assert expire(c, 10, NOW + 11 * DAY) == Forgotten(feedback=2, cases=4)
    assert counted(engine, CASES, CASES.c.content != "") == 1  # it waits
