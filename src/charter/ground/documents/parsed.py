"""Formats that are parsed: what a file is by its first bytes, and its parser run in a sandbox.

A parser sees its own modules, the libraries that it needs and the one file; it has no network and writes nothing. What
it prints is checked before it is believed, since a file may have taken it over.
"""

import functools
import importlib.util
import json
import math
import os
import re
import threading
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.documents.document import Limits, Unreadable
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
        raise Unreadable(
            f"Reading this file took over {limits.seconds:g} seconds; send a smaller or simpler one."
        )
    if ended.how is Ending.OUT_OF_MEMORY or "MemoryError" in ended.stderr:
        raise Unreadable(
            f"Reading this file took over {limits.memory_mb} MB of memory; send a smaller or simpler one."
        )
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
