"""Plain text: its encoding, and its kind, which only the name tells."""

import codecs
import re
from contextlib import suppress

from charset_normalizer import from_bytes

from charter.ground.documents.document import READABLE, Unreadable

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
_CONTROLS = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_COMMONEST = "cp1252"
_DECLARED = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
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
    with suppress(UnicodeDecodeError):
        return _checked(data.decode("utf-8"))
    if b"\0" not in data:
        with suppress(UnicodeDecodeError, LookupError):
            text = data.decode(_guess(data))
            if 100 * len(_CONTROLS.findall(text)) <= len(text):
                return text
        raise Unreadable("The encoding of this text can't be told; save it as UTF-8.")
    raise _binary()


def decode_page(data: bytes, text: str) -> str:
    """The text of a page of HTML, which may name its encoding; `text` is what `decode` made of it."""
    declared = _DECLARED.search(data[:2048])
    if declared and not data.startswith(tuple(_MARKS)):
        with suppress(UnicodeDecodeError, LookupError, ValueError):
            return data.decode(declared[1].decode("ascii"))
    return text


def _guess(data: bytes) -> str:
    """The likeliest encoding of text that isn't UTF-8, judged by lines that hold more than ASCII; "" if none is."""
    lines = b"\n".join(line[:_SAMPLE] for line in data.splitlines() if not line.isascii())
    matches = from_bytes(lines[:_SAMPLE])
    best = matches.best()
    if best is None:
        return ""
    # of equally likely ones, the one that most such files have
    equals = [one.encoding for one in matches if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    return _COMMONEST if _COMMONEST in equals else str(best.encoding)


def _checked(text: str) -> str:
    if "\0" in text:
        raise _binary()
    return text


def _binary() -> Unreadable:
    return Unreadable(f"This file holds NUL bytes, so it is no text; {READABLE} files can be read.")
