"""Small files of every format, written here byte by byte or by other people's libraries, and ways to spoil them."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache

import docx
import openpyxl
import pptx

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
OFFICE = "application/vnd.openxmlformats-officedocument."
RELATIONS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
OPEN = "urn:oasis:names:tc:opendocument:xmlns:"
SPACES = " ".join(f'xmlns:{name}="{OPEN}{name}:1.0"' for name in ("office", "text", "table", "manifest"))


def zipped(members: Mapping[str, str | bytes], compress: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_member(data: bytes, name: str, content: str | bytes) -> bytes:
    """An archive with one more member, or another content of one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    return zipped({**members, name: content})


def locked(data: bytes) -> bytes:
    """An archive whose members say that they are encrypted."""
    changed = bytearray(data)
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found = changed.find(signature)
        while found >= 0:
            changed[found + place] |= 1
            found = changed.find(signature, found + 4)
    return bytes(changed)


def pdf(pages: Sequence[str], more: str = "", trailer: str = "", catalog: str = "") -> bytes:
    """A PDF with lines of text on each page; `more` stands in every page's content, before the text."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        lines = " ".join(f"({line}) Tj T*" for line in page.split("\n") if line)
        content = f"{more} BT /F1 12 Tf 72 700 Td 14 TL {lines} ET"
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * number} 0 R >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    return pdf_of(objects, trailer)


def pdf_of(objects: Sequence[str], trailer: str = "") -> bytes:
    text, places = "%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(text))
        text += f"{number} 0 obj\n{one}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    text += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer << /Size {size} /Root 1 0 R {trailer} >>\n"
    return (text + f"startxref\n{text.index('xref')}\n%%EOF\n").encode("latin-1")


@cache
def word() -> bytes:
    document = docx.Document()
    document.add_heading("A report", 0)
    document.add_paragraph("First paragraph.")
    document.add_heading("Numbers", 2)
    document.add_paragraph("one item", style="List Bullet")
    document.add_paragraph("another", style="List Number")
    table = document.add_table(2, 2)
    for place, words in enumerate(("name", "count", "pears", "3\nor 4")):
        table.cell(place // 2, place % 2).text = words
    document.add_paragraph("The end.")
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def word_of(body: str, more: Mapping[str, str] | None = None) -> bytes:
    """A DOCX whose body is written as XML; `more` are parts by their relation's type."""
    parts = more or {}
    relations = "".join(f'<Relationship Id="r{kind}" Type="{R}/{kind}" Target="{kind}.xml"/>' for kind in parts)
    return zipped(
        {
            "[Content_Types].xml": "<Types><Override PartName='/word/document.xml' "
            f"ContentType='{OFFICE}wordprocessingml.document.main+xml'/></Types>",
            "_rels/.rels": RELATIONS.format(
                f'<Relationship Id="r1" Type="{R}/officeDocument" Target="word/document.xml"/>'
            ),
            "word/document.xml": body
            if body.startswith("<?xml")
            else f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
            "word/_rels/document.xml.rels": RELATIONS.format(relations),
            **{f"word/{kind}.xml": content for kind, content in parts.items()},
        }
    )


@cache
def workbook() -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Fruit"
    book.active.append(["name", "count", "price"])
    book.active.append(["pears, ripe", 3, 0.25])
    book.active.append(["plums", None, datetime.datetime(2024, 5, 6, 7, 8)])
    book.create_sheet("Empty")
    book.create_sheet("Two").append([True, 'say "hi"'])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


@cache
def slides(count: int = 2) -> bytes:
    show = pptx.Presentation()
    for number in range(1, count + 1):
        slide = show.slides.add_slide(show.slide_layouts[5])
        slide.shapes.title.text = f"Slide {number}"
    table = slide.shapes.add_table(1, 2, 0, 0, 9, 9).table
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    slide.notes_slide.notes_text_frame.text = "say this"
    buffer = io.BytesIO()
    show.save(buffer)
    return buffer.getvalue()


def open_text(body: str, manifest: str = "") -> bytes:
    content = f"<office:document-content {SPACES}><office:body><office:text>{body}</office:text></office:body></office:document-content>"
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": content,
            "META-INF/manifest.xml": f"<manifest:manifest {SPACES}>{manifest}</manifest:manifest>",
        }
    )


def odt() -> bytes:
    return open_text(
        '<text:h text:outline-level="2">A head</text:h><text:p>Two<text:s text:c="2"/>gaps<text:tab/>and '
        "<text:span>a span</text:span>.<text:note><text:note-body><text:p>a note</text:p></text:note-body></text:note></text:p>"
        "<text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>deep</text:p></text:list-item>"
        "</text:list></text:list-item></text:list><table:table><table:table-row><table:table-cell><text:p>l</text:p>"
        "</table:table-cell><table:table-cell><text:p>r</text:p></table:table-cell></table:table-row></table:table>"
        "<text:p>End.</text:p>"
    )


def ods() -> bytes:
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    row = f'<table:table-row>{cell.format("pears")}<table:table-cell office:value-type="float" office:value="3"/></table:table-row>'
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": f'<office:document-content {SPACES}><office:body><office:spreadsheet><table:table table:name="Fruit">'
            f"{row}</table:table></office:spreadsheet></office:body></office:document-content>",
            "META-INF/manifest.xml": f"<manifest:manifest {SPACES}></manifest:manifest>",
        }
    )


def epub(*chapters: str, encryption: str = "") -> bytes:
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": f"<package><manifest>{items}</manifest><spine>{order}</spine></package>",
    }
    for number, chapter in enumerate(chapters):
        members[f"OEBPS/text/c {number}.xhtml"] = chapter
    if encryption:
        members["META-INF/encryption.xml"] = encryption
    return zipped(members)


PAGE = (
    "<!DOCTYPE html><html><head><title>no</title><style>no</style></head><body><h1>A  page</h1><p>One &amp; <b>two</b>."
    '<p>A <a href="https://example.org/x">link</a>, <a href="javascript:alert(1)">none</a>.<ul><li>a<ul><li>b</ul><li>c</ul>'
    "<ol><li>x<li>y</ol><table><tr><th>l<th>r<tr><td>1<td><p>2<p>3</table><script>no()</script><p hidden>no</p>"
    '<p style="display: none">no</p><pre>  a\n    b</pre><!-- no -->end</body></html>'
)
PAGE_TEXT = (
    "# A page\n\nOne & two.\n\nA link (https://example.org/x), none.\n\n- a\n  - b\n- c\n\n1. x\n2. y\n\n"
    "| l | r |\n| 1 | 2 3 |\n\n  a\n    b\n\nend\n"
)
CHAPTER = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body><h2>{0}</h2><p>Words of <a id="x"/>{0}.</p></body></html>'

GOOD: dict[str, tuple[bytes, str]] = {
    "text": (b"Plain words.\n", "Plain words.\n"),
    "markdown": (b"# Head\n\n* one\n", "# Head\n\n* one\n"),
    "code": (b"def f():\n\treturn 1\n", "def f():\n\treturn 1\n"),
    "csv": (b'a;b\r\n"x;y";2\r\n', 'a;b\r\n"x;y";2\r\n'),
    "json": (b'{"a": [1,  2], "b": "\\ud800"}', '{"a": [1,  2], "b": "\\ud800"}'),
    "html": (PAGE.encode(), PAGE_TEXT),
    "pdf": (pdf(["Page one\nends here", "Page two"]), "[page 1]\n\nPage one\nends here\n\n[page 2]\n\nPage two\n"),
    "docx": (
        word(),
        "# A report\n\nFirst paragraph.\n\n## Numbers\n\n- one item\n- another\n\n| name | count |\n| pears | 3 or 4 |\n\nThe end.\n",
    ),
    "xlsx": (
        workbook(),
        '# Fruit\n\nname,count,price\n"pears, ripe",3,0.25\nplums,,2024-05-06 07:08:00\n\n# Two\n\nTrue,"say ""hi"""\n',
    ),
    "pptx": (slides(), "[slide 1]\n\n# Slide 1\n\n[slide 2]\n\n# Slide 2\n\n| left | right |\n\nNotes: say this\n"),
    "odt": (odt(), "## A head\n\nTwo  gaps\tand a span. [a note]\n\n- one\n  - deep\n\n| l | r |\n\nEnd.\n"),
    "ods": (ods(), "# Fruit\n\npears,3\n"),
    "epub": (
        epub(CHAPTER.format("one"), CHAPTER.format("two")),
        "## one\n\nWords of one.\n\n## two\n\nWords of two.\n",
    ),
    "rtf": (
        rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\*\generator no;}A \b bold\b0  word, \u8364? and caf\'e9.\par Next.}",
        "A bold word, \u20ac and caf\u00e9.\nNext.\n",
    ),
}
ENDINGS = {"text": "txt", "markdown": "md", "code": "py"}
PACKED = ("docx", "xlsx", "pptx", "odt", "ods", "epub")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
LOCKED_OFFICE = OLE + "EncryptedPackage".encode("utf-16-le") + bytes(480)
LOCKED_PDF = pdf(
    ["secret"],
    trailer="/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <"
    + "11" * 32
    + "> /U <"
    + "22" * 32
    + "> >>",
)
SCANNED = pdf(["", ""], more="10 10 200 200 re f")


def named(kind: str) -> str:
    return f"file.{ENDINGS.get(kind, kind)}"
