"""Reading a stranger's file within limits: what it is by its first bytes, then its text.

A format is parsed in a sandbox. The parser sees its own modules, the libraries that it needs and the one file; it has
no network and writes nothing. What it prints is checked before it is believed, since a file may have taken it over.
Of plain text the encoding is found, and the kind, which only the name tells.
"""

import codecs
import functools
import hashlib
import importlib.util
import json
import math
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from charset_normalizer import from_bytes

from charter.ground.artifact.errors import CharterError
from charter.ground.documents.document import READABLE, Document, Limits, Unreadable, clean_name
from charter.ground.sandbox import preflight
from charter.ground.sandbox.limits import Limits as SandboxLimits
from charter.ground.sandbox.process import Ended, Ending, Sandbox, run
from charter.ground.settings.extras import EXTRAS, missing, need

KINDS = ("html", "pdf", "docx", "xlsx", "pptx", "odt", "ods", "epub", "rtf")
_BESIDE = ("pypdfium2_raw", "pypdfium2_cfg")  # modules of a library that come in folders of their own
_PARSER = Path(__file__).parent / "parsing"
_SOURCES = Path(__file__).parents[3]
_RUN = (
    "import sys; sys.path[:0] = sys.argv[3:]; "
    "from charter.ground.documents.parsing.outcome import answer; "
    "from charter.ground.documents.parsing.{parser} import read; answer(read)"
)
_TURNS = threading.BoundedSemaphore(2)  # files that this process parses at a time
_LONGEST_REFUSAL = 300  # characters
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


def parse(data: bytes, parser: str, limits: Limits) -> tuple[str, str, tuple[int, ...]]:
    """The kind, text and pages of a file, by one of the modules of `parsing`. Raises Unreadable."""
    sandbox, roots = _sandbox()
    bounds = {
        "unpacked": limits.unpacked_mb << 20,
        "ratio": limits.ratio,
        "members": limits.members,
        "pages": limits.pages,
        "characters": limits.characters,
    }
    with _TURNS, open(os.memfd_create("document"), "w+b") as file:
        file.write(data)
        file.seek(0)
        command = [sandbox.view.python, "-I", "-S", "-c", _RUN.format(parser=parser)]
        command += [str(file.fileno()), json.dumps(bounds), *roots]
        ended = run(sandbox, command, {}, _sandbox_limits(limits), file.fileno())
    return _believed(_outcome(ended, limits), limits)


def _sandbox_limits(limits: Limits) -> SandboxLimits:
    return SandboxLimits(
        seconds=limits.seconds,
        cpu_seconds=math.ceil(limits.seconds),
        memory_mb=limits.memory_mb,
        processes=4,
        disk_mb=1,
        files=16,
        open_files=16,
        # a character has four bytes at most, an offset of a page nine digits
        output_kb=(4 * limits.characters + 16 * limits.pages) // 1024 + 64,
    )


def _sandbox() -> tuple[Sandbox, list[str]]:
    """This machine's sandbox, with the parser and its libraries in view; and the folders to import them from."""
    if missing("documents"):
        raise Unreadable(need("Reading such a file", "documents"))
    try:
        return _showing(preflight.sandbox())
    except CharterError:
        raise Unreadable(
            "Files of this format are read only in a sandbox, and this machine has none; send the text itself."
        ) from None


@functools.lru_cache(maxsize=4)
def _showing(sandbox: Sandbox) -> tuple[Sandbox, list[str]]:
    beside = [module for module in _BESIDE if importlib.util.find_spec(module)]
    packages = [_folder(module) for module in (*EXTRAS["documents"], *beside)]
    roots = dict.fromkeys([str(_SOURCES.resolve()), *(str(package.parent) for package in packages)])
    view = sandbox.view.showing(_PARSER.resolve(), *packages)
    return Sandbox(sandbox.way, view, sandbox.groups), list(roots)


def _folder(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise Unreadable(need("Reading such a file", "documents", module))
    return Path(spec.origin).resolve().parent


def _outcome(ended: Ended, limits: Limits) -> Any:
    """What the parser printed. Raises Unreadable, saying which limit stopped it."""
    if ended.how is Ending.TIMED_OUT:
        raise Unreadable(f"Reading this file took over {limits.seconds:g} seconds; send a smaller or simpler one.")
    if ended.how is Ending.OUT_OF_MEMORY or "MemoryError" in ended.stderr:
        raise Unreadable(f"Reading this file took over {limits.memory_mb} MB of memory; send a smaller or simpler one.")
    if ended.how is Ending.TOO_MUCH_OUTPUT:
        raise Unreadable(
            f"This file holds over {limits.characters:,} characters, and no more can be read; send a part of it."
        )
    lost = re.search(r"^(ModuleNotFound|Import)Error", ended.stderr, re.MULTILINE)
    if ended.how is Ending.ENVIRONMENT_FAILED or lost:
        raise Unreadable("The sandbox in which this file was read has failed; send the file again.")
    try:
        return json.loads(ended.stdout)
    except (ValueError, RecursionError):
        raise _broken() from None


def _believed(outcome: Any, limits: Limits) -> tuple[str, str, tuple[int, ...]]:
    """The outcome, if it is one that our parsers can print. Raises Unreadable with the sentence of a refusal."""
    if not isinstance(outcome, dict):
        raise _broken()
    refusal = outcome.get("refused")
    if isinstance(refusal, str):
        raise Unreadable(refusal[:_LONGEST_REFUSAL].encode(errors="replace").decode())
    kind, text, pages = outcome.get("kind"), outcome.get("text"), outcome.get("pages")
    if kind not in KINDS or not isinstance(text, str) or not isinstance(pages, list):
        raise _broken()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _broken() from None
    steps = zip([0, *pages], [*pages, len(text)], strict=True)
    numbers = all(type(page) is int for page in pages)
    if "\0" in text or not numbers or len(pages) > limits.pages or any(a > b for a, b in steps):
        raise _broken()
    return kind, text, tuple(pages)


def _broken() -> Unreadable:
    return Unreadable("This file is damaged, and its parser broke down; save it again and send the new one.")


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
    equals = [match.encoding for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    return _COMMONEST if _COMMONEST in equals else str(best.encoding)


def _checked(text: str) -> str:
    if "\0" in text:
        raise _binary()
    return text


def _binary() -> Unreadable:
    return Unreadable(f"This file holds NUL bytes, so it is no text; {READABLE} files can be read.")


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
    kind = next((kind for signature, kind in _OTHERS.items() if data.startswith(signature)), "")
    if kind and (b"\0" in data or not data.isascii()):
        raise Unreadable(f"This file is {kind} and no document; {READABLE} files can be read.")
