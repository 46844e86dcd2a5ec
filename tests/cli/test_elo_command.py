"""`charter elo`: what it prints, what it draws, and what it refuses."""

import gzip
import importlib
import json
import math
import sqlite3
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

Charter = Callable[..., tuple[int, str, str]]
Rows = list[dict[str, Any]]

VOTE = {"model_a": "old", "model_b": "new", "winner": "b"}


def write(path: Path, rows: Rows) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.ZstdCompressor().compress(data)
    path.write_bytes(data)


def votes(wins: int, losses: int, **rest: Any) -> Rows:
    """Of `new` over `old`."""
    return [VOTE | rest] * wins + [VOTE | {"winner": "a"} | rest] * losses


def refused(result: tuple[int, str, str], part: str) -> None:
    code, out, err = result
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("charter: error: ") and part in err


@pytest.mark.parametrize("name", ["votes.jsonl", "votes.jsonl.gz", "votes.jsonl.zst"])
def test_json_is_the_standings_of_each_axis(charter: Charter, tmp_path: Path, name: str) -> None:
    write(tmp_path / name, votes(30, 10))
    code, out, err = charter("elo", name, "--json")
    assert (code, err) == (0, "")
    standings = json.loads(out)
    assert list(standings) == ["all"]
    new, old = standings["all"]
    assert (new["model"], new["n"], new["rank"]) == ("new", 40, 1)
    assert new["elo"] == pytest.approx(400 * math.log10(3))
    half = 1.959964 * 400 / math.log(10) / math.sqrt(7.5)
    assert (new["low"], new["high"]) == (
        pytest.approx(new["elo"] - half, abs=1e-3),
        pytest.approx(new["elo"] + half, abs=1e-3),
    )
    assert {key: old[key] for key in ("model", "elo", "low", "high", "n")} == {
        "model": "old",
        "elo": 0.0,
        "low": 0.0,
        "high": 0.0,
        "n": 40,
    }


def test_axes_base_ties_and_models_without_a_number(charter: Charter, tmp_path: Path) -> None:
    rows = votes(3, 1, axis="helpful") + votes(1, 1, axis="honest")
    rows += [VOTE | {"axis": "helpful", "winner": "tie"}] * 4
    rows += [{"model_a": "apart", "model_b": "else", "winner": "a", "axis": "honest"}]
    write(tmp_path / "v.jsonl", rows)
    standings = json.loads(charter("elo", "v.jsonl", "--json")[1])
    assert list(standings) == ["helpful", "honest"]
    assert [r["model"] for r in standings["honest"]] == ["new", "old", "apart", "else"]
    assert standings["honest"][2]["elo"] is None and "never compared" in standings["honest"][2]["note"]
    based = json.loads(charter("elo", "v.jsonl", "--json", "--base", "new", "--axis", "helpful")[1])
    assert list(based) == ["helpful"] and based["helpful"][1]["elo"] == pytest.approx(-400 * math.log10(3))
    half = json.loads(charter("elo", "v.jsonl", "--json", "--ties", "half")[1])
    assert half["helpful"][0]["elo"] == pytest.approx(400 * math.log10(5 / 3)) and half["helpful"][0]["n"] == 8


def test_sources_are_apart_or_picked(charter: Charter, tmp_path: Path) -> None:
    rows = votes(3, 1) + votes(5, 1, source="ai:one") + votes(7, 1, source="ai:two")
    write(tmp_path / "v.jsonl", rows)
    standings = json.loads(charter("elo", "v.jsonl", "--json")[1])
    assert list(standings) == ["all", "all (ai:one)", "all (ai:two)"]
    one_source = json.loads(charter("elo", "v.jsonl", "--json", "--source", "ai:two")[1])
    assert one_source["all"][0]["n"] == 8 and one_source["all"][0]["source"] == "ai:two"
    pooled = json.loads(charter("elo", "v.jsonl", "--json", "--source", "ai")[1])
    assert pooled["all"][0]["n"] == 14 and pooled["all"][0]["source"] == "ai"
    assert "all (ai:one): 6 votes" in charter("elo", "v.jsonl")[1]
    assert "all (ai:two): 8 votes" in charter("elo", "v.jsonl", "--source", "ai:two")[1]
    refused(charter("elo", "v.jsonl", "--source", "humans"), "no vote has the source 'humans'; did you mean human?")


def test_the_table_says_all_that_is_to_be_said(charter: Charter, tmp_path: Path) -> None:
    rows = [row | {"rater": f"r{n % 4}", "item": n // 2} for n, row in enumerate(votes(30, 12))]
    rows += [VOTE | {"winner": "tie"}, VOTE | {"winner": "both_bad"}, VOTE | {"winner": "unsure"}]
    rows += [{"model_a": "king", "model_b": "old", "winner": "a"}] * 2
    write(tmp_path / "v.jsonl", rows)
    code, out, err = charter("elo", "v.jsonl")
    assert (code, err) == (0, "")
    assert "all: 44 votes of 4 raters, 1 tie and 1 both bad dropped, 1 unsure dropped; old is 0" in out
    assert "intervals clustered by rater and item" in out and "4 raters are few" in out
    assert "won all its 2 votes against the rest: no upper bound" in out
    assert "agreement on 21 items with several raters: share of pairs" in out
    assert "wins against" in out and "71 (71)" in out
    assert "intervals resampled by rater" in charter("elo", "v.jsonl", "--bootstrap", "200")[1]


def test_rows_of_a_collection_may_be_about_one_model(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "v.jsonl", [*votes(3, 1), VOTE | {"model_b": "old", "kind": "chat"}])
    assert "all: 4 votes, 1 on two replies of one model dropped; old is 0" in charter("elo", "v.jsonl")[1]
    write(tmp_path / "v.jsonl", [*votes(3, 1), VOTE | {"model_b": "old", "kind": "chat", "axis": "harmless"}])
    for words in ((), ("--axis", "harmless")):
        assert "harmless: no Elo, all votes are on two replies of one model" in charter("elo", "v.jsonl", *words)[1]


def test_resamples_follow_their_seed(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "v.jsonl", votes(3000, 1200))
    first, again, other = (
        charter("elo", "v.jsonl", "--json", "--bootstrap", "200", "--seed", seed)[1] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert json.loads(first)["all"][0]["interval"] == "bootstrap"


def test_one_dot_is_not_drawn(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "v.jsonl", votes(5, 0))
    code, out, err = charter("elo", "v.jsonl", "--plot", "e.svg")
    assert code == 0 and "needs at least one win the other way" in out and "another base" not in out
    assert err == "charter: e.svg is not drawn: no axis has a number for two models\n"
    assert not (tmp_path / "e.svg").exists() and (tmp_path / "e-wins.svg").is_file()


def test_drawings_are_whole_and_the_same_each_time(charter: Charter, tmp_path: Path) -> None:
    rows = votes(30, 12, axis="helpful") + votes(9, 12, axis="honest")
    rows += [{"model_a": "a model whose name is longer than a page", "model_b": "old", "winner": "a", "axis": "honest"}]
    write(tmp_path / "v.jsonl", rows)
    drawings = []
    for _ in range(2):
        assert charter("elo", "v.jsonl", "--plot", "e.svg", "--json")[0] == 0
        drawings.append([(tmp_path / name).read_text() for name in ("e.svg", "e-wins.svg")])
    assert drawings[0] == drawings[1]
    for text in drawings[0]:
        ElementTree.fromstring(text.split("\n", 1)[1])
    assert "helpful" in drawings[0][0] and "old is 0" in drawings[0][0] and "71 %" in drawings[0][1]


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (VOTE | {"winner": "left"}, "v.jsonl:2: unknown winner 'left'; allowed: a, b, tie, both_bad, unsure"),
        (VOTE | {"model_b": "old"}, "v.jsonl:2: old is compared with itself"),
        ({"model_a": "old", "winner": "a"}, "v.jsonl:2: a vote without model_b; expected model_a, model_b and winner"),
        (VOTE | {"source": "machine"}, "v.jsonl:2: unknown source 'machine'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(charter: Charter, tmp_path: Path, row: dict[str, Any], part: str) -> None:
    write(tmp_path / "v.jsonl", [VOTE, row])
    refused(charter("elo", "v.jsonl"), part)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("none.jsonl",), "none.jsonl does not exist"),
        (("empty.jsonl",), "empty.jsonl is empty"),
        (("sqlite:///none.db",), "there is no database none.db"),
        (("v.jsonl", "--base", "ne"), "no vote names the base 'ne'; did you mean new?"),
        (("v.jsonl", "--axis", "helpfull"), "no vote has the axis 'helpfull'; did you mean helpful?"),
        (("v.jsonl", "--ties", "halve"), "--ties halve; did you mean half?"),
        (("v.jsonl", "--bootstrap", "5"), "--bootstrap 5 is too few"),
        (("v.jsonl", "--bootstrap", "-5"), "--bootstrap -5 is too few"),
        (("v.jsonl", "--plot", "e.png"), "--plot e.png: expected a name that ends in .svg"),
        (("v.jsonl", "--plot", "no/e.svg"), "there is no folder no"),
    ],
)
def test_bad_input_is_one_line(charter: Charter, tmp_path: Path, words: tuple[str, ...], part: str) -> None:
    write(tmp_path / "v.jsonl", votes(2, 1, axis="helpful"))
    (tmp_path / "empty.jsonl").write_text("\n")
    refused(charter("elo", *words), part)


def test_a_database_is_known_by_its_url_or_its_first_bytes(
    charter: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def votes_of(place: str, _folder: Path) -> Rows:
        places.append(place)
        return votes(3, 1, rater="r1") + votes(1, 1, rater="r2") if "full" in place else []

    monkeypatch.setattr(importlib.import_module("charter_service.people.export"), "votes_of", votes_of)
    with sqlite3.connect(tmp_path / "full.db") as database:
        database.execute("create table t (x int)")
    database.close()
    for place in ("full.db", "sqlite:///full.db", "postgresql://user:word@host/full"):
        assert json.loads(charter("elo", place, "--json")[1])["all"][0]["n"] == 6
    assert places == ["full.db", "sqlite:///full.db", "postgresql://user:word@host/full"]
    code, _, err = charter("elo", "postgresql://user:word@host/none")
    assert code == 1 and "host/none holds no votes yet" in err and "word" not in err


@pytest.mark.parametrize("place", ["runs/export", "runs/export/"])
def test_a_folder_is_read_by_its_votes(charter: Charter, tmp_path: Path, place: str) -> None:
    (tmp_path / "runs" / "export").mkdir(parents=True)
    refused(charter("elo", place), "runs/export")
    refused(charter("elo", place), "is a folder without votes.jsonl; give an export or a step of the arena")
    write(tmp_path / "runs" / "export" / "votes.jsonl", votes(3, 1))
    assert json.loads(charter("elo", place, "--json")[1])["all"][0]["n"] == 4
    write(tmp_path / "runs" / "export" / "votes.jsonl", [VOTE | {"winner": "left"}])
    refused(charter("elo", place), "runs/export/votes.jsonl:1: unknown winner 'left'")


CONFIG = """
name: test
database: {database}
models: [{{name: new, model: "random:tiny"}}, {{name: old, model: "random:tiny"}}]
tasks: {{helpful: {{}}}}
"""


def test_a_configuration_gives_its_database_and_base(
    charter: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    places: list[tuple[str, Path]] = []
    rows = [*votes(3, 1, source="simulated"), VOTE | {"model_b": "third"}, VOTE | {"model_a": "third"}]

    def votes_of(place: str, folder: Path) -> Rows:
        places.append((place, folder))
        return rows

    def based(*words: str) -> dict[str, str]:
        code, out, err = charter("elo", "mine/arena.yaml", "--json", *words)
        assert code == 0, err
        return {key: standings[0]["base"] for key, standings in json.loads(out).items()}

    monkeypatch.setattr(importlib.import_module("charter_service.people.export"), "votes_of", votes_of)
    (folder / "arena.yaml").write_text(CONFIG.format(database="sqlite:///people.sqlite"))
    refused(charter("elo", "mine/arena.yaml"), "there is no database mine/people.sqlite")
    (folder / "people.sqlite").write_text("")
    assert based() == {"all (simulated)": "new", "all": "new"}
    assert places == [("sqlite:///people.sqlite", Path("mine"))]
    assert based("--base", "third")["all"] == "third"
    (folder / "arena.yaml").write_text(CONFIG.format(database="people.sqlite") + "base: old\n")
    assert based()["all"] == "old"
    rows[:] = [VOTE | {"model_a": "third", "model_b": "fourth"}]  # none names the configuration's
    assert based() == {"all": "third"}
    refused(charter("elo", "mine/none.yaml"), "mine/none.yaml")


def test_raters_at_the_head_are_those_who_count(charter: Charter, tmp_path: Path) -> None:
    rows = [row | {"rater": f"r{n % 3}"} for n, row in enumerate(votes(3, 2))]
    write(tmp_path / "v.jsonl", [*rows, VOTE | {"winner": "tie", "rater": "another"}])
    out = charter("elo", "v.jsonl")[1]
    assert "all: 5 votes of 3 raters, 1 tie and 0 both bad dropped" in out and "3 raters are few" in out


def test_the_help_says_whose_votes_without_a_source_are(charter: Charter) -> None:
    assert "votes that name no source count as people's" in " ".join(charter("elo", "--help")[1].split())
