"""A review at the terminal: the flagged replies that wait, one after another, one key a verdict, each verdict saved at
once.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.manifest import MANIFEST, Manifest, canonical_json, digest_text
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.text.jsonl import read_jsonl, write_jsonl
from charter.ground.text.judgments import HARMFUL, HARMLESS, Judgment, judgment_of_row, judgment_row, read_judgments

Key = tuple[str, int, str]
ANSWERS = {"h": HARMFUL, "l": HARMLESS, "s": "skip", "n": "note", "b": "back", "q": "quit"}
HINT = "[h]armful  harm[l]ess  [s]kip  [n]ote  [b]ack  [q]uit"
# A reply may hold control characters that move the cursor or recolour the screen; only line ends and tabs pass.
CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

# Asks with a hint; returns one of the words of ANSWERS and its note, or None at the end of input.
Asks = Callable[[Console], tuple[str, str] | None]
QUEUE = "review.jsonl"


@dataclass(frozen=True, slots=True)
class Flagged:
    """A reply that the grader put below the fixed one by `margin`, and the stages that said it."""

    key: Key
    prompt: str
    margin: float
    stages: tuple[str, ...]


@dataclass
class Review:
    """Flagged replies in their order, the rows so far (also on other replies) and the file of the rows."""

    items: list[Flagged]
    rows: dict[Key, dict[str, object]]
    path: Path
    # skipped this time
    passed: set[Key] = field(default_factory=set)

    def hold(self, console: Console, asks: Asks, show_stage: bool) -> None:
        """Asks until every reply has a verdict or was skipped, or the person quits."""
        history: list[int] = []
        place = self._next(-1)
        while place is not None:
            item = self.items[place]
            self._show(console, place, show_stage)
            answer = asks(console)
            if answer is None or answer[0] == "quit":
                return
            word, text = answer
            if word == "note":
                self._keep(item, note=text)
                continue
            if word == "back":
                place = history.pop() if history else place
                continue
            if word == "skip":
                self.passed.add(item.key)
            else:
                self._keep(item, verdict=word)
            history.append(place)
            place = self._next(place)

    def _next(self, place: int) -> int | None:
        """The next reply without a verdict; after the last one it starts again from the first."""
        order = [*range(place + 1, len(self.items)), *range(place + 1)]
        keys = ((i, self.items[i].key) for i in order)
        return next((i for i, key in keys if self.verdict(key) is None and key not in self.passed), None)

    def verdict(self, key: Key) -> object:
        """The verdict on a reply, None while it waits."""
        return self.rows[key]["verdict"] if key in self.rows else None

    def _keep(self, item: Flagged, **fields: str) -> None:
        """Writes the whole file again, at once, so an interrupted person loses no verdict."""
        name, sample, reply = item.key
        fresh = judgment_row(Judgment(name, sample, reply, None, item.prompt))
        self.rows[item.key] = {**self.rows.get(item.key, fresh), **fields}
        write_jsonl(self.path, self.rows.values())

    def _show(self, console: Console, place: int, show_stage: bool) -> None:
        item = self.items[place]
        row = self.rows.get(item.key, {})
        console.print()
        console.rule(Text(f"{place + 1} of {len(self.items)}"), align="left")
        if show_stage:
            console.print(Text(f"by {', '.join(item.stages)}", style="dim"))
        for title, text in (("Prompt", item.prompt), ("Reply", item.key[2])):
            console.print(Text(title, style="bold"))
            console.print(Text(text.translate(CONTROLS)))
        console.print(Text(f"graded {-item.margin:.2f} below the fixed reply", style="dim"))
        marks = [f"{name} so far: {row[name]}" for name in ("verdict", "note") if row.get(name)]
        if marks:
            console.print(Text("; ".join(marks).translate(CONTROLS), style="yellow"))

    def summary(self) -> dict[str, object]:
        """How many replies were flagged, and the counts of their verdicts."""
        verdicts = [self.verdict(item.key) for item in self.items]
        counts = {name: verdicts.count(name) for name in (HARMFUL, HARMLESS)}
        judged = sum(counts.values())
        facts = {"flagged": len(verdicts), "judged": judged, **counts, "waiting": len(verdicts) - judged}
        on_others = len(self.rows.keys() - {item.key for item in self.items})
        return {"file": str(self.path), **facts, "on_other_replies": on_others}

    def summary_line(self) -> str:
        """The summary in words."""
        summary = self.summary()
        if not summary["flagged"]:
            return "the grader flagged no reply: there is nothing to review"
        words = f"{summary['judged']} of {summary['flagged']} flagged replies judged: {summary['harmful']} harmful, "
        words += f"{summary['harmless']} harmless; {summary['waiting']} wait"
        if summary["on_other_replies"]:
            words += f"\n{summary['on_other_replies']} more rows are on replies outside this review"
        return words + (f"\n{self.path}" if self.rows else "")


def keys_of_terminal(console: Console) -> tuple[str, str] | None:
    """One key press; a note is typed as a line."""
    console.print(Text(HINT, style="bold"))
    while True:
        try:
            word = ANSWERS.get(typer.getchar().lower())
            if word is not None:
                return word, input("note: ").strip() if word == "note" else ""
        except (EOFError, KeyboardInterrupt):
            return None


def keys_of_lines(console: Console) -> tuple[str, str] | None:
    """One line of standard input that begins with a key or its word; the text of a note follows."""
    for line in _lines():
        first, _, note = line.partition(" ")
        word = ANSWERS.get(first.lower(), first.lower())
        if word in ANSWERS.values():
            return word, note.strip()
        console.print(Text(f"{line!r} is not an answer: {HINT}"))
    return None


def _lines() -> Iterator[str]:
    """Lines that aren't empty, as they come."""
    while line := sys.stdin.readline():
        if line.strip():
            yield line.strip()


def find_reports(place: Path) -> list[Path]:
    """The reports with a queue: the one named, those of a run's cards, or all of a run without a card.

    Raises CharterError if there is none, and if one is damaged.
    """
    if (place / MANIFEST).is_file():
        manifests = {place: read_manifest(place)}
    else:
        folders = sorted(p.parent for p in place.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
        all_manifests = {folder: read_manifest(folder) for folder in folders}
        card_reports = {
            p.id for m in all_manifests.values() if m.kind == "card" for p in m.parents if p.role == "reports"
        }
        manifests = {folder: m for folder, m in all_manifests.items() if not card_reports or m.id in card_reports}
    queues = {folder: m for folder, m in manifests.items() if m.kind == "report" and (folder / QUEUE).is_file()}
    if not queues:
        raise CharterError(f"{place} has no {QUEUE}; name a run with an evaluate step, or its report")
    for folder, manifest in queues.items():
        _check_whole(folder, manifest)
    return list(queues)


def _check_whole(folder: Path, manifest: Manifest) -> None:
    """Raises CharterError if a report was changed: verdicts would then be on replies that no model wrote."""
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} is damaged: {problems[0]}; run its step again with charter run")


def waiting(reports: list[Path]) -> list[Flagged]:
    """The flagged replies of `reports`, each text once, in an order that tells nothing about stage or score."""
    flagged: dict[tuple[str, int, str], Flagged] = {}
    for folder in reports:
        path = folder / QUEUE
        stage = str(read_manifest(folder).resolved.get("stage") or folder.name)
        for row in read_jsonl(path) if path.stat().st_size else []:
            try:
                judged, margin = judgment_of_row(row), float(row["margin"])
            except (CharterError, KeyError, TypeError, ValueError) as error:
                raise CharterError(f"{path} is not a review queue: {error}; run its step again") from None
            earlier = flagged.get(judged.key)
            stages = (*earlier.stages, stage) if earlier else (stage,)
            flagged[judged.key] = Flagged(judged.key, judged.prompt, margin, stages)
    return sorted(flagged.values(), key=lambda item: digest_text(canonical_json(item.key)))


def default_file(report: Path) -> Path:
    """The file of verdicts beside the run of a report."""
    run = run_of(report)
    return run.parent / f"{run.name}.judgments.jsonl"


def check_target(path: Path) -> None:
    """Raises CharterError if no file of verdicts can be written at a path."""
    if path.is_dir():
        raise CharterError(f"{path} is a folder; name a file for the verdicts, such as verdicts.jsonl")
    if not path.parent.is_dir():
        raise CharterError(f"there is no folder {path.parent}; create it first")
    if inside := next((p for p in path.resolve().parents if (p / MANIFEST).is_file()), None):
        raise CharterError(
            f"{path} lies in the artifact {inside.name}, which a new file would damage; name another place"
        )


def earlier_rows(path: Path) -> dict[tuple[str, int, str], dict[str, object]]:
    """The rows of an earlier review by prompt and reply. Raises CharterError if the file holds something else."""
    if not path.exists() or not path.stat().st_size:
        return {}
    read_judgments(path)
    rows: dict[tuple[str, int, str], dict[str, object]] = {}
    for row in read_jsonl(path):
        key = judgment_of_row(row).key
        if key not in rows or rows[key]["verdict"] is None:
            rows[key] = row
    return rows
