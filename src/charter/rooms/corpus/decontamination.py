"""Finds documents that contain benchmark items: those that share a run of 13 words (Brown 2020, appendix C).

Every row of a benchmark's files is an item, and every text in it counts: question, passage, options, solution. Texts
of 8 to 12 words must occur whole. If all texts of a row are shorter (a short question with one-word options), they are
joined, as on a page that prints the item. If that is still under 8 words, the row is not checked, only counted.
Letters of scripts without blanks between words count as words. Runs of only numbers and single letters don't count:
any table holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.text.overlap import Items, texts_of
from charter.rooms.corpus.plaintext import normal_form

# Texts about the other files of a folder.
_ABOUT = re.compile(r"(?:readme|licen[sc]e|notice)[^/]*\.txt(?:\.gz|\.zst)?", re.IGNORECASE)


class Decontamination:
    """The items of benchmark files, named `folder/file:line`, indexed for lookup in documents.

    `skipped`: files of a folder without rows, with the problem. Raises CharterError if a file that is named itself
    has no rows, or if no item has a run to look for.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        """`paths`: files of rows, or folders with such files at any depth, beside README.txt and the like."""
        self.skipped: dict[str, str] = {}
        self.files = 0
        roots = list(paths)
        self._items = Items(self._rows(roots), apart=True, counting=False)
        if roots and not len(self._items):
            raise CharterError(
                f"{', '.join(map(str, roots))}: no text of 8 words or more; name files of benchmarks, or none"
            )

    def save(self, folder: Path) -> None:
        """Saves the items for `open`."""
        self._items.save(folder)
        (folder / "files.json").write_text(json.dumps([self.files, self.skipped]), "utf-8")

    @classmethod
    def open(cls, folder: Path) -> Decontamination:
        """Opens saved items; processes that open one folder share its memory."""
        decontamination = cls(())
        decontamination.files, decontamination.skipped = json.loads((folder / "files.json").read_text("utf-8"))
        decontamination._items = Items.open(folder)
        return decontamination

    @property
    def items(self) -> int:
        """The number of rows, unchecked ones included."""
        return len(self._items.names)

    @property
    def unchecked(self) -> set[str]:
        """Names of the rows without a run to look for."""
        return self._items.unchecked

    @property
    def runs(self) -> int:
        """The number of different runs, each counted for every row that has it."""
        return len(self._items)

    @property
    def bytes(self) -> int:
        """Memory of the runs."""
        return self._items.bytes

    def hits(self, text: str) -> set[str]:
        """Names of the rows that share a run of words with a text in normal form."""
        return self._items.hit_by((text,))

    def _rows(self, paths: list[Path]) -> Iterator[tuple[str, list[str]]]:
        for path in paths:
            for file in _files(path):
                if file != path and _ABOUT.fullmatch(file.name):
                    self.skipped[str(file)] = f"{file} describes the other files, according to its name"
                    continue
                try:
                    for place, texts in texts_of(file):
                        name = f"{file.parent.name}/{file.name}:{place.rpartition(':')[2]}"
                        yield name, [normal_form(text) for text in texts]
                except CharterError as error:
                    if file == path:
                        raise
                    self.skipped[str(file)] = str(error)
                else:
                    self.files += 1


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(ROW_ENDINGS))
