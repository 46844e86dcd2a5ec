"""`charter data import --exam`: a paper in each form becomes items, with a report of every one."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.sandbox import preflight
from charter.ground.text.exam_items import read_items

Charter = Callable[..., tuple[int, str, str]]
LINES = [
    "1. Which planet is the largest?",
    "A. Mars",
    "B. Jupiter",
    "2. The graph below shows its orbit. Which is it?",
    "A. a circle",
    "B. a line",
    "Answer key",
    "1. B",
    "2. A",
]


def pdf(lines: Sequence[str]) -> bytes:
    """A page of Helvetica with a text layer."""
    escaped = [line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines]
    content = "BT /F1 12 Tf 50 760 Td 16 TL " + " ".join(f"({line}) Tj T*" for line in escaped) + " ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>"
    return data + f"{end}\nstartxref\n{len(data)}\n%%EOF\n".encode()


def sandboxed() -> bool:
    try:
        preflight.sandbox()
    except CharterError:
        return False
    return True


@pytest.mark.parametrize("form", ["text", "csv", "jsonl", "pdf"])
def test_a_paper_of_each_form(charter: Charter, tmp_path: Path, form: str) -> None:
    paper = tmp_path / f"paper.{'txt' if form == 'text' else form}"
    if form == "text":
        paper.write_text("\n".join(LINES))
    elif form == "csv":
        rows = ["question,A,B,key", "Which planet is the largest?,Mars,Jupiter,B"]
        paper.write_text("\n".join([*rows, "The graph below shows its orbit. Which is it?,a circle,a line,A"]))
    elif form == "jsonl":
        rows = [
            {"question": LINES[0][3:], "options": ["Mars", "Jupiter"], "answer": "Jupiter"},
            {"question": LINES[3][3:], "options": ["a circle", "a line"], "key": "A"},
        ]
        paper.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pytest.importorskip("pypdfium2")
        if not sandboxed():
            pytest.skip("PDFs are read in a sandbox, and this machine has none")
        paper.write_bytes(pdf(LINES))
    code, out, err = charter("data", "import", paper.name, "--exam", "Own paper", "--to", "items.jsonl")
    assert (code, err) == (0, ""), err
    assert out.startswith("items.jsonl: 2 items: 1 kept, 1 image removed\n") and "items.report.md" in out
    first, second = read_items(tmp_path / "items.jsonl")
    assert (first.question, first.options, first.key) == (LINES[0][3:], ("Mars", "Jupiter"), (1,))
    assert second.image == "removed" and first.source == paper.name and not first.stand_in
    report = (tmp_path / "items.report.md").read_text()
    assert "| Own-paper-1 |" in report and "| image removed | graph below |" in report


def test_a_described_picture_and_what_is_refused(charter: Charter, tmp_path: Path) -> None:
    (tmp_path / "paper.txt").write_text("\n".join(LINES))
    (tmp_path / "seen.jsonl").write_text('{"id": "Own-paper-2", "text": "A round orbit."}\n')
    words = ("data", "import", "paper.txt", "--exam", "Own paper", "--to")
    assert "1 image transcribed by a person" in charter(*words, "a.jsonl", "--pictures", "seen.jsonl")[1]
    (tmp_path / "bad.jsonl").write_text('{"id": "Own-paper-2"}\n')
    (tmp_path / "paper.doc").write_text("x")
    for extra, part in (
        (("b.jsonl", "--pictures", "bad.jsonl"), "bad.jsonl:1: a description needs id"),
        (("b.jsonl", "--kind", "prompts"), "--exam reads items of exams, which have no --kind"),
    ):
        code, _, err = charter(*words, *extra)
        assert code == 1 and part in err and len(err.splitlines()) == 1
    code, _, err = charter("data", "import", "paper.doc", "--exam", "X", "--to", "c.jsonl")
    assert code == 1 and "paper.doc is no exam paper that can be read" in err
    code, _, err = charter("data", "import", "paper.txt", "--pictures", "seen.jsonl", "--to", "c.jsonl")
    assert code == 1 and "name it with --exam" in err
