"""Reading a stranger's file: what it is by its bytes, then its text, within limits."""

import hashlib

from charter.service.documents.document import READABLE, Document, Limits, Unreadable, clean_name
from charter.service.documents.plain import decode, kind_of

_DEFAULT = Limits()


def read_document(data: bytes, name: str, limits: Limits = _DEFAULT) -> Document:
    """The document that a file holds. Parsing takes `limits.seconds` at most, after a wait for one of two turns.

    Raises Unreadable, with one plain sentence, for a file that is not a document, is damaged, locked with a password,
    empty, or over a limit.
    """
    if len(data) > limits.file_mb * 2**20:
        raise Unreadable(
            f"This file has {len(data):,} bytes, and at most {limits.file_mb} MB can be read; send a part of it."
        )
    text, pages = decode(data), ()
    return _finish(
        Document(clean_name(name), kind_of(name, text), len(data), _digest(data), text, pages), limits
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _finish(document: Document, limits: Limits) -> Document:
    if not document.text.strip():
        raise Unreadable(f"There is no text in this file; send one with text ({READABLE} files can be read).")
    if len(document.text) > limits.characters:
        raise Unreadable(
            f"This file holds {len(document.text):,} characters, and at most {limits.characters:,} can be read; "
            "send a part of it."
        )
    return document
