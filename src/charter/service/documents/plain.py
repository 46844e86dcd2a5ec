"""Plain text: its encoding, and its kind, which only the name tells."""

import codecs
import re

from charset_normalizer import from_bytes

from charter.service.documents.document import Unreadable

ENDINGS = {
    "csv": "csv tsv",
    "json": "json jsonl ndjson geojson",
    "markdown": "md markdown mkd",
    "html": "html htm xhtml",
    "code": "py pyi ipynb js mjs ts tsx jsx c h cc cpp cxx hpp cs java kt go rs rb php pl lua r jl swift scala sh "
    "bash zsh ps1 sql css scss yaml yml toml ini cfg xml svg tex bib diff patch vue dart hs ml ex exs erl clj el vim "
    "asm proto graphql tf nix cmake gradle make mk dockerfile makefile",
    "text": "txt text log rst srt vtt org adoc",
}
_KINDS = {ending: kind for kind, endings in ENDINGS.items() for ending in endings.split()}
_MARKS = {  # the longer first: one of UTF-32 begins as one of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_SAMPLE = 1 << 16  # bytes by which an unmarked encoding is told
_PAGE = re.compile(r"\s*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html)\b", re.IGNORECASE)


def kind_of(name: str, text: str) -> str:
    """The kind of a text by its name's ending; without a known one, a page of HTML is told by how it begins."""
    kind = _KINDS.get(name.lower().rpartition(".")[2])
    return kind or ("html" if _PAGE.match(text[:2000]) else "text")


def decode(data: bytes) -> str:
    """The text of bytes, without its byte order mark: by the mark, as UTF-8, else by charset-normalizer's judgement.
    Raises Unreadable if they are not text."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            try:
                return _checked(data[len(mark) :].decode(encoding))
            except UnicodeDecodeError:
                raise Unreadable(
                    f"This file begins as {encoding.upper()} text and is damaged further on; save it as UTF-8."
                ) from None
    try:
        return _checked(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        first = error.start
    _checked("\0" if b"\0" in data else "")
    # the sample holds the first byte that isn't ASCII or UTF-8, without which nothing could be told
    middle = max(0, min(first - _SAMPLE // 2, len(data) - _SAMPLE))
    best = from_bytes(data[middle : middle + _SAMPLE]).best()
    try:
        if best is not None:
            return data.decode(best.encoding)
    except (UnicodeDecodeError, LookupError):
        pass
    raise Unreadable("The encoding of this text can't be told; save it as UTF-8.")


def _checked(text: str) -> str:
    """Raises Unreadable for text with a NUL, which no text holds."""
    if "\0" in text:
        raise Unreadable("There are NUL bytes in this file, so it is not text; save it as UTF-8 text.")
    return text
