"""Files that are ZIP archives: which format one is, by its members, and its text.

    docx        paragraphs and tables in the order of the body, headings and list items marked; then the notes
    xlsx, ods   each sheet as CSV below its name, with the values that the program last computed
    pptx        the words and tables of each slide in its order, its title marked, and the speaker's notes
    epub        the chapters in the order of reading
    odt         as docx, with notes where they are referred to

Content controls, text boxes and inserted text are read; deleted text, headers and footers are not.
"""

import csv
import io
import itertools
import posixpath
import zipfile
import zlib
from typing import Any
from urllib.parse import unquote

import python_calamine
from lxml import etree

from charter.ground.documents.parsing.html import write_page
from charter.ground.documents.parsing.outcome import Damaged, Locked, Refused, Text, row

_SMALL = 1 << 20  # bytes unpacked below which a member may be of any ratio
_SKIPPED = {"pPr", "rPr", "tblPr", "trPr", "tcPr", "sectPr", "sdtPr", "del", "moveFrom", "Fallback", "instrText"}
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_ITEM = "- "
_NOTES = {"footnoteReference": "", "endnoteReference": "e"}
_ROWS = 1000  # rows of a sheet that become text at once
_SLIDE_MARKS = {"br": "\n", "tab": "\t"}
_OPEN_SKIPPED = {"tracked-changes", "annotation", "annotation-end", "sequence-decls", "forms", "title", "desc"}
_WIDEST = 100  # spaces that one element may stand for
_TYPES = {"word": "docx", "excel": "xlsx", "spreadsheet": "xlsx", "powerpoint": "pptx", "presentation": "pptx"}
_OPEN = "application/vnd.oasis.opendocument."


class Package:
    """A ZIP archive whose members are within bounds. Raises Refused if they aren't, Locked, and Damaged."""

    def __init__(self, data: bytes, text: Text) -> None:
        self.data = data
        try:
            self.archive = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            raise Damaged() from None
        bounds, members = text.bounds, self.archive.infolist()
        if len(members) > bounds.members:
            raise Refused(
                f"This file packs {len(members):,} members, and at most {bounds.members:,} are unpacked; "
                "save it again from the program that made it."
            )
        if any(member.flag_bits & 1 for member in members):
            raise Locked()
        size = sum(member.file_size for member in members)
        if size > bounds.unpacked:
            raise Refused(
                f"This file unpacks to {size:,} bytes, and at most {bounds.unpacked >> 20} MB are unpacked; "
                "send a part of it."
            )
        for member in members:
            if member.file_size > max(_SMALL, bounds.ratio * member.compress_size):
                raise Refused(
                    f"A member of this file unpacks to over {bounds.ratio} times its size, as none of a document "
                    "does; it is not read."
                )
        self.names = {member.filename for member in members}

    def read(self, name: str) -> bytes:
        """The bytes of a member; Damaged if it isn't there or isn't whole."""
        try:
            return self.archive.read(name)
        except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError):
            raise Damaged() from None

    def check(self) -> None:
        """Damaged unless every member is whole and as large as the archive says."""
        for name in self.names:
            self.read(name)

    def xml(self, name: str) -> Any:
        """The root element of a member. Entities are refused, and nothing outside the file is read."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(self.read(name), parser)
        except (etree.XMLSyntaxError, ValueError):
            raise Damaged() from None
        declared = root.getroottree().docinfo.internalDTD
        if declared is not None and next(declared.iterentities(), None) is not None:
            raise Refused("This file declares XML entities, as no document does; it is not read.")
        return root

    def parts(self, name: str) -> dict[str, tuple[str, str]]:
        """What a part of an office document refers to inside the file, by id: the last word of the relation's type,
        and the part's name."""
        folder, _, file = name.rpartition("/")
        relations = posixpath.join(folder, "_rels", f"{file}.rels")
        if relations not in self.names:
            return {}
        return {
            relation.get("Id", ""): (
                relation.get("Type", "").rpartition("/")[2],
                inside(folder, relation.get("Target", "")),
            )
            for relation in self.xml(relations).iterchildren("{*}Relationship")
            if relation.get("TargetMode") != "External"
        }


def inside(folder: str, target: str) -> str:
    """The member that a reference names, seen from a folder of the archive; it never leads out of the archive."""
    path = unquote(target.partition("#")[0])
    return posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")


def local(element: Any) -> str:
    """The name of an element without its namespace; "" for comments and instructions."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Any, name: str) -> str:
    """The value of an attribute in whatever namespace, or ""."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def write_word(package: Package, main: str, text: Text) -> None:
    """Append the document whose main part is `main` to `text`."""
    parts = dict(package.parts(main).values())
    marks = _marks(package.xml(parts["styles"])) if parts.get("styles") in package.names else {}
    for block in package.xml(main).iterchildren("{*}body"):
        _write_blocks(block, marks, text)
    for kind, prefix in (("footnotes", ""), ("endnotes", "e")):
        if parts.get(kind) in package.names:
            for note in package.xml(parts[kind]):
                if not attribute(note, "type"):  # others are lines that separate notes
                    text.block(f"[^{prefix}{attribute(note, 'id')}]: {_words(note).strip()}")


def _marks(styles: Any) -> dict[str, str]:
    """What marks a paragraph of a style as a heading or an item of a list, by the style's id."""
    marks = dict[str, str]()
    for style in styles.iterchildren("{*}style"):
        name = next((attribute(element, "val") for element in style.iterchildren("{*}name")), "").lower()
        kind, _, number = name.partition(" ")
        if kind == "heading" and number.isdecimal():
            marks[attribute(style, "styleId")] = "#" * max(1, min(int(number[:2]), 6)) + " "
        elif name == "title":
            marks[attribute(style, "styleId")] = "# "
        elif next(style.iterfind("{*}pPr/{*}numPr"), None) is not None:
            marks[attribute(style, "styleId")] = _ITEM
    return marks


def _write_blocks(parent: Any, marks: dict[str, str], text: Text) -> None:
    for child in parent:
        name = local(child)
        if name == "p":
            _write_paragraph(child, marks, text)
        elif name == "tbl":
            text.gap()
            for line in child.iter("{*}tr"):
                if next(line.iterancestors("{*}tbl")) is child:  # not of a table in a cell
                    text.line(row([_words(cell) for cell in line.iter("{*}tc") if _row_of(cell) is line]))
            text.gap()
        elif name and name not in _SKIPPED:
            _write_blocks(child, marks, text)


def _row_of(cell: Any) -> Any:
    return next(cell.iterancestors("{*}tr"), None)


def _write_paragraph(paragraph: Any, marks: dict[str, str], text: Text) -> None:
    mark = ""
    for setting in paragraph.iterfind("{*}pPr/*"):
        if local(setting) == "pStyle":
            mark = marks.get(attribute(setting, "val"), "")
        elif local(setting) == "numPr" and not mark:
            mark = _ITEM
    words = _words(paragraph).strip()
    if mark == _ITEM and words:
        text.line(f"{_ITEM}{words}")
    elif words:
        text.block(f"{mark}{words}")


def _words(element: Any) -> str:
    """All words in an element; a line end after each paragraph that it holds."""
    pieces = list[str]()
    _collect(element, pieces)
    return "".join(pieces)


def _collect(element: Any, pieces: list[str]) -> None:
    for child in element:
        name = local(child)
        if name == "t":
            pieces.append(child.text or "")
        elif name in _MARKS:
            pieces.append(_MARKS[name])
        elif name in _NOTES:
            pieces.append(f"[^{_NOTES[name]}{attribute(child, 'id')}]")
        elif name and name not in _SKIPPED:
            _collect(child, pieces)
            if name == "p":
                pieces.append("\n")


def write_sheets(data: bytes, kind: str, text: Text) -> None:
    """Append the sheets of a workbook to `text`."""
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        for name in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(name)
            if sheet.start is not None:
                text.block(f"# {' '.join(name.split())}")
                _write_rows(sheet, text)
    except python_calamine.PasswordError:
        raise Locked(kind.upper()) from None
    except (python_calamine.CalamineError, OSError):
        raise Damaged(kind.upper()) from None


def _write_rows(sheet: python_calamine.CalamineSheet, text: Text) -> None:
    rows = sheet.iter_rows()
    while some := list(itertools.islice(rows, _ROWS)):
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([_typed(value) for value in row] for row in some)
        text.add(lines.getvalue())


def _typed(value: object) -> str:
    """A value as a person would type it: a whole number without a fraction."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def write_slides(package: Package, main: str, text: Text) -> None:
    """Append the presentation whose main part is `main` to `text`; slides are its pages."""
    parts = package.parts(main)
    ids = [
        attribute_of_relation(slide)
        for slides in package.xml(main).iterchildren("{*}sldIdLst")
        for slide in slides.iterchildren("{*}sldId")
    ]
    names = [parts[relation][1] for relation in ids if relation in parts]
    text.check_pages(len(names), "slides")
    for number, name in enumerate(names, 1):
        text.page(f"[slide {number}]")
        _write_shapes(package.xml(name), text)
        for kind, notes in package.parts(name).values():
            if kind == "notesSlide" and notes in package.names:
                words = "\n".join(_slide_words(body) for body in _bodies(package.xml(notes), {"body"})).strip()
                text.block(f"Notes: {words}" if words else "")


def attribute_of_relation(slide: Any) -> str:
    """The id of the relation to a slide; its own id, in no namespace, has the same name."""
    return next((value for key, value in slide.attrib.items() if key.endswith("}id")), "")


def _write_shapes(parent: Any, text: Text) -> None:
    for child in parent:
        name = local(child)
        if name == "sp":
            title = _placeholder(child) in ("title", "ctrTitle")
            for body in child.iterchildren("{*}txBody"):
                words = _slide_words(body).strip()
                text.block(f"# {' '.join(words.split())}" if title and words else words)
        elif name == "tbl":
            text.gap()
            for line in child.iterchildren("{*}tr"):
                text.line(row([_slide_words(cell) for cell in line.iterchildren("{*}tc")]))
            text.gap()
        elif name and name != "Fallback":
            _write_shapes(child, text)


def _bodies(slide: Any, kinds: set[str]) -> list[Any]:
    return [
        body
        for shape in slide.iter("{*}sp")
        if _placeholder(shape) in kinds
        for body in shape.iterchildren("{*}txBody")
    ]


def _placeholder(shape: Any) -> str:
    """What a shape stands for on its slide, such as the title; "" if it is just a shape."""
    return next((attribute(mark, "type") for mark in shape.iterfind("{*}nvSpPr/{*}nvPr/{*}ph")), "")


def _slide_words(body: Any) -> str:
    """The paragraphs of a body, a line each."""
    return "\n".join(
        "".join(
            (element.text or "") if local(element) == "t" else _SLIDE_MARKS[local(element)]
            for element in paragraph.iter("{*}t", "{*}br", "{*}tab")
            if local(element.getparent()) != "tabLst"
        )
        for paragraph in body.iter("{*}p")
    )


def write_book(package: Package, text: Text) -> None:
    """Append the chapters of a book to `text`."""
    roots = package.xml("META-INF/container.xml").iter("{*}rootfile")
    name = next((root.get("full-path", "") for root in roots), "")
    book = package.xml(name)
    items = {item.get("id"): item for item in book.iter("{*}item")}
    locked = _locked(package)
    for reference in book.iter("{*}itemref"):
        item: Any = items.get(reference.get("idref"))
        if item is None:
            raise Damaged("EPUB")
        if "html" not in item.get("media-type", "html"):
            continue
        chapter = inside(name.rpartition("/")[0], item.get("href", ""))
        if chapter in locked:
            raise Locked("EPUB")
        _write_chapter(package.read(chapter), text)


def _write_chapter(data: bytes, text: Text) -> None:
    pieces, length = len(text.pieces), text.length
    try:
        write_page(data, text, strict=True)
    except etree.XMLSyntaxError:  # many books hold pages that aren't XML
        del text.pieces[pieces:]
        text.length = length
        write_page(data, text)


def _locked(package: Package) -> set[str]:
    """The members that are encrypted; in many books these are only fonts."""
    name = "META-INF/encryption.xml"
    if name not in package.names:
        return set()
    references = [element for element in package.xml(name).iter() if local(element) == "CipherReference"]
    return {inside("", element.get("URI", "")) for element in references}


def check_unlocked(package: Package, kind: str) -> None:
    """Raises Locked if the manifest says that members are encrypted."""
    manifest = "META-INF/manifest.xml"
    if manifest in package.names and next(package.xml(manifest).iter("{*}encryption-data"), None) is not None:
        raise Locked(kind.upper())


def write_open_document(package: Package, text: Text) -> None:
    """Append a document in ODT to `text`."""
    for body in package.xml("content.xml").iterfind("{*}body/{*}text"):
        _write_open_blocks(body, text, "")


def _write_open_blocks(parent: Any, text: Text, bullet: str) -> None:
    for child in parent:
        name = local(child)
        if name == "h":
            level = attribute(child, "outline-level")
            text.block(f"{'#' * (min(int(level[:2]), 6) if level.isdecimal() else 1)} {_open_words(child).strip()}")
        elif name == "p":
            words = _open_words(child).strip()
            if bullet:
                text.line(f"{bullet}{words}" if words else "")
            else:
                text.block(words)
        elif name == "table":
            text.gap()
            for line in child.iter("{*}table-row"):
                cells = [_open_words(cell) for cell in line.iterchildren("{*}table-cell")]
                if next(line.iterancestors("{*}table")) is child:
                    text.line(row(cells))
            text.gap()
        elif name == "list":
            _write_open_blocks(child, text, f"  {bullet}" if bullet else "- ")
            if not bullet:
                text.gap()
        elif name and name not in _OPEN_SKIPPED:
            _write_open_blocks(child, text, bullet)


def _open_words(element: Any) -> str:
    """All words in an element; a line end after each paragraph that it holds."""
    pieces = [element.text or ""]
    for child in element:
        name = local(child)
        if name == "tab":
            pieces.append("\t")
        elif name == "line-break":
            pieces.append("\n")
        elif name == "s":
            count = attribute(child, "c")
            pieces.append(" " * (min(int(count), _WIDEST) if count.isdecimal() and len(count) < 9 else 1))
        elif name == "note":
            pieces.append(f" [{' '.join(_open_words(body).strip() for body in child.iterchildren('{*}note-body'))}]")
        elif name and name not in _OPEN_SKIPPED:
            pieces.append(_open_words(child))
            if name in ("p", "h"):
                pieces.append("\n")
        pieces.append(child.tail or "")
    return "".join(pieces)


def read(data: bytes, text: Text) -> str:
    """Append the document that an archive holds to `text`."""
    package = Package(data, text)
    kind, main = _kind(package)
    if kind in ("odt", "ods"):
        check_unlocked(package, kind)
    if kind == "docx":
        write_word(package, main, text)
    elif kind == "pptx":
        write_slides(package, main, text)
    elif kind == "odt":
        write_open_document(package, text)
    elif kind == "epub":
        write_book(package, text)
    else:
        package.check()  # the library unpacks by itself, whatever sizes the archive claims
        write_sheets(data, kind, text)
    return kind


def _kind(package: Package) -> tuple[str, str]:
    """The format of a package, and the main part of one of Office."""
    if "mimetype" in package.names:
        declared = package.read("mimetype")[:200].decode("ascii", "replace").strip()
        if declared == "application/epub+zip":
            return "epub", ""
        for ending, kind in (("text", "odt"), ("spreadsheet", "ods")):
            if declared.removesuffix("-template") == _OPEN + ending:
                return kind, ""
    for relation, main in package.parts("").values():
        if relation == "officeDocument":
            return _office_kind(package, main), main
    if "META-INF/container.xml" in package.names:
        return "epub", ""
    raise Refused("This is an archive and no document; unpack it, and send the documents in it.")


def _office_kind(package: Package, main: str) -> str:
    for part in package.xml("[Content_Types].xml"):
        if part.get("PartName", "").lstrip("/") == main:
            declared = part.get("ContentType", "")
            for word, kind in _TYPES.items():
                if word in declared.partition("/")[2]:
                    return kind
    raise Damaged()
