"""Code in colours: of a measured list of languages, up to 2,000 characters, by a process of its own, kept by digest.

Each language of the list takes less than half of the program's time on hostile code of full length; a test measures it.
Code that isn't coloured, for whatever reason, is shown plain.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

PROGRAM = Path(__file__).with_name("colouring_program.py")
LONGEST = 2000  # characters
KEPT = 512  # blocks, the longest of which has some 50 KB of HTML
# on a busy machine; the program itself is ended by its processor time
ANSWER_SECONDS, TURN_SECONDS = 5.0, 2.0
_NAMES = """
    bash sh shell zsh; c h; cpp c++ cxx hpp; css; diff patch udiff; docker dockerfile; go golang; html; ini cfg;
    java; javascript js node; json; kotlin; lua; markdown md; php; python py python3; r; ruby rb; rust rs;
    scss; sql; swift; toml; typescript ts; xml; yaml yml
"""
LANGUAGES = {name: names.split()[0] for names in _NAMES.split(";") for name in names.split()}
# what no program has, and what lexers that look for the end of blank lines take long for
_BLANK = re.compile(r"\s{200}")


class Colours:
    """Colours blocks of code, one at a time, from any thread. `killed`: blocks on which the program ended."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-I", str(PROGRAM))) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._kept: OrderedDict[bytes, str] = OrderedDict()
        self.killed = 0

    def colour(self, code: str, language: str) -> str | None:
        """A block as HTML whose words have classes; None for one that stays plain."""
        known = LANGUAGES.get(language.lower())
        if known is None or len(code) > LONGEST or _BLANK.search(code):
            return None
        digest = sha256(f"{known}\n{code}".encode("utf-8", "surrogatepass")).digest()
        if (html := self._kept.get(digest)) is not None:
            return html or None
        if not self._turn.acquire(timeout=TURN_SECONDS):
            return None
        try:
            html = self._ask(json.dumps([known, code]).encode() + b"\n")
        except TimeoutError:
            return None
        finally:
            self._turn.release()
        self._keep(digest, html)
        return html or None

    def start(self) -> None:
        """Starts the program, so that the first page doesn't wait for it."""
        with self._turn:
            self._running()

    def close(self) -> None:
        """Ends the program; the next block starts it again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                # what was not sent is sent to nobody
                with suppress(OSError):
                    pipe and pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return self._process

    def _ask(self, line: bytes) -> str:
        """What the program makes of a block; empty if it ended on it. Raises TimeoutError."""
        try:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(line)
            answer = _line_from(process.stdout.fileno())
            if answer:
                return str(json.loads(answer))
        except TimeoutError:
            self.close()
            raise
        except (OSError, ValueError):
            pass
        self.killed += 1
        self.close()
        return ""

    def _keep(self, digest: bytes, html: str) -> None:
        self._kept[digest] = html
        while len(self._kept) > KEPT:
            with suppress(KeyError):
                self._kept.popitem(last=False)


def _line_from(pipe: int) -> bytes:
    """A line that a program writes; empty if it ended before. Raises TimeoutError."""
    pieces, until = list[bytes](), time.monotonic() + ANSWER_SECONDS
    while not (pieces and pieces[-1].endswith(b"\n")):
        if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError
        if not (piece := os.read(pipe, 1 << 16)):
            return b""
        pieces.append(piece)
    return b"".join(pieces)


COLOURS = Colours()
atexit.register(COLOURS.close)
