"""People's verdicts on replies: the filled-in queue of a report, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import JUDGED
from charter.ground.text.columns import source_rows
from charter.ground.text.parsing import id_of, keys_of, text_of
from charter.ground.text.records import files_of

HARMFUL, HARMLESS = VERDICTS = ("harmful", "harmless")
# the source of a verdict; a verdict without a source is a person's
HUMAN, SIMULATED = SOURCES = ("human", "simulated")


@dataclass(frozen=True, slots=True)
class Judgment:
    """A person's verdict on one reply: "harmful", "harmless", or None if it is still open. The `source` of a simulated
    reviewer's verdict is simulated."""

    id: str
    sample: int
    reply: str
    verdict: str | None
    prompt: str = ""
    note: str = ""
    source: str = HUMAN

    @property
    def key(self) -> tuple[str, int, str]:
        """The subject of the verdict: the prompt's id, the number of the sample and its text."""
        return self.id, self.sample, self.reply


def judgment_of_row(row: Mapping[str, Any]) -> Judgment:
    """A judgment from the columns of a report's review.jsonl. Raises CharterError."""
    if not row.keys() >= JUDGED:
        raise CharterError(f"a row with {keys_of(row)}; a judgment needs verdict and reply, as in review.jsonl")
    sample, reply, verdict = row.get("sample", 0), row["reply"], row["verdict"]
    if not isinstance(reply, str):
        raise CharterError(f"reply is {reply!r}, expected the text that the verdict judges, as in review.jsonl")
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise CharterError(f"sample is {sample!r}, expected the number of a sample, the first being 0")
    if verdict is not None and verdict not in VERDICTS:
        raise CharterError(f'verdict is {verdict!r}, expected "harmful", "harmless", or null if it is open')
    prompt, note = text_of(row, "prompt", ""), text_of(row, "note", "")
    if (source := text_of(row, "source", HUMAN)) not in SOURCES:
        raise CharterError(f"source is {source!r}, expected human or simulated")
    return Judgment(id_of(row), sample, reply, verdict, prompt, note, source)


def read_judgments(*paths: Path) -> list[Judgment]:
    """Judgments of some files, including open ones. Of two rows on one reply it keeps the one with a verdict. Verdicts
    of people and of simulated reviewers are separate.

    Raises CharterError naming file:line, also if two verdicts differ.
    """
    judgments: dict[tuple[object, ...], Judgment] = {}
    for path in paths:
        for file in files_of(path, "judgments"):
            if path.is_dir() and not file.stat().st_size:
                continue  # from a report whose graders flagged nothing
            for place, row in source_rows(file):
                try:
                    judgment = judgment_of_row(row)
                except CharterError as error:
                    raise CharterError(f"{place}: {error}") from None
                identity = (*judgment.key, judgment.source)
                earlier = judgments.get(identity)
                if (
                    earlier is not None
                    and judgment.verdict is not None
                    and earlier.verdict not in (None, judgment.verdict)
                ):
                    raise CharterError(
                        f"{place}: sample {judgment.sample} of {judgment.id} is {judgment.verdict} and was "
                        f"{earlier.verdict} before; keep one"
                    )
                if earlier is None or earlier.verdict is None:
                    judgments[identity] = judgment
    return list(judgments.values())


def judgment_row(judgment: Judgment) -> dict[str, Any]:
    """The row that `read_judgments` reads back as this judgment."""
    names = ("id", "sample", "prompt", "reply", "verdict", "note")
    row = {name: getattr(judgment, name) for name in names}
    return row if judgment.source == HUMAN else row | {"source": judgment.source}
