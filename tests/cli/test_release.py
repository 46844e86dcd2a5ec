"""compare and gate at the command line: groups, tables, JSON, exit codes, one line for each error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from reports import report

Charter = Callable[..., tuple[int, str, str]]
WORSE = [73.0 + 0.1 * (-1) ** i for i in range(20)]


@pytest.fixture
def versions(charter: Charter) -> tuple[Path, Path, Path]:
    """Three runs of one report: bits per byte stay, then rise significantly by 0.043."""
    runs = [Path("runs") / name for name in ("one", "two", "three")]  # in the folder that `charter` works in
    for run, nats in zip(runs, ([70.0] * 20, [70.0] * 20, WORSE), strict=True):
        report(run / "eval", nats)
    return runs[0], runs[1], runs[2]


def test_two_versions_have_labels_arrows_and_a_verdict(charter: Charter, versions: tuple[Path, ...]) -> None:
    code, out, _ = charter("compare", versions[0], versions[2])
    head, row, *legend = (line.split() for line in out.splitlines() if line.strip())
    assert code == 0 and head == [str(versions[0]), "→", str(versions[2]), "change", "n"]
    assert " ".join(row).startswith("▼ Bits per byte ↓ 1.010 → 1.053 +0.043 (+0.04") and row[-1] == "20"
    assert "over the headline numbers (1)" in " ".join(word for line in legend for word in line)
    back = charter("compare", versions[2], versions[0], "--all")[1]
    assert "▲  Bits per byte ↓ (bits_per_byte)" in back
    record = json.loads(charter("compare", versions[0], versions[2], "--json")[1])
    (entry,) = record["metrics"]
    assert entry["verdict"] == "worse" and entry["regression"] and entry["paired"] == 20
    assert record["corrected_over"] == [[1, 0]] and record["versions"] == [str(versions[0]), str(versions[2])]


def test_the_same_card_is_noticed(charter: Charter, versions: tuple[Path, ...]) -> None:
    same = "These are the same card: nothing to compare.\n"
    assert charter("compare", versions[0], versions[0])[1] == same
    assert charter("compare", versions[0], versions[0] / "eval", versions[1])[1] == same
    assert json.loads(charter("compare", versions[0], versions[1], "--json")[1])["same"]


def test_what_is_not_compared_stands_under_its_reason(charter: Charter, versions: tuple[Path, ...]) -> None:
    path = versions[0] / "eval/report.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"identity": content["identity"] | {"text": {"data": "other"}}}))
    out = charter("compare", versions[0], versions[2])[1].splitlines()
    assert out == ["Not compared (1)", "  made differently: text.data differs: bits_per_byte"]


def test_more_versions_are_tracked_and_drops_named(charter: Charter, versions: tuple[Path, ...]) -> None:
    code, out, _ = charter("compare", *versions)
    (row,) = (line.split() for line in out.splitlines() if line.startswith("Bits per byte"))
    assert code == 0 and " ".join(row) == "Bits per byte ↓ 1.010 1.010 1.053 ▼ +0.043 ▼ 20"
    assert "Got worse: Bits per byte" in out
    record = json.loads(charter("compare", *versions, "--json")[1])
    assert record["metrics"][0]["dropped"] and len(record["versions"]) == 3
    assert "Nothing got significantly worse." in charter("compare", versions[2], *versions[:2])[1]


def test_the_gate_says_pass_or_fail_and_exits_so(charter: Charter, versions: tuple[Path, ...]) -> None:
    ask = ("gate", versions[2], "--require", "bits_per_byte")
    there = "Bits per byte (bits_per_byte): 1.053 (1.053 to 1.054), n 20"
    assert charter(*ask, "--require-only") == (0, f"pass  {there}\n{versions[2]} passes the gate\n", "")
    code, out, err = charter(*ask)
    assert code == 1 and "present, not judged: give --baseline or --max" in out and "bits_per_byte" in err
    assert charter("gate", versions[2], "--max", "bits_per_byte=1.06")[:2] == (
        0,
        f"pass  {there}, at most 1.060\n{versions[2]} passes the gate\n",
    )
    assert charter("gate", versions[2], "--max", "bits_per_byte=1.0535")[0] == 1, "the upper end is above it"
    against = (*ask, "--baseline", versions[0])
    code, out, err = charter(*against, "--margin", "0.02")
    assert code == 1 and "(bits_per_byte): regressed beyond 0.020: worse by 0.043 (95 %" in out
    assert err == f"charter: error: {versions[2]} does not pass the gate: bits_per_byte\n"
    assert charter(*against, "--margin", "0.02", "--margin", "bits_per_byte=0.06")[0] == 0
    assert charter(*against, "--margin", "0.06", "--margin", "bits_per_byte=0.02")[0] == 1
    assert charter(*against, "--margin", "0.06", "--strict")[0] == 0
    code, out, _ = charter(*ask[:2], "--require", "harm_rate,bits_per_byte", "--require-only", "--json")
    record = json.loads(out)
    assert code == 1 and record["passed"] is False and [row["n"] for row in record["evaluations"]] == [None, 20]
    assert [row["passed"] for row in record["evaluations"]] == [False, True]


def test_rules_stand_in_a_file_and_flags_go_before_it(
    charter: Charter, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "gate.yaml").write_text("baseline: runs/one\nrequire: [bits_per_byte]\nmargin: 0.02\n")
    assert charter("gate", "runs/three", "--rules", "gate.yaml")[0] == 1
    assert charter("gate", "runs/three", "--rules", "gate.yaml", "--margin", "0.06")[0] == 0
    assert charter("gate", "runs/three", "--rules", "gate.yaml", "--baseline", "runs/three")[0] == 0
    assert charter("gate", "runs/two", "--rules", "gate.yaml", "--require", "harm_rate")[0] == 1
    (tmp_path / "limits.yaml").write_text("max: {bits_per_byte: 1.03}\n")
    assert charter("gate", "runs/one", "--rules", "limits.yaml")[0] == 0
    assert charter("gate", "runs/three", "--rules", "limits.yaml")[0] == 1
    assert charter("gate", "runs/three", "--rules", "limits.yaml", "--max", "bits_per_byte=2")[0] == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("gate", "runs/one"), "the gate asks for nothing"),
        (("gate", "runs/none", "--require", "harm_rate"), "there is no run or card runs/none"),
        (("gate", "runs/one", "--require", "bits_per_bite"), "runs/one does not pass the gate: bits_per_bite"),
        (("gate", "runs/one", "--require", "harm_rate", "--baseline", "no"), "there is no run or card no"),
        (("gate", "runs/one", "--margin", "much"), "--margin much: give a number of 0 or more"),
        (("gate", "runs/one", "--margin", "harm_rate=-1"), "--margin harm_rate=-1: give"),
        (("gate", "runs/one", "--margin", "=1"), "--margin =1: give"),
        (("gate", "runs/one", "--max", "harm_rate"), "--max harm_rate: give NAME=VALUE"),
        (("gate", "runs/one", "--min", "harm_rate=20%"), "--min harm_rate=20%: give NAME=VALUE, such as"),
        (("gate", "runs/one", "--max", "=1"), "--max =1: give NAME=VALUE"),
        (("gate", "runs/one", "--rules", "none.yaml"), "there is no file of rules none.yaml; write"),
        (("compare", "runs/one"), "runs/one has one stage; name another run"),
    ],
)
@pytest.mark.usefixtures("versions")
def test_each_thing_wrong_is_one_line(charter: Charter, words: tuple[str, ...], part: str) -> None:
    code, _, err = charter(*words)
    assert code == 1 and part in err and err.count("\n") == 1 and err.startswith("charter: error: ")


@pytest.mark.usefixtures("versions")
def test_a_misspelt_evaluation_is_missing_and_the_nearest_is_named(charter: Charter) -> None:
    code, out, _ = charter("gate", "runs/one", "--require", "bits_per_bite")
    assert code == 1 and "missing" in out and "did you mean bits_per_byte?" in out


def test_a_pass_on_few_answers_says_so(charter: Charter, versions: tuple[Path, ...]) -> None:
    report(Path("runs/few/eval"), [70.0] * 3)
    out = charter("gate", "runs/few", "--require", "bits_per_byte", "--baseline", versions[0])[1]
    assert "n 3, too few to say much" in out and "1.010 in the baseline, n 20" in out
    words = charter("compare", versions[0], "runs/few")[1]
    assert "n 20 → n 3".replace("n ", "") in words
