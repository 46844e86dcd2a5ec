"""Published sets of principles as a constitution: the 16 + 16 of Bai 2022b, and lists of principles in Markdown.

The paper's repository holds two JSON files: {key: {"prompt": [critique request], "edit_request": text}} and a list of
questions. Their role markers are taken off. In Markdown, each item of a list is a principle of the product set, and
the heading above it names its group, as on the page of the constitution of 2023.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.jsonl import read_text

CRITIQUES, COMPARISONS = "CritiqueRevisionInstructions.json", "RLMadisonInstructions.json"
_MARKS = re.compile(r"^\s*(CritiqueRequest|RevisionRequest):|\b(Critique|Revision|Options):\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+(.+)")
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*$")


def read_published(path: Path, name: str) -> dict[str, Any]:
    """The content of a constitution file, from a folder with the paper's two JSON files or from a text with lists.
    Raises CharterError where neither is there."""
    found = _paper(path) if path.is_dir() else {"product": _listed(read_text(path))}
    if not any(found.values()):
        raise CharterError(
            f"{path} holds no principles: expected a folder with {CRITIQUES} and {COMPARISONS}, or a Markdown text "
            "whose list items are principles under headings"
        )
    return {"name": name, "version": 1, **{kind: entries for kind, entries in found.items() if entries}}


def _paper(folder: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        pairs, questions = (json.loads(read_text(folder / file)) for file in (CRITIQUES, COMPARISONS))
        critiques = [
            {
                "key": key,
                "tags": ["harmless"],
                "critique": _bare(pair["prompt"][0]),
                "revision": _bare(pair["edit_request"]),
            }
            for key, pair in pairs.items()
        ]
        comparisons = [
            {"key": f"comparison{n}", "tags": ["harmless"], "principle": _bare(text)}
            for n, text in enumerate(questions)
        ]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CharterError(f"{folder}: {CRITIQUES} or {COMPARISONS} has another form ({error!r})") from None
    return {"critiques": critiques, "comparisons": comparisons}


def _bare(text: str) -> str:
    """A request without its role markers."""
    lines = (_MARKS.sub("", line).strip() for line in text.strip().splitlines())
    return " ".join(line for line in lines if line)


def _listed(text: str) -> list[dict[str, Any]]:
    entries, group = list[dict[str, Any]](), "all"
    for line in text.splitlines():
        if heading := _HEADING.match(line):
            group = heading[1]
        elif item := _ITEM.match(line):
            entries.append({"key": f"p{len(entries) + 1}", "tags": [], "group": group, "principle": item[1].strip()})
    return entries
