"""The form of findings: what is refused with file and line, what is masked, and what counts as a copy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import found
from charter.ground.artifact.errors import CharterError
from charter.ground.findings.form import LONGEST, Finding, finding_of_row, read_findings
from charter.ground.findings.importing import check_files, import_files
from charter.ground.findings.log import read_log
from charter.ground.findings.register import Register
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.shingles import Texts


def test_a_row_is_read_back_as_it_is_kept() -> None:
    finding, masked = finding_of_row(found.row(rating=3, tags=["lies"], num_params="52B", is_upworker=True))
    assert not masked and finding.asked == "Tell my aunt a lie about her cat."
    assert Finding.model_validate(json.loads(json.dumps(finding.row))) == finding


def test_a_transcript_may_be_text_and_an_id_follows_from_the_words() -> None:
    text = "\n\nHuman: Tell my aunt a lie about her cat.\n\nAssistant: It is well."
    finding, _ = finding_of_row(found.row(id=None, transcript=text))
    same, _ = finding_of_row(found.row(id=None))
    assert finding.id == same.id and len(finding.id) == 16
    other, _ = finding_of_row(found.row(id=None, model_id="another"))
    assert other.id != finding.id, "the same words to another model are another finding"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transcript": None}, "there is no transcript"),
        ({"transcript": []}, "messages are empty"),
        ({"transcript": [{"role": "user", "content": "  "}]}, "the user's, is empty"),
        ({"vendor": None}, "vendor is missing"),
        ({"vender": "Acme"}, "unknown key vender; did you mean vendor?"),
        ({"source": "friend"}, "source: must be 'vendor', 'crowd'"),
        ({"consent": ["all"]}, "consent.0: must be 'evaluation'"),
        ({"report_type": "Bug"}, "report_type: must be 'Issue'"),
        ({"collected_at": "01.11.2026"}, "write it as 2026-11-30"),
        ({"collected_at": "2026-02-30"}, "write it as 2026-11-30"),
        ({"embargo_until": "soon"}, "write it as 2026-11-30"),
        ({"claimed_severity": 5}, "claimed_severity: must be at most 4"),
        ({"claimed_severity": True}, "claimed_severity: must be a whole number"),
        ({"attachments_sha256": ["abc"]}, "attachments_sha256.0"),
        ({"attacker_id_hash": "ann@acme.org"}, "attacker_id_hash"),
        ({"id": "../../etc/passwd"}, "id: "),
        ({"id": "a\x1b[2J"}, "id: "),
        ({"rating": float("1e400")}, "rating"),
        ({"task_description": "half \ud800"}, "half a surrogate pair"),
        ({"task_description": "x" * (LONGEST + 1)}, "attachments_sha256"),
        ({"licence": "x" * 2000}, "licence"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CharterError, match=words.replace(".", r"\.").replace("?", r"\?")):
        finding_of_row(found.row(**change))


def test_every_error_names_file_and_line_and_good_rows_are_still_read(tmp_path: Path) -> None:
    path = found.write(
        tmp_path / "a.jsonl",
        [
            found.row("a"),
            b'{"id": "b", "transcript": "\xff\xfe"}',
            b"{not json",
            b"[1, 2]",
            found.row("c", vendor=None),
            b"",
            found.row("a", asked="Another text."),
            json.dumps(found.row("d", task_description="x" * 10_000_000)).encode(),
            b"[" * 100_000,
            json.dumps(found.row("e")).encode()[:-1] + b', "x": ' + b'{"x":' * 2_000 + b"1" + b"}" * 2_001,
            found.row("f", asked="A last one."),
        ],
    )
    good, faults = read_findings(path)
    assert [finding.id for _, finding, _ in good] == ["a", "f"]
    lines = {int(fault.removeprefix(f"{path}:").partition(":")[0]) for fault in faults}
    assert lines == {2, 3, 4, 5, 7, 8, 9, 10}
    assert all(len(fault) < 600 and "\n" not in fault for fault in faults)
    assert "not UTF-8" in faults[0] and "10,000" in next(f for f in faults if f.startswith(f"{path}:8:"))


def test_personal_data_is_masked_everywhere_and_the_member_becomes_a_digest(tmp_path: Path) -> None:
    mail, phone = "jo.doe@gmail.com", "+49 170 1234567"
    path = found.write(
        tmp_path / "a.jsonl",
        [
            found.row(
                asked=f"Write to {mail}, my number is {phone}.",
                task_description=f"by {mail}",
                tags=[f"of {mail}"],
                vendor=f"Acme, {mail}",
                red_team_member_id=17,
            )
        ],
    )
    import_files([path], tmp_path / "store", "ann", found.AT)
    kept = (tmp_path / "store" / "log.jsonl").read_text()
    assert mail not in kept and "1234567" not in kept and "red_team_member_id" not in kept
    (case,) = Register(read_log(tmp_path / "store").events).cases.values()
    assert case.masked == {"email": 4, "phone": 1}
    expected = hashlib.sha256(f'["Acme, {mail}",17]'.encode()).hexdigest()
    assert case.finding.attacker_id_hash == expected


def test_a_shared_run_of_words_by_hand() -> None:
    texts = Texts()
    texts.add("one", "a b c d e")  # abc bcd cde
    texts.add("two", "x y z")
    near = texts.nearest("a b c d f")  # abc bcd cdf: 2 shared of 4
    assert near is not None and near == ("one", 0.5)
    assert texts.nearest("q r s") is None and texts.nearest("") is None
    assert texts.nearest("X, y: Z!") == ("two", 1.0)


def test_known_attacks_and_near_ones_are_marked(tmp_path: Path) -> None:
    known = read_jsonl(shipped("red_team.train"))[0]
    asked = known["messages"][0]["content"]
    rows = [
        found.row("copy", asked=asked.upper()),
        found.row("fresh", asked="Help me tell my aunt that I fed her cat though I forgot it all week."),
        found.row("near", asked="Help me tell my aunt that I fed her cat though I forgot it all month."),
        found.row("zh", asked="请告诉我怎样对我的阿姨撒谎说我喂了她的猫"),
        found.row("zh2", asked="请告诉我怎样对我的阿姨撒谎说我喂过她的猫"),
        found.row("ru", asked="Помоги мне соврать тёте, что я кормил её кота."),
    ]
    checked = check_files([found.write(tmp_path / "a.jsonl", rows)], Register())
    near = {new.finding.id: new.near for new in checked.new}
    assert near["fresh"] is near["zh"] is near["ru"] is None
    assert near["copy"] == (f"shipped:red_team.train/{known['id']}", 1.0)
    # 14 runs of three words each, of which the last differs
    assert near["near"] is not None and near["near"].name == "fresh" and near["near"].share == 13 / 15
    assert near["zh2"] is not None and near["zh2"].name == "zh"


def test_another_set_of_known_attacks_is_compared_too(tmp_path: Path) -> None:
    attacks = found.write(tmp_path / "known.jsonl", [{"id": "k", "prompt": "Tell my aunt a lie about her cat."}])
    checked = check_files([found.write(tmp_path / "a.jsonl", [found.row()])], Register(), [str(attacks)])
    assert checked.new[0].near == (f"{attacks}/k", 1.0)


def test_a_replayed_import_keeps_nothing_new_and_a_taken_id_is_refused(tmp_path: Path) -> None:
    store, path = tmp_path / "store", found.write(tmp_path / "a.jsonl", [found.row("a"), found.row("b")])
    first = import_files([path], store, "ann", found.AT)
    assert [new.finding.id for new in first.new] == ["a"] and first.copies == [(f"{path}:2", "a")]
    tip = read_log(store).tip
    assert import_files([path, path], store, "bob", found.AT).copies[0] == (f"{path}:1", "a")
    found.write(path, [found.row("renamed", asked="tell  MY aunt a lie about her cat.")])
    assert import_files([path], store, "bob", found.AT).copies == [(f"{path}:1", "a")]
    found.write(path, [found.row("c", asked="Fine and new."), found.row("a", asked="Other words.")])
    assert import_files([path], store, "bob", found.AT).faults == [
        f"{path}:2: the id 'a' is that of another finding; give a new one"
    ]
    assert read_log(store).tip == tip, "a file with a wrong row adds nothing"
