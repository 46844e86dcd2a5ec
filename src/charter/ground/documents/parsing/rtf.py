"""RTF: its words, without what only lays them out."""

import re

from striprtf.striprtf import rtf_to_text

from charter.ground.documents.parsing.outcome import Damaged, Text

_ESCAPED = re.compile(r"\\[\\{}]")


def read(data: bytes, text: Text) -> str:
    """Append the words of a file in RTF to `text`."""
    # the format is ASCII; other bytes are letters of the code page that it names
    source = data.decode("cp1252", "replace").rstrip("\0\x1a \t\r\n")
    groups = _ESCAPED.sub("", source)
    if groups.count("{") > groups.count("}"):
        raise Damaged("RTF")
    words: str = rtf_to_text(source, errors="replace")  # type: ignore[no-untyped-call]
    text.add(words.strip() + "\n")
    return "rtf"
