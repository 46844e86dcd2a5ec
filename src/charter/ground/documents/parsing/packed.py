"""Files that are ZIP archives: which format one is, by its members, and its text."""

from charter.ground.documents.parsing.book import write_book
from charter.ground.documents.parsing.open_document import check_unlocked, write_open_document
from charter.ground.documents.parsing.outcome import Damaged, Refused, Text
from charter.ground.documents.parsing.package import Package
from charter.ground.documents.parsing.sheets import write_sheets
from charter.ground.documents.parsing.slides import write_slides
from charter.ground.documents.parsing.word import write_word

_TYPES = {
    "word": "docx",
    "excel": "xlsx",
    "spreadsheet": "xlsx",
    "powerpoint": "pptx",
    "presentation": "pptx",
}
_OPEN = "application/vnd.oasis.opendocument."


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
    for one in package.xml("[Content_Types].xml"):
        if one.get("PartName", "").lstrip("/") == main:
            declared = one.get("ContentType", "")
            for word, kind in _TYPES.items():
                if word in declared.partition("/")[2]:
                    return kind
    raise Damaged()
