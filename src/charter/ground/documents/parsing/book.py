"""EPUB: the chapters in the order of reading."""

from typing import Any

from lxml import etree

from charter.ground.documents.parsing.html import write_page
from charter.ground.documents.parsing.outcome import Damaged, Locked, Text
from charter.ground.documents.parsing.package import Package, inside, local


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
    references = [one for one in package.xml(name).iter() if local(one) == "CipherReference"]
    return {inside("", one.get("URI", "")) for one in references}
