"""What a run came to, in a few numbers: from its manifests and its card's own record; nothing is worked out again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.kinds import CARD_PAGE, CARD_RECORD
from charter.ground.artifact.lineage import seal_of
from charter.ground.artifact.manifest import Metric
from charter.ground.measure.metric import default_label, improves
from charter.runner.show import FEWEST, StepView

# a change is significant as on the card: its interval excludes 0, and exchanging the stages gives one as large this
# rarely
ALPHA = 0.05


@dataclass(frozen=True)
class Change:
    """A metric of the first and the last stage. `better`: as in `Metric`. `verdict`: better, worse, changed, "not
    significant", or "not compared". `unfit`: an unfit grader gave it."""

    name: str
    label: str
    unit: str
    better: str
    start: float | None
    final: float | None
    difference: float | None
    verdict: str
    unfit: bool = False


@dataclass(frozen=True)
class Summary:
    """A run in short. `seconds`: of its steps' work. `stages`: the labels of the first and the last. `worse`: all that
    got significantly worse. `fit`: of the card's grader, None without one. `talk`: the folder of the model to talk to.
    `compare`: what to put side by side. `unfit`: the metrics that an unfit grader gave. `last`: its last step."""

    run: Path
    done: int
    steps: int
    seconds: float
    stages: tuple[str, str] | None = None
    headlines: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()
    fit: bool | None = None
    card: Path | None = None
    seal: str = ""
    talk: Path | None = None
    compare: tuple[Path, ...] = ()
    unfit: tuple[str, ...] = ()
    last: str = ""


def summarise(run: Path, views: Sequence[StepView]) -> Summary:
    """The summary of a run. Raises CharterError if the record of its card is damaged."""
    finished = [view for view in views if view.status == "done"]
    seconds = sum(view.manifest.timing.seconds for view in views if view.manifest is not None)
    policies = [
        view
        for view in finished
        if view.manifest is not None and view.manifest.variant == "policy" and not view.manifest.purpose
    ]
    reports = [view for view in finished if view.kind == "report"]
    pages = [view for view in finished if view.kind == "card" and (view.path / CARD_PAGE).is_file()]
    ends = (reports[0].path, reports[-1].path) if len(reports) > 1 else ()
    short = Summary(run, len(finished), len(views), seconds, compare=ends, last=views[-1].name if views else "")
    talk = policies[-1].path if policies else None
    if not pages:
        return Summary(**{**vars(short), "talk": talk})
    path = pages[-1].path
    record = read_object(path / CARD_RECORD)
    try:
        stages = record["stages"]
        final = {view.name: view for view in policies}.get((stages[-1]["model"] or {}).get("name", ""))
        metrics = {view.name: {m.name: m for m in view.metrics} for view in reports}
        numbers = _Numbers(record, metrics.get(stages[-1]["step"], {}))
        facts: dict[str, Any] = {
            "stages": (stages[0]["stage"], stages[-1]["stage"]),
            "headlines": numbers.headlines(),
            "worse": numbers.worse(),
            "unfit": tuple(record.get("unfit", ())),
            "fit": _is_fit(record["grader"]) if record["grader"] else None,
        }
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise CharterError(
            f"{path / CARD_RECORD} lacks what a card records ({error!r}); make its step again with charter run"
        ) from None
    sides = (run,) if len(stages) > 1 else ()
    card = pages[-1].manifest
    seal = seal_of(card) if card is not None else ""
    links = {"card": path / CARD_PAGE, "seal": seal, "talk": final.path if final else talk, "compare": sides}
    return Summary(**{**vars(short), **facts, **links})


def _is_fit(grader: Mapping[str, Any]) -> bool | None:
    """The verdict on a card's grader: False too if it is unfit for harm."""
    return False if grader.get("unfit_for_harm") else grader.get("fit")


class _Numbers:
    """The numbers of a card's record, worded as the last stage's report describes its metrics."""

    def __init__(self, record: Mapping[str, Any], metrics: Mapping[str, Metric]) -> None:
        self._headline: list[str] = record["settings"]["headline"]
        self._numbers: dict[str, dict[str, Any]] = {n["key"]: n for n in record["numbers"]}
        self._ends: tuple[str, str] = (record["stages"][0]["step"], record["stages"][-1]["step"])
        self._metrics = metrics
        self._unfit: list[str] = record.get("unfit", [])

    def headlines(self) -> tuple[Change, ...]:
        """The metrics that the card shows first, as far as the last stage has them; those of an unfit grader last."""
        changes = sorted(map(self._change, self._headline), key=lambda change: change.unfit)
        return tuple(change for change in changes if change.final is not None)

    def worse(self) -> tuple[Change, ...]:
        """What got worse from the first stage to the last: headlines, then other metrics of enough rows."""
        first, last = self._ends
        between = f"{first}..{last}/"
        names = [
            key.removeprefix(between)
            for key, number in self._numbers.items()
            if key.startswith(between) and ((number["n"] or 0) >= FEWEST or key.removeprefix(between) in self._headline)
        ]
        ordered = sorted(names, key=lambda name: name not in self._headline)
        return tuple(change for change in map(self._change, ordered) if change.verdict == "worse")

    def _change(self, name: str) -> Change:
        metric = self._metrics.get(name)
        first, last = self._ends
        start, final = (self._numbers.get(f"{step}/{name}", {}) for step in self._ends)
        between = self._numbers.get(f"{first}..{last}/{name}") if first != last else None
        better = (metric.better if metric else None) or ""
        return Change(
            name,
            (metric.label if metric else None) or default_label(name),
            final.get("unit") or "",
            better,
            start.get("value") if first != last else None,
            final.get("value"),
            between["value"] if between else None,
            _verdict(between, better, (start.get("value"), final.get("value"))) if first != last else "",
            name in self._unfit,
        )


def _verdict(change: Mapping[str, Any] | None, better: str, ends: tuple[float | None, float | None]) -> str:
    """What the card says of a change between the values of two stages."""
    if change is None or change["value"] is None:
        return "not compared"
    low, high = change["low"], change["high"]
    apart = low is not None and high is not None and (low > 0 or high < 0)
    rarely = change["p_holm"]
    if not apart or rarely is None or rarely >= ALPHA or not better:
        return "not significant"
    if better == "neither":
        return "changed"
    return "better" if improves(better, ends[0] or 0.0, ends[1] or 0.0) else "worse"
