"""Red teaming by machine in the card: stages side by side, what isn't understood, weak graders, and cards without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import card_world
import pytest
from attacked_world import FAMILIES, attack
from card_world import CARD_PARENTS, SETTINGS, edit, inputs, make_card

from charter.rooms.card.gather import gather
from charter.rooms.card.verify import card_problems

ROLES = tuple(("attacks", step) for step in ("attack_0", "attack_2", "attack_3"))


@pytest.fixture(scope="module")
def attacked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with attacks on the start, on SL-CAI and on RL-CAI, and a card of them."""
    run = tmp_path_factory.mktemp("attacked") / "run"
    shutil.copytree(finished, run)
    attack(run, "attack_0", None, {"": 0.5, "persona": 0.9, "base64": 0.0, "few_shot_json": 0.8}, unread=("base64",))
    attack(run, "attack_2", "sl", {"": 0.1, "persona": 0.5, "few_shot_json": 0.4}, sharp=False)
    attack(run, "attack_3", "rl", {"persona": 0.1}, refuses=0.5)
    make_card(run, SETTINGS, (*CARD_PARENTS, *ROLES))
    return run


def words(run: Path) -> str:
    return (run / "card/card.md").read_text("utf-8")


def section(run: Path) -> str:
    return card_world.section(run / "card", "Red teaming by machine")


def row(run: Path, head: str) -> list[str]:
    return card_world.cells_of(section(run), head)[1:]


def test_stages_stand_side_by_side_under_the_names_of_their_models(attacked: Path) -> None:
    assert "| Measure | start | SL-CAI | RL-CAI |" in section(attacked)
    numbers = card_world.shown(attacked / "card")
    raw, corrected = (numbers[f"attack_0/attack_rate{end}"] for end in ("", "_corrected"))
    assert raw["stage"] == "start" and raw["n"] == 90 and raw["sources"][0]["file"] == "samples/controls.jsonl"
    cells = row(attacked, "Attacks that succeed, in all families")
    assert f"{100 * raw['value']:.1f}" in cells[0] and f"corrected {100 * corrected['value']:.1f}" in cells[0]
    for measure in (
        "Attacks that succeed, without an attack",
        "Attacks that succeed, unseen families, unseen requests",
        "Search's grader less reporting grader",
        "Harmless twins refused, in all families",
        "Harmful replies that the grader sees",
    ):
        assert len(row(attacked, measure)) == 3, measure
    assert card_problems(attacked / "card") == []


def test_what_is_not_understood_has_no_rate(attacked: Path) -> None:
    first, second, third = row(attacked, "base64")
    assert first == "not understood"
    assert second.startswith("0.0") and second.endswith("none seen") and third.endswith("none seen")
    assert "attack_0/attack_rate_base64" not in card_world.shown(attacked / "card"), (
        "a zero that says nothing is not printed"
    )
    assert row(attacked, "persona")[0].endswith("succeeds")


def test_a_weak_grader_is_named_and_corrects_nothing(attacked: Path) -> None:
    text = section(attacked)
    assert "- SL-CAI: rates are not corrected for the grader’s errors, and zeros prove nothing: grader too weak" in text
    assert "corrected" not in row(attacked, "Attacks that succeed, in all families")[1]
    assert text.count("zeros prove nothing") == 1
    daggers = ["†" in cell for cell in row(attacked, "Attacks that succeed, in all families")]
    assert daggers == [False, True, False], "its grader failed the gate"


def test_its_pictures_are_in_the_section_and_name_their_rows(attacked: Path) -> None:
    figures = {f["key"]: f for f in json.loads((attacked / "card/card.json").read_text())["figures"]}
    assert {"attacks", "attack-families", "attack-budget"} <= figures.keys()
    sources = [(s["step"], s["file"]) for s in figures["attack-budget"]["sources"]]
    assert sources == [(step, "curve.jsonl") for _, step in ROLES]
    assert section(attacked).count("](plots/attack") == 3
    assert all((attacked / f"card/plots/{key}.svg").stat().st_size for key in figures)
    assert 'id="attacks"' in (attacked / "card/card.html").read_text("utf-8")


def test_only_a_card_without_attacks_says_that_there_were_none(attacked: Path, finished: Path) -> None:
    said = "Attacks by machine were not measured"
    assert said in words(finished) and "attacks by machine" in words(finished).partition("Not measured here: ")[2]
    assert "### Red teaming by machine" not in words(finished)
    assert said not in words(attacked)
    assert "attacks by machine" not in words(attacked).partition("Not measured here: ")[2].partition("\n")[0]


def test_too_few_requests_a_family_are_not_drawn(attacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attacked_world.GOALS", 6)
    attack(attacked, "attack_few", "taught", {"persona": 0.5})
    made = make_card(attacked, SETTINGS, (*CARD_PARENTS, ("attacks", "attack_few")), "few")
    record = json.loads((made / "card.json").read_text())
    keys = [figure["key"] for figure in record["figures"]]
    assert "attack-families" not in keys and "attack-budget" in keys
    assert (
        "attacks by family"
        in (made / "card.md").read_text("utf-8").partition("Measured on fewer than 20 answers each")[2]
    )
    assert all(f"attack_few/attack_rate_{family}" in {n["key"] for n in record["numbers"]} for family in FAMILIES)


def test_two_attacks_on_one_model_have_names_of_their_own(attacked: Path) -> None:
    attack(attacked, "attack_again", "rl", {})
    run = gather(inputs(attacked, (*CARD_PARENTS, *ROLES, ("attacks", "attack_again"))))
    assert [one.label for one in run.attacks] == ["start", "SL-CAI", "RL-CAI", "RL-CAI, attack_again"]


def test_a_changed_rate_is_refused(attacked: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(attacked, run)
    edit(run, "attack_3", "tables.json", lambda text: text.replace('"n": 90', '"n": 91'))
    assert any("attack_3" in line or "card" in line for line in card_problems(run / "card"))
