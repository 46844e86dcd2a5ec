"""Fills docs/results/red_team.md: what the card of a run says of attacks by machine and of the autonomy audit.

    python docs/red_team.py RUN      RUN: a finished run of recipes/red_team.yaml, best with audits on its card

The two sections are the card's own, with its drawings; nothing is typed by hand.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fill import between, read_card

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.rooms.card.layout import PARTS

PAGE = Path(__file__).resolve().parent / "results/red_team.md"
DRAWINGS = PAGE.parent / "red_team"
SECTIONS = ("attacks", "audit")
# a drawing in the card's Markdown: its words and its key
PICTURE = re.compile(r"!\[([^\]]*)\]\(plots/([\w-]+)\.svg\)")


def section(text: str, title: str) -> str:
    """A section of a card without its heading. Raises CharterError if the card has none."""
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise CharterError(f"the card has no section {title!r}; run recipes/red_team.yaml with audits")
    return found[1].strip()


def sections(card: Path) -> Iterator[str]:
    """The sections with their headings, a level lower."""
    titles = dict(entry for *_, entries in PARTS for entry in entries)
    text = (card / "card.md").read_text("utf-8")
    for key in SECTIONS:
        yield f"\n### {titles[key]}\n"
        yield section(text, titles[key])


def page(run: Path) -> str:
    """The generated part of the page; copies the drawings that it shows."""
    card, _ = read_card(run)
    text = "\n".join(sections(card))
    DRAWINGS.mkdir(exist_ok=True)
    for old in DRAWINGS.iterdir():
        old.unlink()
    for _, key in PICTURE.findall(text):
        shutil.copyfile(card / f"plots/{key}.svg", DRAWINGS / f"{key}.svg")
    shown = PICTURE.sub(r"![\1](red_team/\2.svg)", text)
    return f"Card {read_manifest(card).id[:12]}.\n{shown}"


def main(arguments: Sequence[str]) -> int:
    """Writes the page; exit code 1 with one line where a run has not what it takes."""
    parser = argparse.ArgumentParser(
        description="Fills docs/results/red_team.md from a run of recipes/red_team.yaml."
    )
    parser.add_argument("run", type=Path)
    try:
        made = page(parser.parse_args(arguments).run)
        PAGE.write_text(between(PAGE.read_text("utf-8"), "red_team", made), "utf-8")
    except CharterError as error:
        print(f"red_team: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
