"""`charter data`: what it says of files of rows, what it refuses and where, and what it writes."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import write_manifest

Charter = Callable[..., tuple[int, str, str]]

PROMPT = '{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n'
HH = {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go away"}
ASKED = [{"role": "user", "content": "hi"}]


def refused(result: tuple[int, str, str], part: str) -> None:
    code, _, err = result
    assert code == 1
    *progress, last = err.splitlines()
    assert last.startswith("charter: error: ") and part in last
    assert not any(line.startswith(("charter:", "Traceback")) for line in progress)


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.usefixtures("fake_rooms")
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("check", "none"), "there is no file none"),
        (("import", "none", "--to", "x"), "there is no file none"),
        (("import", "mine.jsonl", "--to", "mine.jsonl"), "--to names the input file; name another file"),
        (("import", "mine.jsonl", "--to", "no/x.jsonl"), "there is no folder no"),
        (("export", "none", "--to", "x", "--form", "trl"), "there is no file none"),
        (("export", "mine.jsonl", "--to", "x.jsonl", "--form", "hh"), "holds prompts"),
    ],
)
def test_bad_input_is_one_line(charter: Charter, words: tuple[str, ...], part: str) -> None:
    refused(charter("data", *words), part)


def test_data_check_import_and_export(charter: Charter, tmp_path: Path) -> None:
    (tmp_path / "hh.jsonl.gz").write_bytes(gzip.compress((json.dumps(HH) + "\n").encode()))
    code, out, err = charter("data", "import", "hh.jsonl.gz", "--to", "c.jsonl")
    assert (code, err) == (0, "") and out.startswith("c.jsonl: 1 comparison")
    assert charter("data", "check", "c.jsonl")[1].startswith("c.jsonl: 1 comparison, 1.0 turns")
    row = json.loads((tmp_path / "c.jsonl").read_text())
    assert (row["chosen"], row["rejected"]) == ("hello", "go away")
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    (tmp_path / "d.jsonl").write_text(json.dumps({"id": "a", "messages": turns}) + "\n")
    assert "1 dialogue," in charter("data", "check", "d.jsonl")[1]
    assert "1 prompt," in charter("data", "import", "d.jsonl", "--to", "p.jsonl", "--kind", "prompts")[1]
    code, out, _ = charter("data", "export", "c.jsonl", "--to", "out.jsonl", "--form", "hh")
    assert out.splitlines()[0].endswith("in the form hh")
    assert out.splitlines()[1:] == ["  note: left out, as the form has no column for it: id, axis, source, p_chosen"]
    assert json.loads((tmp_path / "out.jsonl").read_text()) == HH
    charter("data", "export", "d.jsonl", "--to", "out.jsonl", "--form", "trl", "--force")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"messages": turns}
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": "hello"}\n')
    assert charter("data", "check", "t.jsonl")[1] == "t.jsonl: 1 text, 5 characters\n"
    (tmp_path / "bad.jsonl").write_text(PROMPT + "{broken\n")
    refused(charter("data", "check", "bad.jsonl"), "bad.jsonl:2")


def test_data_check_of_a_hub_name_reads_what_was_downloaded(tmp_path: Path) -> None:
    commit = "0123456789" * 4
    place = tmp_path / "datasets--own--hh"
    folder = place / "snapshots" / commit / "harmless-base"
    for new_folder in (place / "refs", folder):
        new_folder.mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (folder / "test.jsonl.gz").write_bytes(gzip.compress((json.dumps(HH) + "\n").encode()))

    def checked(*names: str) -> subprocess.CompletedProcess[str]:
        offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        start = [sys.executable, "-m", "charter", "data", "check"]
        return subprocess.run([*start, *names], env=offline, capture_output=True, text=True, check=False)

    process = checked("hf:own/hh#harmless-base")
    assert process.stdout.startswith("hf:own/hh#harmless-base: 1 comparison, 1.0 turns"), process.stderr
    process = checked("hf:own/hh#none.jsonl")
    assert process.returncode == 1 and process.stderr.startswith("charter: error: hf:own/hh@0123456789")
    assert "there are no rows at none.jsonl" in process.stderr and len(process.stderr.splitlines()) == 1


PAIR = {"id": "b", "messages": ASKED, "chosen": "x", "rejected": "y"}
TRIPLE = {"id": "b", "messages": ASKED, "harmful": "x", "good": "y"}


def without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != column}


@pytest.mark.parametrize("others", [(), ({"id": "a", "messages": ASKED},), (PAIR | {"id": "a"},)])
@pytest.mark.parametrize(
    ("row", "missing"),
    [
        (without(PAIR, "rejected") | {"rejcted": "y"}, "rejected"),
        (without(PAIR, "chosen"), "chosen"),
        (without(PAIR, "rejected") | {"prompt": "hi"}, "rejected"),
        (without(PAIR, "messages") | {"question": "hi"}, ""),
        (without(TRIPLE, "good"), "good"),
        (without(without(TRIPLE, "harmful"), "messages") | {"prompt": "hi"}, "harmful"),
    ],
)
def test_a_row_that_lacks_a_column_of_its_kind_is_refused(
    charter: Charter, tmp_path: Path, others: tuple[dict[str, Any], ...], row: dict[str, Any], missing: str
) -> None:
    write(tmp_path / "x.jsonl", *others, row)
    refused(charter("data", "check", "x.jsonl"), f"x.jsonl:{len(others) + 1}: ")
    if missing:
        assert f"without {missing}" in charter("data", "check", "x.jsonl")[2]
    if "rejcted" in row:
        assert "(and with the unknown rejcted)" in charter("data", "check", "x.jsonl")[2]


@pytest.mark.parametrize(("column", "missing"), [("chosen", "rejected"), ("harmful", "good")])
def test_broken_rows_of_a_csv_are_refused(charter: Charter, tmp_path: Path, column: str, missing: str) -> None:
    (tmp_path / "x.csv").write_text(f"prompt,{column}\nhi,x\n")
    refused(charter("data", "check", "x.csv"), "x.csv:2: ")
    assert f"without {missing}" in charter("data", "check", "x.csv")[2]
    (tmp_path / "x.csv").write_text("prompt\nhi, you\n")
    refused(charter("data", "check", "x.csv"), "x.csv:2: more cells than columns")
    (tmp_path / "c.csv").write_text("prompt,chosen,rejected\nhi,x,y\n")
    assert charter("data", "check", "c.csv")[1].startswith("c.csv: 1 comparison,")


def test_unknown_columns_are_named_with_what_they_may_mean(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", {"prompt": "hi", "topik": "tea"}, {"messages": ASKED, "unseen": True})
    out = charter("data", "check", "x.jsonl")[1]
    assert out.splitlines()[1:] == ["  note: unknown columns, kept in meta: topik; did you mean topic?"]
    write(tmp_path / "c.jsonl", PAIR | {"zzz": 1, "aaa": 2})
    assert charter("data", "check", "c.jsonl")[1].endswith("unknown columns, kept in meta: aaa, zzz\n")
    charter("data", "import", "x.jsonl", "--to", "y.jsonl")
    assert json.loads((tmp_path / "y.jsonl").read_text().splitlines()[0])["meta"] == {"topik": "tea"}


def test_judgments_are_checked_and_counted(charter: Charter, tmp_path: Path) -> None:
    row = {"id": "a", "sample": 0, "prompt": "hi", "reply": "x", "margin": -1.5, "note": ""}
    verdicts = (None, "harmful", "harmless", "harmless")
    write(tmp_path / "v.jsonl", *(row | {"sample": n, "verdict": v} for n, v in enumerate(verdicts)))
    out = charter("data", "check", "v.jsonl")[1]
    assert out == "v.jsonl: 4 judgments on replies to 1 prompt: 1 harmful, 2 harmless, 1 waiting\n"
    write(tmp_path / "bad.jsonl", row | {"verdict": "nasty"})
    refused(charter("data", "check", "bad.jsonl"), "bad.jsonl:1: verdict is 'nasty', expected")
    write(tmp_path / "other.jsonl", {"messages": ASKED, "reply": "x", "verdict": "NTA"})
    assert charter("data", "check", "other.jsonl")[1].startswith("other.jsonl: 1 prompt,")


VOTED = {"prompt": "9f2c", "axis": "helpful", "model_a": "old", "model_b": "new", "winner": "a", "rater": "r1"}


def test_votes_are_checked_and_counted(charter: Charter, tmp_path: Path) -> None:
    winners = ("a", "b", "b", "tie", "both_bad", "unsure")
    rows = [VOTED | {"winner": w, "rater": f"r{n % 3}"} for n, w in enumerate(winners)]
    write(tmp_path / "v.jsonl", *rows, *(row | {"axis": "honest"} for row in rows))
    out = charter("data", "check", "v.jsonl")[1]
    assert out == ("v.jsonl: 12 votes by 3 raters on 2 axes; 2 models, 6 decided, 2 ties, 2 both bad, 2 unsure\n")
    write(tmp_path / "one.jsonl", {"model_a": "old", "model_b": "new", "winner": "a", "ratr": "r1"})
    assert charter("data", "check", "one.jsonl")[1].splitlines() == [
        "one.jsonl: 1 vote on 1 axis; 2 models, 1 decided",
        "  note: unknown columns, ignored: ratr; did you mean rater?",
    ]
    for bad, problem in (
        (VOTED | {"winner": "left"}, "unknown winner 'left'"),
        (without(VOTED, "model_b"), "a vote without model_b"),
        (VOTED | {"model_b": "old"}, "old is compared with itself"),
    ):
        write(tmp_path / "bad.jsonl", VOTED, bad)
        refused(charter("data", "check", "bad.jsonl"), f"bad.jsonl:2: {problem}")
    write(tmp_path / "d.jsonl", {"messages": ASKED, "model_a": "old", "model_b": "new", "winner": "a"})
    assert charter("data", "check", "d.jsonl")[1].startswith("d.jsonl: 1 prompt,")
    refused(charter("data", "export", "v.jsonl", "--to", "o.jsonl", "--form", "trl"), "v.jsonl holds votes")


def test_an_export_without_verdicts_says_so(charter: Charter, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    manifest = {"kind": "judgments", "id": "", "status": "done", "step": "export", "room": "arena", "recipe": ""}
    write_manifest(folder, Manifest.model_validate(manifest))
    (folder / "judgments.jsonl").write_text("")
    for place in ("export", "export/judgments.jsonl"):
        assert charter("data", "check", place) == (0, f"{place}: no verdicts yet\n", "")
    (tmp_path / "judgments.jsonl").write_text("")
    refused(charter("data", "check", "judgments.jsonl"), "judgments.jsonl is empty")


def test_triples_are_checked_counted_and_not_exported(charter: Charter, tmp_path: Path) -> None:
    assert charter("data", "check", "shipped:fitness.heldout")[1].startswith(
        "shipped:fitness.heldout: 76 triples, 1.0 turns"
    )
    write(tmp_path / "t.jsonl", TRIPLE | {"topic": "tea", "goood": 1})
    code, out, _ = charter("data", "check", "t.jsonl", "--kind", "triples")
    assert code == 0 and out.startswith("t.jsonl: 1 triple, 1.0 turns and 2 characters each, 1 topic\n")
    assert out.endswith("unknown columns, ignored: goood; did you mean good?\n")
    refused(charter("data", "export", "t.jsonl", "--to", "o.jsonl", "--form", "trl"), "t.jsonl holds triples")
    assert not (tmp_path / "o.jsonl").exists()
    (tmp_path / "t.csv").write_text("prompt,harmful,good\nhi,x,y\n")
    assert charter("data", "import", "t.csv", "--to", "new.jsonl")[1].startswith("new.jsonl: 1 triple,")
    row = json.loads((tmp_path / "new.jsonl").read_text())
    assert row == {"id": "t-00002", "topic": "", "messages": ASKED, "harmful": "x", "good": "y"}
    write(tmp_path / "bad.jsonl", TRIPLE, TRIPLE | {"good": 1, "id": "c"})
    refused(charter("data", "check", "bad.jsonl"), "bad.jsonl:2: good must be a text")


def test_texts_are_imported_in_charters_columns(charter: Charter, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a tale\nof two lines")
    assert charter("data", "import", "t.txt", "--to", "o.jsonl", "--kind", "texts")[0] == 0
    assert json.loads((tmp_path / "o.jsonl").read_text()) == {"id": "t", "text": "a tale\nof two lines"}
    refused(charter("data", "export", "o.jsonl", "--to", "p.jsonl", "--form", "trl"), "o.jsonl holds texts")


@pytest.mark.parametrize("row", [{"prompt": ""}, {"messages": [{"role": "user", "content": " "}]}])
def test_an_empty_prompt_is_refused(charter: Charter, tmp_path: Path, row: dict[str, Any]) -> None:
    write(tmp_path / "x.jsonl", {"prompt": "hi"}, row)
    refused(charter("data", "check", "x.jsonl"), "x.jsonl:2: message 1, the user's, is empty")


def test_dialogues_need_a_turn_to_learn_from(charter: Charter, tmp_path: Path) -> None:
    answered = {"messages": [*ASKED, {"role": "assistant", "content": "hello"}]}
    write(tmp_path / "x.jsonl", answered, {"messages": ASKED})
    assert charter("data", "check", "x.jsonl")[0] == 0
    command = ("data", "check", "x.jsonl", "--kind", "dialogues")
    refused(charter(*command), "x.jsonl:2: the dialogue has no assistant's turn to learn from")
    write(tmp_path / "x.jsonl", answered, answered | {"learn_from": 2})
    refused(charter(*command), "x.jsonl:2: the dialogue has no assistant's turn to learn from (learn_from is 2)")


def test_red_team_attempts_are_taken_with_their_ratings(charter: Charter, tmp_path: Path) -> None:
    """The published file is one array; some of its transcripts have no order."""
    transcripts = ("\n\nHuman: hi\n\nAssistant: hello", "\n\nHuman: hi\n\nHuman: you?\n\nAssistant: hello")
    attempts = [{"transcript": text, "rating": 1.5, "tags": ["a"]} for text in transcripts]
    (tmp_path / "attempts.jsonl.gz").write_bytes(gzip.compress(json.dumps(attempts).encode()))
    code, out, err = charter("data", "import", "attempts.jsonl.gz", "--to", "rated.jsonl")
    assert (code, err) == (0, "") and "1 dialogue, 2.0 turns" in out
    assert "1 left out: turns empty or out of order" in out and "unknown columns, kept in meta: tags" in out
    row = json.loads((tmp_path / "rated.jsonl").read_text())
    assert [m["content"] for m in row["messages"]] == ["hi", "hello"]
    assert row["meta"] == {"rating": 1.5, "tags": ["a"]}


def test_brackets_without_end_are_one_line(charter: Charter, tmp_path: Path) -> None:
    for name, place in (("x.jsonl", "x.jsonl:1: "), ("x.json", "x.json ")):
        (tmp_path / name).write_text("[" * 100_000)
        refused(charter("data", "check", name), f"{place}not JSON" if ":" in place else f"{place}is not JSON")


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("x.jsonl", (), "axis helpful for all 2 comparisons: the file's name says nothing; --axis sets another"),
        ("harmless-base.jsonl", (), "axis harmless for all 2 comparisons: the file's name says so; --axis sets"),
        ("x.jsonl", ("--axis", "honest"), "axis honest for all 2 comparisons: --axis says so"),
    ],
)
def test_the_import_says_which_axis_it_gave_and_why(
    charter: Charter, tmp_path: Path, name: str, options: tuple[str, ...], note: str
) -> None:
    write(tmp_path / name, PAIR, PAIR | {"id": "c"})
    code, out, _ = charter("data", "import", name, "--to", "o.jsonl", *options)
    assert code == 0 and note in out
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["axis"] for row in rows] == [note.split()[1]] * 2
    assert "axis" not in charter("data", "import", "o.jsonl", "--to", "again.jsonl")[1]


def test_an_axis_is_for_comparisons_that_name_none(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "c.jsonl", PAIR | {"axis": "honest"})
    write(tmp_path / "p.jsonl", {"prompt": "hi"})
    for name in ("c.jsonl", "p.jsonl"):
        refused(charter("data", "import", name, "--to", "o.jsonl", "--axis", "harmless"), "leave --axis out")
    write(tmp_path / "m.jsonl", PAIR | {"axis": "honest"}, PAIR | {"id": "c"})
    out = charter("data", "import", "m.jsonl", "--to", "o.jsonl", "--axis", "harmless")[1]
    assert "axis harmless for the comparisons that name none: --axis says so" in out
    assert [json.loads(r)["axis"] for r in (tmp_path / "o.jsonl").read_text().splitlines()] == ["honest", "harmless"]


def test_the_export_says_what_it_leaves_out(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "c.jsonl", PAIR | {"p_chosen": 0.2, "topic": "tea"})
    out = charter("data", "export", "c.jsonl", "--to", "o.jsonl", "--form", "trl")[1]
    assert out.splitlines()[1] == (
        "  note: left out, as the form has no column for it: id, topic, axis, source, p_chosen; "
        "pairs with p_chosen below one half changed sides"
    )


def test_nothing_is_overwritten_without_force(charter: Charter, tmp_path: Path) -> None:
    write(tmp_path / "c.jsonl", PAIR)
    (tmp_path / "o.jsonl").write_text("mine")
    for words in (("import", "c.jsonl"), ("export", "c.jsonl", "--form", "trl")):
        refused(charter("data", *words, "--to", "o.jsonl"), "o.jsonl exists already; name another file, or")
        assert (tmp_path / "o.jsonl").read_text() == "mine"
    assert charter("data", "import", "c.jsonl", "--to", "o.jsonl", "--force")[0] == 0
    assert json.loads((tmp_path / "o.jsonl").read_text())["chosen"] == "x"


@pytest.mark.usefixtures("fake_rooms")
def test_what_is_no_file_of_rows_is_called_by_its_name(charter: Charter, tmp_path: Path) -> None:
    charter("run", "recipe.yaml")
    export = ("data", "export", "runs/small/taught", "--to", "o.jsonl", "--form", "trl")
    refused(charter(*export), "runs/small/taught is a checkpoint and has no rows; give a file of rows")
    refused(charter(*export, "--kind", "comparisons"), "runs/small/taught is a checkpoint and has no rows")
    refused(charter("data", "check", "runs/small"), "runs/small is a folder; give one of what it holds: runs/small/")
    (tmp_path / "empty").mkdir()
    refused(charter("data", "check", "empty"), "empty is a folder; give a file of rows, such as prompts.jsonl")
    refused(charter("data", "check", "shipped:constitution"), "charter constitution check /")
    refused(charter("data", "check", "recipe.yaml"), "charter constitution check recipe.yaml")


def test_the_help_names_what_is_read(charter: Charter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("check", "import"):
        out = charter("data", command, "--help")[1]
        for name in ("triples", "texts", "comparisons", "ShareGPT", "instruction", "lists"):
            assert name in out


def test_harmful_rows_of_an_artifact_are_exported_only_by_a_flag(charter: Charter, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    row = json.dumps({"id": "a", "messages": turns}) + "\n"
    for name in ("dialogues.jsonl", "others.jsonl"):
        (tmp_path / "made" / name).write_text(row)
    facts = {"kind": "dialogues", "id": "0" * 64, "status": "done", "step": "made", "room": "x", "recipe": "y"}
    write_manifest(tmp_path / "made", Manifest.model_validate(facts | {"restricted": ["dialogues.jsonl"]}))
    to = ("--to", "out.jsonl", "--form", "trl", "--force")
    refused(charter("data", "export", "made/dialogues.jsonl", *to), "may hold harmful text; export it with --harmful")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "made" / "dialogues.jsonl")
    refused(charter("data", "export", "link.jsonl", *to), "may hold harmful text")
    assert charter("data", "export", "made/others.jsonl", *to)[0] == 0
    assert charter("data", "export", "made/dialogues.jsonl", *to, "--harmful")[0] == 0
    refused(charter("data", "export", "made", *to), "may hold harmful text")
    others = Manifest.model_validate(facts | {"restricted": ["others.jsonl"]})
    write_manifest(tmp_path / "made", others)
    assert charter("data", "export", "made", *to)[0] == 0, "its dialogues are not harmful"
