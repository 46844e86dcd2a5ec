"""Files made to do harm: the reader gives their text or one sentence, and nothing of the machine."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path

import pytest
from strange_files import (
    GOOD,
    PACKED,
    RELATIONS,
    SPACES,
    R,
    epub,
    ods,
    odt,
    open_text,
    pdf,
    pdf_of,
    slides,
    with_member,
    word,
    word_of,
    workbook,
    zipped,
)
from test_documents_golden import refusal

from charter.ground.artifact.errors import CharterError
from charter.ground.documents import reading
from charter.ground.documents.document import Limits, Unreadable
from charter.ground.documents.reading import read_document
from charter.ground.sandbox import preflight
from charter.ground.sandbox.process import Ended, Ending

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(10))
    + ']><x xmlns:w="http://x">&k;</x>'
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'
MEMBERS = {
    "docx": ("word/document.xml", word),
    "pptx": ("ppt/presentation.xml", slides),
    "odt": ("content.xml", odt),
    "epub": ("OEBPS/book.opf", lambda: epub("<html/>")),
    "xlsx": ("xl/workbook.xml", workbook),
    "ods": ("content.xml", ods),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("xml", [LAUGHS, OUTSIDE], ids=["laughs", "outside"])
def test_entities_are_neither_expanded_nor_fetched(kind: str, xml: str) -> None:
    member, make = MEMBERS[kind]
    sentence = refusal(with_member(make(), member, xml))
    assert "declares XML entities" in sentence or "damaged" in sentence or "no text" in sentence


@pytest.mark.parametrize("xml", [LAUGHS, OUTSIDE], ids=["laughs", "outside"])
def test_entities_of_a_chapter_and_of_a_page_stay_words(xml: str) -> None:
    page = xml.replace('<?xml version="1.0"?>', "")
    for data in (epub(xml), epub(page.replace("<x", "<p").replace("</x", "</p")), page.encode()):
        try:
            outcome = read_document(data, "a.html").text
        except Unreadable as error:
            outcome = str(error)
        assert "root:" not in outcome and "haha" not in outcome


def test_an_archive_in_an_archive_stays_closed() -> None:
    inner = zipped({"a.txt": b"\0" * (20 << 20)})
    assert read_document(with_member(word(), "word/embeddings/inner.zip", inner), "a").kind == "docx"


def test_members_with_names_that_lead_outside_are_never_written(tmp_path: Path) -> None:
    evil = with_member(word(), "../../../../tmp/evil", "x")
    assert read_document(with_member(evil, "/etc/evil", "x"), "a").kind == "docx"
    relation = f'<Relationship Id="r1" Type="{R}/officeDocument" Target="../../../../etc/passwd"/>'
    assert "damaged" in refusal(with_member(word(), "_rels/.rels", RELATIONS.format(relation)))
    assert not Path("/tmp/evil").exists()


def test_a_template_from_elsewhere_is_not_fetched() -> None:
    settings = RELATIONS.format(
        f'<Relationship Id="r1" Type="{R}/attachedTemplate" Target="http://192.0.2.1/a.dotm" TargetMode="External"/>'
    )
    evil = with_member(word(), "word/_rels/settings.xml.rels", settings)
    assert read_document(evil, "a.docx").text == GOOD["docx"][1]
    outside = RELATIONS.format(
        f'<Relationship Id="r1" Type="{R}/officeDocument" Target="http://192.0.2.1/x" TargetMode="External"/>'
    )
    assert "archive and no document" in refusal(with_member(word(), "_rels/.rels", outside))


def test_an_archive_that_lies_about_sizes_is_refused() -> None:
    name, content = "xl/lie.xml", b"\0" * 3_000_000
    honest = with_member(workbook(), name, content)
    assert "over 100 times" in refusal(honest)
    lie = honest.replace((3_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lie != honest
    assert "damaged" in refusal(lie)


def test_scripts_of_a_pdf_are_not_run_and_huge_trees_end() -> None:
    script = pdf(["words"], catalog="/OpenAction << /S /JavaScript /JS (while(1){}) >>")
    assert read_document(script, "a.pdf").text == "[page 1]\n\nwords\n"
    loop = pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 999999999 >>"])
    assert refusal(loop)
    nest = pdf_of(["<< /Type /Catalog /Pages 2 0 R >>", "[" * 200_000])
    assert refusal(nest)
    assert refusal(pdf_of(["<< /Type /Catalog /Pages 9 0 R >>"]))


def test_a_stream_of_a_pdf_that_swells_ends_at_a_limit() -> None:
    swollen = zlib.compress(zlib.compress(b"BT (x) Tj ET " * 3_000_000))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
        f"<< /Length {len(swollen)} /Filter [/FlateDecode /FlateDecode] >>\nstream\n"
        f"{swollen.decode('latin-1')}\nendstream",
    ]
    assert refusal(pdf_of(objects), limits=Limits(seconds=2, memory_mb=256))


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 100_000 + "deep" + "</div>" * 100_000,
        "<table><tr><td>" * 5_000 + "deep",
        "<ul><li>" * 20_000 + "deep",
        "<b>" * 100_000 + "deep",
        "<a href='http://x'>" * 20_000 + "deep",
        "deep<!--" + "-" * 500_000,
        "deep" + "<" * 500_000,
        "deep<p " + "a=1 " * 200_000 + ">",
        "deep&" + "#" * 500_000,
    ],
    ids=range(9),
)
def test_pages_made_to_be_slow_or_deep(page: str) -> None:
    assert "deep" in read_document(page.encode(), "a.html").text


def test_xml_of_any_depth_is_text_or_a_sentence() -> None:
    deep = "<w:sdt>" * 5_000 + "</w:sdt>" * 5_000
    assert "damaged" in refusal(word_of(deep))
    assert "damaged" in refusal(open_text("<text:section>" * 5_000 + "</text:section>" * 5_000))
    spaces = open_text('<text:p>a<text:s text:c="999999999"/>b</text:p>')
    assert len(read_document(spaces, "a.odt").text) < 200


def test_a_sheet_with_a_far_corner_is_refused() -> None:
    row = '<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        f"{row.format(1, 'A')}{row.format(1048576, 'XFD')}</sheetData></worksheet>"
    )
    assert refusal(with_member(workbook(), "xl/worksheets/sheet1.xml", sheet))
    repeated = (
        '<table:table-cell table:number-columns-repeated="999999999" office:value-type="float" office:value="1"/>'
    )
    assert read_document(ods_of(repeated), "a.ods").text.count("1") <= 2**15


def ods_of(cells: str) -> bytes:
    return with_member(
        ods(),
        "content.xml",
        f"<office:document-content {SPACES}><office:body><office:spreadsheet><table:table table:name='x'><table:table-row>"
        f"{cells}</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>",
    )


def test_a_sheet_of_two_hundred_thousand_cells_is_read() -> None:
    rows = "".join(
        f'<row r="{n}">' + "".join(f'<c r="{chr(65 + c)}{n}"><v>{n}</v></c>' for c in range(20)) + "</row>"
        for n in range(1, 10_001)
    )
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        f"{rows}</sheetData></worksheet>"
    )
    text = read_document(with_member(workbook(), "xl/worksheets/sheet1.xml", sheet), "a.xlsx").text
    assert text.count("\n10000,") == 1
    assert text.count(",") >= 19 * 10_000


def test_lone_surrogates_and_controls_never_reach_the_text() -> None:
    rtf = rb"{\rtf1 a\u-10179?\u-8704? b\u-10179? c\'00\'01 d\'07}"
    text = read_document(rtf, "a.rtf").text
    text.encode()
    assert text.startswith("a\U0001f600 b\ufffd c")
    assert not {"\0", "\1", "\7"} & set(text)
    read_document(b"<p>a&#xD800;b&#0;c", "a.html").text.encode()


# the sandbox and what it is told


def believe(stdout: str, how: Ending = Ending.EXITED, stderr: str = "") -> str:
    ended = Ended(how, 0, stdout, stderr, 0.0)
    with pytest.raises(Unreadable) as error:
        reading._believed(reading._outcome(ended, Limits()), Limits())
    return str(error.value)


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"kind": "exe", "text": "a", "pages": []}',
        '{"kind": "pdf", "text": 1, "pages": []}',
        '{"kind": "pdf", "text": "a", "pages": [2]}',
        '{"kind": "pdf", "text": "abc", "pages": [2, 1]}',
        '{"kind": "pdf", "text": "abc", "pages": [-1]}',
        '{"kind": "pdf", "text": "abc", "pages": [0.5]}',
        '{"kind": "pdf", "text": "abc", "pages": [true]}',
        '{"kind": "pdf", "text": "abc", "pages": ["a"]}',
        '{"kind": ["pdf"], "text": "abc", "pages": []}',
        '{"kind": "pdf", "text": "\\ud800", "pages": []}',
        '{"kind": "pdf", "text": "\\u0000", "pages": []}',
        '{"refused": 5}',
        f'{{"kind": "pdf", "text": "a", "pages": {[0] * 2001}}}',
    ],
)
def test_a_parser_that_was_taken_over_is_not_believed(stdout: str) -> None:
    assert "its parser broke down" in believe(stdout)


def test_each_end_of_a_parser_is_one_sentence() -> None:
    assert "over 20 seconds" in believe("", Ending.TIMED_OUT)
    assert "over 1024 MB of memory" in believe("", Ending.OUT_OF_MEMORY)
    assert "over 1024 MB of memory" in believe("", Ending.EXITED, "MemoryError")
    assert "over 5,000,000 characters" in believe("", Ending.TOO_MUCH_OUTPUT)
    assert "broke down" in believe("", Ending.KILLED)
    assert "has failed" in believe("", Ending.ENVIRONMENT_FAILED)
    assert "has failed" in believe("", Ending.EXITED, "ModuleNotFoundError: x")
    assert len(believe(f'{{"refused": "{"x" * 999}\\ud800"}}')) == 300


PROGRAMS = {
    "hangs": ("import time; time.sleep(600)", "over 1 seconds"),
    "burns": ("while True: pass", "over 1 seconds"),
    "eats": ("x = bytearray(1 << 40)", "of memory"),
    "floods": ("while True: print('x' * 65536)", "characters"),
    "dies": ("import os; os.abort()", "broke down"),
    "forges": ("print({'kind': 'pdf'})", "broke down"),
    "looks": (
        "import os; assert not os.path.exists('/etc/passwd'); open('/box/x', 'w'); raise SystemExit",
        "broke down",
    ),
    "calls": (
        "import socket; socket.create_connection(('192.0.2.1', 9), 1); print('{\"refused\": \"reached\"}')",
        "broke down",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_parser_gone_wrong_is_contained(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, part = PROGRAMS[name]
    monkeypatch.setattr(reading, "_RUN", program.replace("{", "{{").replace("}", "}}"))
    limits = Limits(seconds=1, memory_mb=256, characters=10_000)
    assert part in refusal(GOOD["pdf"][0], limits=limits)


def test_a_sandbox_that_is_killed_costs_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> Ended:
        return Ended(Ending.ENVIRONMENT_FAILED, 0, "", "", 0.0, "killed from outside")

    monkeypatch.setattr(reading, "run", killed)
    assert "send the file again" in refusal(GOOD["pdf"][0])


def test_two_files_are_parsed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave, count = threading.Semaphore(0), threading.Event(), []

    def wait(*_: object, **__: object) -> Ended:
        count.append(1)
        entered.release()
        assert leave.wait(60)
        return Ended(Ending.KILLED, 9, "", "", 0.0)

    def read() -> None:
        with pytest.raises(Unreadable):
            read_document(GOOD["pdf"][0], "a.pdf")

    monkeypatch.setattr(reading, "run", wait)
    threads = [threading.Thread(target=read) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert entered.acquire(timeout=60) and entered.acquire(timeout=60)
    assert not entered.acquire(timeout=0.3) and len(count) == 2
    leave.set()
    for thread in threads:
        thread.join(60)
    assert len(count) == 5


def test_without_a_sandbox_only_plain_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise CharterError("running written code refuses to run, as no sandbox works here")

    monkeypatch.setattr(preflight, "sandbox", none)
    for kind, (data, text) in GOOD.items():
        if kind in ("text", "markdown", "code", "csv", "json"):
            assert read_document(data, f"a.{kind}").text == text
        else:
            assert "this machine has none" in refusal(data, f"a.{kind}")


def test_a_missing_library_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "missing", lambda extra: ("pypdfium2",))
    with pytest.raises(Unreadable, match=r"needs .*, which the extra documents brings: pip install"):
        read_document(GOOD["pdf"][0], "a.pdf")
