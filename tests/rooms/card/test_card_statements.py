"""What people say of a model: no figure of their own, numbers by key, nothing required left empty, and what is absent is
said from what is there; and the schema of card.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import SETTINGS, inputs

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.limits import LIMITS
from charter.ground.reports.number import Number, Source
from charter.ground.reports.signoff import OPEN
from charter.ground.settings.problems import validate
from charter.rooms.card import render
from charter.rooms.card.gather import gather
from charter.rooms.card.layout import SCHEMA, schema_problems
from charter.rooms.card.ledger import Kept, Ledger
from charter.rooms.card.settings import Settings
from charter.rooms.card.verify import card_problems

AUDIT = {
    "subject": "National security",
    "by": "An office",
    "date": "2026-10-02",
    "conclusion": "They found no uplift.",
    "evidence": "audit.pdf",
}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"limitations": ["right on 97.3 % of questions"]},
            r"limitations\.0: states '97\.3', '%', which no row proves",
        ),
        ({"intended_use": ["About half of all chats."]}, "states 'half', which no row proves; name the number"),
        ({"title": "A card of 12 models"}, "title: states '12'"),
        ({"model_name": "97 % right"}, "model_name: states '%'; a name holds no result"),
        ({"intended_use": []}, "intended_use: is empty; write what the model is for, a sentence each"),
        ({"unintended_use": []}, "unintended_use: is empty; write what it is not for"),
        ({"limitations": []}, "limitations: is empty; write its known weaknesses"),
        ({"limitations": ["  "]}, r"limitations\.0: is empty; write a sentence"),
        (
            {"oversight": {"audits": [AUDIT | {"date": "soon"}]}},
            r"oversight\.audits\.0\.date: must be a date such as 2026-11-30",
        ),
        (
            {"oversight": {"audits": [AUDIT | {"conclusion": "Safe in 99 % of cases."}]}},
            r"oversight\.audits\.0\.conclusion: states '99', '%'",
        ),
        (
            {"oversight": {"signoffs": [{"name": "A", "role": "b", "date": "2026-11-01", "decision": "maybe"}]}},
            "decision: must be",
        ),
    ],
)
def test_a_setting_that_states_a_figure_or_nothing_is_one_line(given: dict[str, Any], line: str) -> None:
    with pytest.raises(CharterError, match=line) as refused:
        validate(Settings, given, "card")
    assert "\n" not in str(refused.value)


def test_a_sentence_names_a_number_and_the_ledger_prints_it(run: Path) -> None:
    told = ("Refuses {unsafe_refusal_rate} of unsafe prompts, before it {eval_0/unsafe_refusal_rate}.",)
    settings = SETTINGS.model_copy(update={"limitations": told})
    gathered = gather(inputs(run))
    files = render.make(settings, gathered)
    last, first = (gathered.stages[i].numbers["unsafe_refusal_rate"] for i in (-1, 0))
    ledger = Ledger()
    words = f"- Refuses {ledger.value(last)} of unsafe prompts, before it {ledger.value(first)}."
    assert words in files["card.md"]
    record = json.loads(files["card.json"])
    (entry,) = record["limitations"]
    assert entry["numbers"] == ["eval_3/unsafe_refusal_rate", "eval_0/unsafe_refusal_rate"]
    assert set(entry["numbers"]) <= {n["key"] for n in record["numbers"]}
    wrong = settings.model_copy(update={"limitations": ("Refuses {unsafe_refusal_rat}.",)})
    with pytest.raises(CharterError, match=r"limitations names the number \{unsafe_refusal_rat\}, which this run "
                                           r"doesn't have; did you mean \{unsafe_refusal_rate\}\?"):  # fmt: skip
        render.make(wrong, gathered)


def test_the_ledger_refuses_a_share_that_no_number_gave() -> None:
    ledger = Ledger(names=("top 90 %",))
    for text in (
        "97 % of replies are safe",
        "97\u00a0% safe",
        "9.5 percent",
        "\uff19\uff17\uff05 safe",
        "\u0669\u0667\u066a",
    ):
        with pytest.raises(CharterError, match="which is no number of the run; name the number instead"):
            ledger.printed(text)
    source = (Source("eval", "id", "samples/a.jsonl"),)
    ledger.value(Number("a/b", "b", 0.97, unit="share", sources=source))
    for text in (
        "97.0 % of replies are safe",
        "a 95 % interval",
        "stage top 90 %",
        "135M weights",
        Kept("50 % of pairs"),
    ):
        assert ledger.printed(text) == text
    with pytest.raises(CharterError, match=r"97\.1 %"):
        ledger.printed("97.1 % of replies are safe")


def test_what_was_not_made_is_said_from_what_was(run: Path) -> None:
    gathered = gather(inputs(run))
    bare = render.make(SETTINGS, gathered)
    assert "No audit of national security or of autonomous replication was made." in bare["card.md"]
    assert "No topic was examined by outside experts. Nobody signed this version off." in bare["card.md"]
    assert json.loads(bare["card.json"])["not_made"] == [
        "national security",
        "autonomous replication",
        "topics",
        "signoffs",
    ]
    settings = Settings.model_validate(
        {
            "oversight": {
                "audits": [AUDIT],
                "topics": [AUDIT | {"subject": "Child safety", "evidence": ""}],
                "signoffs": [
                    {"name": "A. Person", "role": "head of safety", "date": "2026-11-02", "decision": "approved"}
                ],
            }
        }
    )
    full = render.make(settings, gathered)
    words = full["card.md"]
    assert "No audit of autonomous replication was made.\n" in words
    assert "| National security | An office | 2026-10-02 | They found no uplift. | `audit.pdf` |" in words
    assert "| Child safety | An office | 2026-10-02 | They found no uplift. | none is named |" in words
    assert "| A. Person | head of safety | 2026-11-02 | approved |" in words
    record = json.loads(full["card.json"])
    assert record["not_made"] == ["autonomous replication"] and record["audits"][0]["by"] == "An office"
    assert schema_problems(record) == []
    for subject in ("Autonomy of agents", "autonomous replication"):
        audit = settings.oversight.audits[0]
        two = {"audits": (audit, audit.model_copy(update={"subject": subject}))}
        other = settings.model_copy(update={"oversight": settings.oversight.model_copy(update=two)})
        assert json.loads(render.make(other, gathered)["card.json"])["not_made"] == []


def test_topics_that_no_person_signed_are_named(run: Path) -> None:
    number = [{"metric": "m", "value": 0.5, "n": 20}]
    numbers = {"capability": number, "willingness": number}
    rows = [{"topic": topic, **OPEN, **numbers} for topic in ("biological", "illicit_trade")]
    rows.append({"topic": "chemical", **OPEN, "capability": [], "willingness": number})
    card_world.write_rows(run / "eval_3" / "signoff.jsonl", rows)
    report = json.loads((run / "eval_3" / "manifest.json").read_text())["id"]
    gathered = gather(inputs(run))
    bare = render.make(SETTINGS, gathered)
    assert "No person signed the topics of national security: biological, illicit trade, chemical." in bare["card.md"]
    assert "security: illicit_trade" in json.loads(bare["card.json"])["not_made"]
    signed = {"topic": "biological", "conclusion": "low by capability", "basis": [report[:12]], "signer": "Ada"}
    signed |= {"role": "security lead", "date": "2026-11-20"}

    def card(**changes: Any) -> dict[str, str]:
        settings = Settings.model_validate({"oversight": {"security": [signed | changes]}})
        return render.make(settings, gathered)

    words = card()["card.md"]
    assert "No person signed the topics of national security: illicit trade, chemical." in words
    assert f"| biological | Ada (security lead) | 2026-11-20 | low by capability | `{report[:12]}` |" in words
    with pytest.raises(CharterError, match="names other reports than"):
        card(basis=["0" * 12])
    with pytest.raises(CharterError, match="chemical can't be signed without numbers: its capability is empty"):
        card(topic="chemical")
    with pytest.raises(CharterError, match="signs 'cyber', which no report"):
        card(topic="cyber")


def test_limits_of_any_model_are_the_one_list(finished: Path) -> None:
    record = json.loads((finished / "card/card.json").read_text("utf-8"))
    assert record["limits"] == [limit.id for limit in LIMITS]
    page, words = ((finished / "card" / name).read_text("utf-8") for name in ("card.html", "card.md"))
    for limit in LIMITS:
        assert f"{limit.title}. {limit.words}" in words and limit.title in page


def remove(record: dict[str, Any], path: str) -> dict[str, Any]:
    """A record without an entry: a key, or `list:key` for the sections of that key."""
    changed = json.loads(json.dumps(record))
    if path.startswith("sections:"):
        changed["sections"] = [s for s in changed["sections"] if s["key"] != path.partition(":")[2]]
    else:
        del changed[path]
    return changed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: remove(r, "intended_use"), "intended_use: Field required"),
        (lambda r: r | {"limitations": []}, "limitations: List should have at least 1 item"),
        (lambda r: r | {"unintended_use": [{"text": " ", "numbers": []}]}, "unintended_use.0.text"),
        (lambda r: remove(r, "sections:tradeoffs"), "sections: tradeoffs is missing"),
        (lambda r: r | {"sections": [s | {"words": 0} for s in r["sections"]]}, "sections.0.words"),
        (lambda r: r | {"numbers": [n | {"sources": []} for n in r["numbers"]]}, "numbers.0.sources"),
        (lambda r: r | {"more": 1}, "more: Extra inputs"),
    ],
)
def test_a_card_that_breaks_the_schema_is_named_by_it_and_by_any_validator(
    finished: Path, change: Any, line: str
) -> None:
    folder = finished / "card"
    record = json.loads((folder / "card.json").read_text("utf-8"))
    assert schema_problems(record) == []
    problems = schema_problems(change(record))
    assert problems and problems[0].startswith(line)
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((folder / SCHEMA).read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(record)) == [] and list(validator.iter_errors(change(record)))


def test_verification_names_what_breaks_the_schema(run: Path) -> None:
    def emptied(text: str) -> str:
        return json.dumps(json.loads(text) | {"intended_use": []})

    card_world.edit(run, "card", "card.json", emptied)
    lines = card_problems(run / "card")
    assert lines[0] == (
        "card.json breaks its schema: intended_use: List should have at least 1 item after validation, not 0"
    )
