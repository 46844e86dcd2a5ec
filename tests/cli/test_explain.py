"""`charter explain`: rooms, evaluations, metrics and words, each from the place that declares it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import charter as package
from charter.building import ROOMS
from charter.cli.explain import fits, list_logged, read_words
from charter.rooms.evaluate.catalogue import METRICS, TASKS
from charter.runner.rooms import list_settings, open_room

Charter = Callable[..., tuple[int, str, str]]


def meanings(charter: Charter, word: str) -> list[dict[str, Any]]:
    code, out, _ = charter("explain", word, "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)["meanings"]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_explained_with_its_settings(charter: Charter, room: str) -> None:
    fact = meanings(charter, room)[0]
    assert (fact["name"], fact["kind"]) == (room, "room") and fact["does"] and fact["makes"]
    assert [row["setting"] for row in fact["settings"]] == [s.name for s in list_settings(open_room(room))]
    assert all(row["meaning"] for row in fact["settings"])


def test_a_room_is_a_table_for_people_and_answers_to_words_of_other_tools(charter: Charter) -> None:
    out = charter("explain", "rl")[1]
    assert out.startswith("rl: room\n") and "kl.coefficient" in out and "checkpoint (policy)" in out
    assert meanings(charter, "ppo")[0]["name"] == "rl"
    assert meanings(charter, "SFT")[0]["name"] == "finetune"


@pytest.mark.parametrize("word", ["look-alikes", "SL-CAI", "Elo", "threshold", "constitution"])
def test_words_of_the_readme_are_explained(charter: Charter, word: str) -> None:
    assert any(meaning["kind"] == "word" and meaning["means"] for meaning in meanings(charter, word))


def test_every_metric_and_evaluation_is_explained(charter: Charter) -> None:
    fact = next(m for m in meanings(charter, "unsafe_refusal_rate") if m["kind"] == "metric")
    (metric,) = (m for m in METRICS if m.name == "unsafe_refusal_rate")
    assert fact["means"] == metric.meaning and fact["direction"] == "higher is better"
    assert (fact["unit"], fact["evaluation"], fact["label"]) == ("share, 0 to 1", "harmlessness", "Unsafe refused")
    arc = meanings(charter, "arc")[0]
    assert (arc["kind"], arc["chance"], arc["published"]) == ("evaluation", 0.25, TASKS["arc"].standard)
    assert "five examples" in arc["protocol"] and "arc" in arc["metrics"]


def test_what_a_room_logs_is_explained_by_its_readme(charter: Charter) -> None:
    (kl,) = meanings(charter, "kl")
    assert kl["kind"] == "number of the room rl" and "nats a reply" in kl["meaning"] and "below 10" in kl["healthy"]
    rooms = {m["kind"].rpartition(" ")[2] for m in meanings(charter, "loss")}
    assert {"finetune", "dpo", "preference"} <= rooms
    (grown,) = meanings(charter, "reward_of_mine")
    assert grown["meaning"].startswith("reward by prompt source")
    assert fits("recall_512", "recall_<tokens>") and not fits("recall", "<task>")
    assert not any("settings" in row.head or (row.head == "setting" and not row.names) for row in list_logged())


def test_words_of_our_own_are_explained(charter: Charter) -> None:
    for entry in read_words():
        for word in entry["words"]:
            fact = meanings(charter, word)[-1]
            assert (fact["kind"], fact["means"]) == ("word", entry["idea"])
        for place in entry["where"]:
            assert (Path(package.__file__).parents[1] / place).exists(), place
    assert "candidate: word" in charter("explain", "candidate")[1]


def test_the_sign_of_signal_detection_is_known(charter: Charter) -> None:
    code, out, _ = charter("explain", "d'")
    assert code == 0 and "refusals tell unsafe prompts from harmless ones" in out


def test_what_nobody_knows_names_the_nearest(charter: Charter) -> None:
    for word, hint in (
        ("stagee", "did you mean stage?"),
        ("unsafe_refusal_rat", "did you mean unsafe_refusal_rate?"),
        ("qqqq", "`charter explain` lists"),
    ):
        code, out, err = charter("explain", word)
        assert (code, out) == (1, "") and hint in err
    names = json.loads(charter("explain", "--json")[1])
    assert names["rooms"] == list(ROOMS) and names["evaluations"] == list(TASKS) and "ballot" in names["words"]
    assert charter("explain")[1].startswith("rooms: corpus, ")
