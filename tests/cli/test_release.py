"""compare and gate at the command line: groups, tables, JSON, exit codes, one line for each error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from reports import report

Charter = Callable[..., tuple[int, str, str]]
WORSE = [73.0 + 0.1 * (-1) ** i for i in range(20)]


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three runs of one report: bits per byte stay, then rise significantly by 0.043."""
    runs = [tmp_path / f"runs/{name}" for name in ("one", "two", "three")]
    for run, nats in zip(runs, ([70.0] * 20, [70.0] * 20, WORSE), strict=True):
        report(run / "eval", nats)
    return runs[0], runs[1], runs[2]


def test_two_versions_stand_in_groups_with_the_verdict(charter: Charter, versions: tuple[Path, ...]) -> None:
    code, out, _ = charter("compare", versions[0], versions[2])
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert code == 0 and lines[1] == ["Losses", "(1)"]
    assert lines[2][:4] == ["bits_per_byte", "1.01", "1.05", "+0.0433"] and len(lines) == 3
    assert charter("compare", versions[2], versions[0])[1].splitlines()[1].strip() == "Gains (1)"
    same = charter("compare", versions[0], versions[1])[1]
    assert "Not significant (1)" in same and "Losses" not in same
    (row,) = json.loads(charter("compare", versions[0], versions[2], "--json")[1])["metrics"]
    assert row["verdict"] == "worse" and row["regression"] and row["paired"] == 20


def test_what_is_not_compared_stands_under_its_reason(charter: Charter, versions: tuple[Path, ...]) -> None:
    path = versions[0] / "eval/report.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"identity": content["identity"] | {"text": {"data": "other"}}}))
    out = charter("compare", versions[0], versions[2])[1].splitlines()
    assert out == ["Not compared (1)", "  made differently: text.data differs: bits_per_byte"]


def test_more_versions_are_tracked_and_drops_named(charter: Charter, versions: tuple[Path, ...]) -> None:
    code, out, _ = charter("compare", *versions)
    (row,) = (line.split() for line in out.splitlines() if line.startswith("bits_per_byte"))
    assert code == 0 and row == ["bits_per_byte", "1.01", "1.01", "1.05", "▼", "+0.0433", "▼"]
    assert "Dropped: bits_per_byte" in out
    record = json.loads(charter("compare", *versions, "--json")[1])
    assert record["metrics"][0]["dropped"] and len(record["versions"]) == 3
    assert "Nothing dropped." in charter("compare", *versions[:2], versions[0])[1]


def test_the_gate_says_pass_or_fail_and_exits_so(charter: Charter, versions: tuple[Path, ...]) -> None:
    ask = ("gate", versions[2], "--require", "bits_per_byte")
    assert charter(*ask) == (0, f"pass  bits_per_byte: 1.05\n{versions[2]} passes the gate\n", "")
    against = (*ask, "--baseline", versions[0])
    code, out, err = charter(*against, "--margin", "0.02")
    assert code == 1 and out.startswith("FAIL  bits_per_byte: regressed beyond 0.020: worse by 0.043 (95 %")
    assert err == f"charter: error: {versions[2]} does not pass the gate: bits_per_byte\n"
    assert charter(*against, "--margin", "0.02", "--margin", "bits_per_byte=0.06")[0] == 0
    assert charter(*against, "--margin", "0.06", "--margin", "bits_per_byte=0.02")[0] == 1
    assert charter(*against, "--margin", "0.06", "--strict")[0] == 0
    code, out, _ = charter(*ask[:2], "--require", "harm_rate,bits_per_byte", "--json")
    record = json.loads(out)
    assert code == 1 and record["passed"] is False
    assert [row["passed"] for row in record["evaluations"]] == [False, True]


def test_rules_stand_in_a_file_and_flags_go_before_it(
    charter: Charter, versions: tuple[Path, ...], tmp_path: Path
) -> None:
    (tmp_path / "gate.yaml").write_text("baseline: runs/one\nrequire: [bits_per_byte]\nmargin: 0.02\n")
    assert charter("gate", "runs/three", "--rules", "gate.yaml")[0] == 1
    assert charter("gate", "runs/three", "--rules", "gate.yaml", "--margin", "0.06")[0] == 0
    assert charter("gate", "runs/three", "--rules", "gate.yaml", "--baseline", "runs/three")[0] == 0
    assert charter("gate", "runs/two", "--rules", "gate.yaml", "--require", "harm_rate")[0] == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("gate", "runs/one"), "the gate asks for nothing"),
        (("gate", "runs/none", "--require", "harm_rate"), "there is no run or card runs/none"),
        (
            ("gate", "runs/one", "--require", "bits_per_bite"),
            "runs/one does not pass the gate: bits_per_bite",
        ),
        (("gate", "runs/one", "--require", "harm_rate", "--baseline", "no"), "there is no run or card no"),
        (("gate", "runs/one", "--margin", "much"), "--margin much: give a number of 0 or more"),
        (("gate", "runs/one", "--margin", "harm_rate=-1"), "--margin harm_rate=-1: give"),
        (("gate", "runs/one", "--margin", "=1"), "--margin =1: give"),
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
