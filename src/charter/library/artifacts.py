"""What steps make, read back: metrics, kept rows and parents of one artifact. Nothing here loads torch."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.kinds import CARD_PAGE
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import Manifest, Metric
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.problems import suggest
from charter.ground.text.jsonl import read_jsonl
from charter.library.rows import Rows, html_table, spell_interval

if TYPE_CHECKING:
    from charter.library.models import Model

SAMPLES = "samples/"
_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_FRAME = 720  # height of a card in a notebook, in pixels
_FIGURES = ("metric", "value", "95 % interval", "n")


class Artifact:
    """The folder of one finished step. `path`: that folder. `manifest`: all that is recorded of it."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}: {self.manifest.kind} by {self.manifest.room}>"

    @property
    def name(self) -> str:
        """The name of the step that made it."""
        return self.manifest.step

    @property
    def kind(self) -> str:
        """corpus, checkpoint, dialogues, comparisons, judgments, report, card or release."""
        return self.manifest.kind

    @property
    def id(self) -> str:
        """The hash of all that determines its content, 64 hex digits: equal ids mean equal work."""
        return self.manifest.id

    @property
    def parents(self) -> dict[str, list[Artifact]]:
        """The artifacts that it was made of, by role. Raises CharterError if one is gone or was replaced."""
        run = run_of(self.path)
        by_role: dict[str, list[Artifact]] = {}
        for parent in self.manifest.parents:
            manifest, folder = find_parent(run, parent)
            by_role.setdefault(parent.role, []).append(artifact_of(folder, manifest))
        return by_role

    @property
    def tables(self) -> list[str]:
        """The names that `rows` takes: of files of kept rows, such as graded replies."""
        return list(self._files())

    def metrics(self) -> Rows:
        """One row a number: step, name, label, value, low and high (its 95 % interval), n, unit, better ("lower",
        "higher", "zero" or "neither") and meaning; None for what is not known."""
        return metric_rows(self.manifest)

    def log(self) -> Rows:
        """The curve of a training: one row a logged step, oldest first; no rows for what wasn't trained."""
        return Rows(read_log(self.path))

    def rows(self, name: str) -> Rows:
        """The kept rows of one file, in its order. Raises CharterError for a name that is not in `tables`."""
        files = self._files()
        if name not in files:
            raise CharterError(f"{self.path} keeps no rows named {name!r}; {suggest(name, files)}")
        return Rows(read_jsonl(self.path / files[name]) if (self.path / files[name]).stat().st_size else [])

    def _files(self) -> dict[str, str]:
        """Name -> path of each file of rows below the folder."""
        paths = (record.path for record in self.manifest.files if record.path.endswith(_ENDINGS))
        return {path.removeprefix(SAMPLES).partition(".jsonl")[0]: path for path in paths}

    def _repr_html_(self) -> str:
        return html_table(repr(self)[1:-1], _FIGURES, [_figures(m) for m in self.manifest.metrics])


class Checkpoint(Artifact):
    """A model that a step made: a folder that stock `transformers` reads too."""

    def load(self, precision: str | None = None, device: str | None = None) -> Model:
        """The model in memory; arguments and errors are those of `charter.load`."""
        from charter.library.models import load

        return load(self.path, precision, device)


class Report(Artifact):
    """The evaluations of one model."""

    def _repr_html_(self) -> str:
        """All scores but those of single parts, such as one dimension of BBQ; `metrics` has them too."""
        from charter.ground.measure.reporting import read_reported

        declared = read_reported(self.path).metrics
        parts = {name for name, metric in declared.items() if metric.kind == "part"}
        wholes = [_figures(metric) for metric in self.manifest.metrics if metric.name not in parts]
        stage = str(self.manifest.resolved.get("stage") or self.name)
        return html_table(f"Report on {stage}", _FIGURES, wholes)


class Card(Artifact):
    """The page that proves what a run made."""

    @property
    def page(self) -> Path:
        """The page as a file for a browser."""
        return self.path / CARD_PAGE

    def _repr_html_(self) -> str:
        """The front of the page in a frame that runs no script: what to believe, headline numbers, stages, examples
        and limits."""
        from charter.rooms.card.layout import front_of

        try:
            front = front_of(self.page.read_text("utf-8"))
        except OSError as error:
            raise CharterError(f"{self.page} cannot be read: {error}; run the recipe again") from None
        style = f"width:100%;height:{_FRAME}px;border:1px solid #8884"
        return f'<iframe sandbox title="Model card" style="{style}" srcdoc="{escape(front)}"></iframe>'


_CLASSES: dict[str, type[Artifact]] = {"checkpoint": Checkpoint, "report": Report, "card": Card}


def artifact_of(folder: Path, manifest: Manifest | None = None) -> Artifact:
    """The artifact in a folder, as the class of its kind. Raises CharterError without a readable manifest."""
    record = manifest or read_manifest(folder)
    return _CLASSES.get(record.kind, Artifact)(folder, record)


def metric_rows(manifest: Manifest) -> Rows:
    """The metrics of a manifest, see `Artifact.metrics`."""
    hidden = {"version", "note", "group"}
    return Rows({"step": manifest.step, **metric.model_dump(exclude=hidden)} for metric in manifest.metrics)


def _figures(metric: Metric) -> tuple[object, ...]:
    """The cells of `_FIGURES`."""
    return metric.label or metric.name, metric.value, spell_interval(metric.low, metric.high), metric.n
