"""Reading a stranger's file: what it is by its bytes, then its text, within limits."""

import hashlib

from charter.ground.documents.document import READABLE, Document, Limits, Unreadable, clean_name
from charter.ground.documents.parsed import parse
from charter.ground.documents.plain import decode, decode_page, kind_of

_DEFAULT = Limits()
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # files of Office before 2007, and locked ones of today
_PARSERS = {b"%PDF-": "pdf", b"{\\rtf": "rtf", b"PK\x03\x04": "packed", b"PK\x05\x06": "packed"}
_OTHERS = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"II*\0": "a picture",
    b"MM\0*": "a picture",
    b"BM": "a picture",
    b"RIFF": "a picture or a recording",
    b"ID3": "a recording",
    b"OggS": "a recording",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"SQLite format 3": "a database",
    b"\x1f\x8b": "an archive",
    b"7z\xbc\xaf\x27\x1c": "an archive",
    b"Rar!": "an archive",
    b"BZh": "an archive",
    b"\xfd7zXZ": "an archive",
    b"\x28\xb5\x2f\xfd": "an archive",
}


def read_document(data: bytes, name: str, limits: Limits = _DEFAULT) -> Document:
    """The document that a file holds. Parsing takes `limits.seconds` at most, after a wait for one of two turns.

    Raises Unreadable, with one plain sentence, for a file that is not a document, is damaged, locked with a password,
    empty, or over a limit.
    """
    check_size(len(data), limits)
    name, pages = clean_name(name), tuple[int, ...]()
    parser = _parser(data)
    if parser:
        kind, text, pages = parse(data, parser, limits)
    else:
        _refuse_others(data)
        text = decode(data)
        kind = kind_of(name, text)
        if kind == "html" and text.strip():
            kind, text, pages = parse(decode_page(data, text).encode(), "html", limits)
    if not text.strip():
        raise Unreadable(f"There is no text in this file; send one with text ({READABLE} files can be read).")
    if len(text) > limits.characters:
        raise Unreadable(
            f"This file holds {len(text):,} characters, and at most {limits.characters:,} can be read; "
            "send a part of it."
        )
    return Document(name, kind, len(data), hashlib.sha256(data).hexdigest(), text, pages)


def check_size(size: int, limits: Limits = _DEFAULT) -> None:
    """Raises Unreadable if a file of so many bytes is over the limit; for those who know it before they have all."""
    if size > limits.file_mb * 2**20:
        raise Unreadable(
            f"This file has {size:,} bytes, and at most {limits.file_mb} MB can be read; send a part of it."
        )


def _parser(data: bytes) -> str:
    """The parser of a file's format, told by its first bytes; "" for a text and for what can't be read."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, parser in _PARSERS.items():
        if head.startswith(signature):
            return parser
    # a PDF may begin after other bytes, and a text may speak of PDFs
    return "pdf" if b"%PDF-" in head and b"startxref" in data[-2048:] else ""


def _refuse_others(data: bytes) -> None:
    """Raises Unreadable for what is known and can't be read, and for what holds a NUL as no text does."""
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Unreadable("This file is locked with a password; save it without one and send that.")
        raise Unreadable(
            "This file has a format of Office before 2007; save it as DOCX, XLSX, PPTX or PDF and send that."
        )
    what = next((what for signature, what in _OTHERS.items() if data.startswith(signature)), "")
    if what and (b"\0" in data or not data.isascii()):
        raise Unreadable(f"This file is {what} and no document; {READABLE} files can be read.")
