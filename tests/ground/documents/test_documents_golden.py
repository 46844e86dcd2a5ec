"""Every format, good and spoilt: the text that stands here, or exactly one plain sentence (criterion 9)."""

from __future__ import annotations

import pytest
from strange_files import (
    CHAPTER,
    GOOD,
    LOCKED_OFFICE,
    LOCKED_PDF,
    OLE,
    PACKED,
    SCANNED,
    epub,
    locked,
    named,
    ods,
    odt,
    open_text,
    pdf,
    with_member,
    word_of,
    zipped,
)

from charter.ground.documents.document import Limits, Unreadable
from charter.ground.documents.reading import read_document

VERBATIM = ("text", "markdown", "code", "csv", "json")
BOMB = b"\0" * (30 << 20)
KINDS = sorted(GOOD)


def refusal(data: bytes, name: str = "file", limits: Limits | None = None) -> str:
    """The sentence with which a file is refused: one, that tells what to do, and nothing of the machine's insides."""
    with pytest.raises(Unreadable) as error:
        read_document(data, name, limits or Limits())
    sentence = str(error.value)
    assert sentence.endswith(".") or sentence.endswith(".)")
    assert sentence.count(". ") == 0 and len(sentence) < 250
    assert not {"Traceback", "Error", "lxml", "/box"} & set(sentence.split())
    return sentence


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_gives_its_golden_text(kind: str) -> None:
    data, text = GOOD[kind]
    document = read_document(data, named(kind))
    assert (document.kind, document.text) == (kind, text)
    assert [text[page:].partition(" ")[0] for page in document.pages] == {
        "pdf": ["[page"] * 2,
        "pptx": ["[slide"] * 2,
    }.get(kind, [])


@pytest.mark.parametrize("kind", sorted({*KINDS} - {*VERBATIM}))
def test_a_wrong_ending_changes_nothing(kind: str) -> None:
    data, text = GOOD[kind]
    ending = "docx" if kind == "pdf" else "pdf"
    document = read_document(data, f"wrong.{ending}")
    assert (document.kind, document.text, document.name) == (kind, text, f"wrong.{ending}")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_file_is_refused(kind: str) -> None:
    assert "There is no text in this file" in refusal(b"", named(kind))


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"<html><body><script>x</script></body></html>", "shows no text"),
        (pdf([""]), "There is no text in this PDF"),
        (word_of(""), "There is no text"),
        (open_text(""), "There is no text"),
        (epub(), "There is no text"),
        (epub("<html><body/></html>"), "There is no text"),
        (rb"{\rtf1\ansi}", "There is no text"),
        (zipped({}), "archive and no document"),
    ],
    ids=("html", "pdf", "docx", "odt", "epub", "chapter", "rtf", "zip"),
)
def test_a_document_without_text_is_refused(data: bytes, part: str) -> None:
    assert part in refusal(data)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {*VERBATIM, "html"}))
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_breaks_off_is_refused(kind: str, share: float) -> None:
    data = GOOD[kind][0]
    assert "damaged or cut off" in refusal(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", PACKED)
def test_a_locked_archive_is_refused(kind: str) -> None:
    assert "locked with a password" in refusal(locked(GOOD[kind][0]))


@pytest.mark.parametrize(
    "data",
    [
        LOCKED_PDF,
        LOCKED_OFFICE,
        open_text("", "<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"),
        with_member(ods(), "META-INF/manifest.xml", "<m><encryption-data/></m>"),
        epub(CHAPTER, encryption="<e><CipherReference URI='OEBPS/text/c%200.xhtml'/></e>"),
    ],
    ids=("pdf", "office", "odt", "ods", "epub"),
)
def test_each_way_of_locking_is_told(data: bytes) -> None:
    assert "locked with a password" in refusal(data)


def test_a_book_whose_fonts_are_locked_is_read() -> None:
    book = epub(CHAPTER.format("one"), encryption="<e><CipherReference URI='OEBPS/font.otf'/></e>")
    assert read_document(book, "a.epub").text == "## one\n\nWords of one.\n"


@pytest.mark.parametrize("kind", PACKED)
def test_a_bomb_is_refused_before_it_is_unpacked(kind: str) -> None:
    bomb = with_member(GOOD[kind][0], "bomb.xml", BOMB)
    assert "over 100 times its size" in refusal(bomb)
    assert "bytes, and at most 29 MB are unpacked" in refusal(bomb, limits=Limits(unpacked_mb=29))
    many = with_member(GOOD[kind][0], "more.xml", b"abc" * 1000)
    assert "members, and at most 3 are" in refusal(many, limits=Limits(members=3))


def test_a_document_of_more_pages_than_may_be_read_is_refused_with_both_numbers() -> None:
    assert "5,000 pages, and at most 2,000" in refusal(pdf(["x"] * 5000))
    assert "2 slides, and at most 1" in refusal(GOOD["pptx"][0], limits=Limits(pages=1))
    assert len(read_document(pdf(["x"] * 2000), "a.pdf").pages) == 2000


@pytest.mark.parametrize("kind", KINDS)
def test_more_characters_than_may_be_read_are_refused(kind: str) -> None:
    data, text = GOOD[kind]
    assert "characters, and" in refusal(data, named(kind), Limits(characters=len(text) - 6))


def test_pictures_of_pages_are_named_as_what_they_are() -> None:
    assert refusal(SCANNED) == "This PDF holds pictures of pages; no text could be read."
    some = read_document(pdf(["", "words"], more="10 10 200 200 re f"), "a.pdf")
    assert some.text == "[page 1]\n\n[a picture; no text could be read]\n\n[page 2]\n\nwords\n"


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "is a picture and no document"),
        (b"\x7fELF\x02\0", "is a program"),
        (b"\x1f\x8b\x08\0\0", "is an archive"),
        (b"\1\2\3\0", "NUL bytes"),
        (OLE, "format of Office before 2007"),
        (zipped({"a.txt": "words"}), "is an archive and no document"),
    ],
    ids=("png", "program", "gz", "binary", "doc", "zip"),
)
def test_what_is_no_document_is_told_what_it_is(data: bytes, part: str) -> None:
    assert part in refusal(data, "a.txt")


def test_a_text_may_speak_of_other_formats() -> None:
    for words in ("BM is a prefix", "ID3 tags", "RIFF files", "GIF89 or PK"):
        assert read_document(words.encode(), "a.md").text == words
    assert read_document(b"A file that begins with %PDF-1.4 is a PDF.", "a.txt").kind == "text"
    assert read_document(b"\n\n" + GOOD["pdf"][0], "a").kind == "pdf"


def test_more_of_docx() -> None:
    paragraph = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"
    body = (
        f"<w:sdt><w:sdtContent>{paragraph.format('in a control')}</w:sdtContent></w:sdt>"
        "<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t xml:space='preserve'> new</w:t><w:tab/><w:t>x</w:t><w:br/><w:t>y</w:t></w:r></w:ins>"
        "<w:r><w:footnoteReference w:id='2'/></w:r></w:p>"
        f"<w:p><w:r><w:pict><w:txbxContent>{paragraph.format('boxed')}</w:txbxContent></w:pict></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p/><w:tbl><w:tr><w:tc><w:p><w:r><w:t>inner</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:tc>"
        f"<w:tc>{paragraph.format('outer')}</w:tc></w:tr></w:tbl>"
    )
    notes = f'<w:f xmlns:w="http://x"><w:n w:type="separator">{paragraph.format("no")}</w:n><w:n w:id="2">{paragraph.format("a note")}</w:n></w:f>'
    document = read_document(word_of(body, {"footnotes": notes}), "a.docx")
    assert document.text == ("in a control\n\nkept new\tx\ny[^2]\n\nboxed\n\n| inner | outer |\n\n[^2]: a note\n")


def test_pages_in_other_encodings_and_shapes() -> None:
    german = '<html><head><meta charset="iso-8859-1"></head><body>Gr\u00fc\u00dfe</body></html>'
    assert read_document(german.encode("latin-1"), "a.html").text == "Gr\u00fc\u00dfe\n"
    assert read_document(german.encode("utf-16"), "a.html").text == "Gr\u00fc\u00dfe\n"
    lying = german.replace("iso-8859-1", "no-such").encode()
    assert read_document(lying, "a.html").text == "Gr\u00fc\u00dfe\n"
    assert read_document(b"just words", "a.html").text == "just words\n"
    chapter = "<html><body><p>not&nbsp;XML<br>at all</body></html>"
    assert read_document(epub(chapter), "a.epub").text == "not\u00a0XML\nat all\n".replace("\u00a0", " ")


def test_odt_in_a_wrong_order_of_members_is_still_one() -> None:
    assert read_document(with_member(odt(), "a.txt", "x"), "a").kind == "odt"
