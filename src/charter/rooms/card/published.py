"""What Anthropic published beside this card's numbers, with each difference of protocol named.

`published.jsonl` has every number of the Claude 2 card, of its appendix on 2.1 and of two posts, with the section and
how it was asked. Nothing is read off a plot: if only a figure shows it, the row says so.

Every published number has a row: ours beside it, or why there is none. A number of ours stands there only if it is of
the same public items. Differences follow from the identity of the report that gives ours; what the page doesn't state
is called unstated. Models of other sizes were asked in other words, so a row says how far apart two numbers are, never
why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.reports.artifact import REPORT, Artifact
from charter.ground.reports.changes import change
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import COUNT, PLAIN, SHARE, Number, Source
from charter.ground.reports.stages import model_of
from charter.ground.settings.frozen import Frozen
from charter.ground.text.heldout import BENIGN, TWIN
from charter.ground.text.judgments import HUMAN
from charter.rooms.card.gather import Run
from charter.rooms.card.review import summarise_verdicts
from charter.rooms.card.sections import unread
from charter.rooms.card.tasks import read_protocol, references

CARD = "Model Card and Evaluations for Claude Models, Anthropic, July 2023"
TABLE = Path(__file__).parent / "published.jsonl"
GAIN = "gain:"
# Metrics that stand beside a published number though their items are ours, since theirs were never published.
REQUESTS = "requests_harm_prompts"
UNPUBLISHED = frozenset({REQUESTS, "harm_rate_prompts", "harm_rate", "position_exponent", "position_constant"})
# The parts of our protocol that are stated besides the data, for numbers that no question task gives.
OWN_WORDS = "the set's own prompt"
STATED_PARTS = {"hhh_policy": ("shots", "form", "words")}
Ours = Number | str | None


class Published(Frozen):
    """One row of `published.jsonl`: a value by version, in words or as a number."""

    what: str
    section: str = Field(description="of the page; launch or post for a news post")
    values: dict[str, float | str]
    ours: tuple[str, ...] = Field((), description="metrics that may stand beside it, or a name of FACTS")
    why: str = Field("", description="why nothing of ours does")
    group: str = Field("Evaluations", description="its table")
    unit: str = SHARE
    page: str = CARD
    protocol: str = Field("", description="how it was asked, in words")
    data: str = ""
    # The size of the public set. None here and below: the page doesn't say.
    items: int | None = None
    shots: int | None = None
    temperature: float | None = None
    samples: int | None = None
    length: int | None = Field(None, description="of its texts, in tokens, at most")
    reasoned: bool | None = None
    plain: tuple[str, ...] = Field((), description="metrics of ours that answer without a chain of thought")
    differs: tuple[str, ...] = Field((), description="what differs whatever the run")


@dataclass(frozen=True, slots=True)
class Beside:
    """A published row, and ours: a number, a date in words, or None and `why`. `values` are (model, what was
    published)."""

    row: Published
    values: tuple[tuple[str, Number | str], ...]
    ours: Ours
    unfit: bool = False
    differences: tuple[str, ...] = ()
    why: str = ""


@lru_cache
def published() -> tuple[Published, ...]:
    """All published numbers, in the order of the tables."""
    return tuple(Published.model_validate(row) for row in read_objects(TABLE))


def beside_published(run: Run) -> tuple[Beside, ...]:
    """A row for each published number, and for each of our metrics that stands beside it."""
    return tuple(beside for row in published() for beside in _beside(run, row))


def groups_of(rows: tuple[Beside, ...]) -> tuple[tuple[str, tuple[Beside, ...]], ...]:
    """The rows by table, in the order of the data."""
    names = dict.fromkeys(beside.row.group for beside in rows)
    return tuple((name, tuple(beside for beside in rows if beside.row.group == name)) for name in names)


def published_number(name: str) -> Number | None:
    """The published number of the page's last model beside one of our metrics."""
    row = next(row for row in published() if name in row.ours)
    number = dict(_values(row, name)).get("Claude 2")
    return number if isinstance(number, Number) else None


def _beside(run: Run, row: Published) -> Iterator[Beside]:
    answers = {name: _find(run, name) for name in row.ours}
    measured = {name: ours for name, (ours, why) in answers.items() if not why and ours is not None}
    for name, ours in measured.items():
        differences: tuple[str, ...] = ()
        if isinstance(ours, Number) and name in run.final.metrics:
            differences = tuple(_differences(run.final, name, ours, row))
        grey = name in run.final.metrics and unfit(run.final, name)
        yield Beside(row, _values(row, name), ours, grey, (*differences, *row.differs))
    if not measured:
        why = row.why or "; ".join(dict.fromkeys(why for _, why in answers.values()))
        yield Beside(row, _values(row, row.ours[0] if row.ours else row.what), None, why=why)


def _values(row: Published, name: str) -> tuple[tuple[str, Number | str], ...]:
    def value(model: str, value: float | str) -> Number | str:
        if isinstance(value, str):
            return value
        source = Source(row.page.partition(",")[0], row.page, f"section {row.section}")
        gain = name.startswith(GAIN)
        return Number(
            f"published/{model}/{name}", name, value, unit=row.unit, stage=model, change=gain, sources=(source,)
        )

    return tuple((model, value(model, published)) for model, published in row.values.items())


def _find(run: Run, name: str) -> tuple[Ours, str]:
    """Ours under a name and "", or why there is none."""
    if name in FACTS:
        return FACTS[name](run)
    metric = name.removeprefix(GAIN)
    ours = run.final.numbers.get(metric)
    if ours is None or ours.value is None:
        return None, f"no report on {run.final.label} has {metric}"
    if ours.few:
        return None, f"fewer than 20 answers behind {metric}"
    if name.startswith(GAIN):
        delta = change(run.start, run.final, metric) if run.start is not run.final else None
        if delta is None or delta.number is None:
            return None, f"{metric} is not compared: {delta.why if delta else f'{run.start.label} lacks it'}"
        return delta.number, ""
    if not _asked_alike(run.final, metric):
        data = references(_read_identity(run.final, metric).get("data"))
        return None, f"{metric} is of items of our own{f', {data}' if data else ''}"
    return ours, ""


def _asked_alike(stage: Artifact, name: str) -> bool:
    """Whether a number is of the public set, or of items that were never published, and not of items of our own or of
    others that stand in for an exam."""
    identity = _read_identity(stage, name)
    data = references(identity.get("data"))
    alike = bool(data) and not data.startswith("shipped:") and not identity.get("stand_in")
    return name in UNPUBLISHED or alike


def _differences(stage: Artifact, name: str, ours: Number, row: Published) -> Iterator[str]:
    """The known differences, then what the page leaves open."""
    identity = _read_identity(stage, name)
    data, items = references(identity.get("data")), _items(stage, name, ours)
    few = f" ({items:,} of {row.items:,} items)" if items and row.items and items < row.items else ""
    if data and row.data:
        yield f"{data}{few}; there {row.data}"
    shots, temperature = identity.get("shots"), identity.get("temperature")
    if shots is not None and row.shots is not None and shots != row.shots:
        yield f"examples: {shots}; there {row.shots}"
    if row.samples and identity.get("samples") not in (None, row.samples):
        yield f"samples of a prompt: {identity['samples']}; there {row.samples}"
    if row.length is not None:
        joined = ", joined from shorter ones" if identity.get("joined") else ""
        yield f"texts of {identity.get('length', 0):,} tokens{joined}; there to {row.length:,}"
        yield "counted in tokens of another tokenizer"
    elif row.temperature is None and temperature is not None:
        yield f"temperature: {temperature:g}; not stated there"
    elif temperature is not None and temperature != row.temperature:
        yield f"temperature: {temperature:g}; there {row.temperature:g}"
    reasons = name not in row.plain
    if row.reasoned is not None and reasons != row.reasoned:
        yield ("answers after a chain of thought; there without" if reasons else "no chain of thought; there with one")
    if identity.get("scored") == "options" and not row.reasoned:
        yield "the likeliest choice; not stated there"
    form = "a running text" if identity.get("form") == "text" else "a chat"
    if (words := identity.get("words")) is not None and words != OWN_WORDS:
        yield f"asked in {words}; there in the set's own prompt"
    elif words is not None:
        yield f"the set's own prompt as {form}; not stated there"
    elif identity.get("form") and name not in UNPUBLISHED:
        yield f"asked as {form}; its words there are not published"
    if unread(stage, name):
        yield "this model can't use letters: the place of an option decides"


def _items(stage: Artifact, name: str, ours: Number) -> int:
    """How many items were asked. Clusters are fewer if questions share a passage."""
    if name == REQUESTS:  # harmless requests are kept in the same file
        return ours.clusters or 0
    rows = stage.of(name).rows(ours.sources[0].file)
    return len({str(row.get("item", row["id"])) for row in rows})


def _read_identity(stage: Artifact, name: str) -> Mapping[str, Any]:
    """How a stage was asked, as a task's identity says it, also if an evaluate report has the number."""
    identity = read_protocol(stage, name)
    if name in STATED_PARTS:
        return {key: identity.get(key) for key in ("data", *STATED_PARTS[name])}
    return identity


def _distinct(metric: str, *keys: str, **where: str) -> Callable[[Run], tuple[Ours, str]]:
    """Counts the distinct values of the first of some keys that the rows behind a metric have. Harmless requests don't
    count."""

    def count(run: Run) -> tuple[Ours, str]:
        number = run.final.numbers.get(metric)
        if number is None:
            return None, f"no report on {run.final.label} has {metric}"
        report, file = run.final.of(metric), number.sources[0].file
        harmful = (row for row in report.rows(file) if row.get("origin") not in (BENIGN, TWIN))
        rows = [row for row in harmful if all(row.get(key) == want for key, want in where.items())]
        values = {str(next(row[key] for key in keys if key in row)) for row in rows}
        return report.count(f"published.{metric}.{keys[0]}", len(values), file), ""

    return count


def _of_requests(key: str) -> Callable[[Run], tuple[Ours, str]]:
    """Counts the distinct values of a key in the set of 328 requests, or in red-team prompts if those weren't asked."""
    return lambda run: _distinct(REQUESTS if REQUESTS in run.final.numbers else "harm_rate", key)(run)


def _asked(key: str) -> Callable[[Run], tuple[Ours, str]]:
    """A setting of the harmful requests at the final stage."""

    def read(run: Run) -> tuple[Ours, str]:
        requests = REQUESTS in run.final.numbers
        report = run.final.of(REQUESTS if requests else "harm_rate")
        task = "requests" if requests else "harmlessness"
        value = (report.report.get("identity") or {}).get(task, {}).get(key)
        if not isinstance(value, int | float):
            return None, f"the report on {run.final.label} doesn't state {key}"
        number = report.count(f"published.{key}", value, REPORT)
        return (replace(number, unit=PLAIN) if key == "temperature" else number), ""

    return read


def _context(run: Run) -> tuple[Ours, str]:
    model = next((a for a in run.lineage if a.manifest.id == model_of(run.final)), None)
    config = model.path / "config.json" if model else None
    longest = read_object(config).get("max_position_embeddings") if config and config.exists() else None
    if model is None or not isinstance(longest, int):
        return None, f"no checkpoint of this run states the context of {run.final.label}"
    return model.count("published.context", longest, "config.json"), ""


def _confirmed(run: Run) -> tuple[Ours, str]:
    confirmed = {r.stage: r.confirmed for r in summarise_verdicts(run) if r.source == HUMAN and r.confirmed}
    label = run.final.label
    number = confirmed.get(f"{label}, requests") or confirmed.get(label)
    return (number, "") if number else (None, f"no person judged what was flagged at {run.final.label}")


def _scaled(task: str, unit: str, *keys: str) -> Callable[[Run], tuple[Ours, str]]:
    """What a table of the user's gives for an official form, of the latest years; removed items count as wrong."""

    def read(run: Run) -> tuple[Ours, str]:
        if task not in run.final.numbers:
            return None, f"no report on {run.final.label} has {task}"
        report = run.final.of(task)
        scale: Any = (report.report.get(task) or {}).get("scale") or {}
        for key in keys:
            scale = scale.get(key) or {}
        if not scale:
            return None, f"the report on {run.final.label} has no table for a form of {task}"
        value = max(scale, key=lambda entry: str(entry["years"]))["value"]
        number = report.count(f"published.{task}.{keys[-1]}", value / 100 if unit == SHARE else value, REPORT)
        return replace(number, unit=unit), ""

    return read


def _cutoff(run: Run) -> tuple[Ours, str]:
    dates = (a.manifest.resolved.get("filters") for a in run.behind if a.manifest.kind == "corpus")
    date = next((str(f["cutoff"]) for f in dates if isinstance(f, dict) and f.get("cutoff")), None)
    return (date, "") if date else (None, "no step of this run made a corpus with a cut-off")


def _stages(run: Run) -> tuple[Ours, str]:
    number = run.final.count("published.stages", len(run.stages), MANIFEST)
    sources = tuple(stage.source(MANIFEST) for stage in run.stages)
    return replace(number, unit=COUNT, sources=sources), ""


# Sizes, settings and dates that are no metric: ours, or why there is none.
FACTS: Mapping[str, Callable[[Run], tuple[Ours, str]]] = {
    "choices": _distinct("hhh_policy", "item", "id", mode="policy"),
    "harm_prompts": _of_requests("id"),
    "harm_samples": _of_requests("sample"),
    "dimensions": _distinct("bbq_ambiguous_bias", "group"),
    "languages": _distinct("translation_bleu", "group"),
    "documents": _distinct("position_exponent", "id"),
    "temperature": _asked("temperature"),
    "longest_reply": _asked("max_tokens"),
    "context": _context,
    "confirmed": _confirmed,
    "gre_verbal_scaled": _scaled("gre_verbal", COUNT, "removed_wrong", "scaled"),
    "gre_verbal_percentile": _scaled("gre_verbal", SHARE, "removed_wrong", "percentile"),
    "gre_quant_scaled": _scaled("gre_quant", COUNT, "removed_wrong", "scaled"),
    "gre_quant_percentile": _scaled("gre_quant", SHARE, "removed_wrong", "percentile"),
    "gre_writing_percentile": _scaled("gre_writing", SHARE, "percentile"),
    "cutoff": _cutoff,
    "stages": _stages,
    "made": lambda run: (run.final.manifest.timing.started[:10], ""),
}
