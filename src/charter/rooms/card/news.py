"""What's new: one version against the one before, as in `charter compare`, with Holm's correction.

The version before is the start of the run, or the final stage of another card (`previous`).

An update is a finished card with an appendix of news, like the appendix on Claude 2.1 to the Claude 2 card. The base
card is not rewritten: its files are read, and a notice and the appendix inserted. The base is kept whole under `base`
in card.json. It is a parent of the update, so verifying an update also verifies the base and makes both again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup

from charter.ground.artifact.curves import read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.recount import COUNTS
from charter.ground.artifact.store import verify_files
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.compare import compare_stages
from charter.rooms.card.facts import environment as made_in
from charter.rooms.card.facts import names_with_shares
from charter.rooms.card.gather import Run
from charter.rooms.card.layout import FORMAT
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.page import HTML, JSON, MARKDOWN, paged, written
from charter.rooms.card.sections import Headline, between, of_model
from charter.rooms.card.settings import Settings

START, END = "<main>\n", "</main>\n"
COPIED = "plots/"
NOTICE = Markup(
    '<div class="verdict note"><p>An update was added to this card: <a href="#{key}">{name}</a>. '
    "Nothing else on the page was changed.</p></div>\n"
)
SECTION = Markup('<section id="{key}" class="appendix">\n{appendix}</section>\n')


@dataclass(frozen=True, slots=True)
class News:
    """Metrics of the policy by their corrected verdict. `refused` are those that can't be compared, with the reason."""

    before: str
    after: str
    gains: tuple[Headline, ...]
    losses: tuple[Headline, ...]
    moved: tuple[Headline, ...]
    same: tuple[Headline, ...]
    refused: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def slight(self) -> tuple[Headline, ...]:
        """Worse, not significantly."""
        return tuple(h for h in self.same if h.change is not None and h.change.loss_level == "any")

    @property
    def groups(self) -> tuple[tuple[str, str, tuple[Headline, ...]], ...]:
        """(key, title, rows) of what is compared, in the order of the page."""
        candidates = (
            ("better", "Gains", self.gains),
            ("worse", "Losses", self.losses),
            ("moved", "Changed, with no direction that is better", self.moved),
            ("slight", "Worse, not significant", self.slight),
            ("same", "Not significant", tuple(h for h in self.same if h not in self.slight)),
        )
        return tuple((key, title, rows) for key, title, rows in candidates if rows)


def whats_new(run: Run) -> News | None:
    """The news from the version before to the final stage; None if there is no version before."""
    before = run.previous or run.start
    return news(before, run.final) if before is not run.final else None


def news(before: Artifact, after: Artifact) -> News:
    """The metrics of two stages by verdict."""
    verdicts = {name: rows[0]["verdict"] for name, rows in compare_stages([before, after]).items()}
    policy = [name for name in verdicts if name in {*of_model(after), *of_model(before)}]
    heads = {h.name: h for h in between(before, after, policy)}

    def of(verdict: str) -> tuple[Headline, ...]:
        return tuple(heads[name] for name in policy if verdicts[name] == verdict)

    sides = (
        (f"only the {word} has it", f"only {s.label} has it") for word, s in (("first", before), ("second", after))
    )
    short_reasons = dict(sides)
    reasons: dict[str, list[str]] = {}
    for name in policy:
        result, _, why = verdicts[name].partition(": ")
        if result == "not compared":
            reasons.setdefault(short_reasons.get(why, why), []).append(name)
    names = before.label, after.label
    if before.label == after.label:
        names = f"{before.label} before", f"{after.label} now"
    refused = tuple((why, tuple(members)) for why, members in reasons.items())
    return News(*names, of("better"), of("worse"), of("changed"), of("not significant"), refused)


def make_update(settings: Settings, run: Run, base: Artifact, before: Artifact) -> dict[str, str]:
    """File name -> content of the base card with an appendix on the run's final stage.

    Raises CharterError if the base is damaged or is not a page of this charter.
    """
    if problems := verify_files(base.path, base.manifest):
        raise CharterError(f"the base card {base.step} is damaged: {problems[0]}; run its recipe again")
    files = {
        f.path: (base.path / f.path).read_bytes().decode("utf-8") for f in base.manifest.files if _is_copied(f.path)
    }
    page, words = files[HTML], files[MARKDOWN]
    if page.count(START) != 1 or page.count(END) != 1:
        raise CharterError(f"the base card {base.step} has another form than this charter's; make it again")
    ledger = Ledger(names_with_shares(run))
    changes = news(before, run.final)
    heading = f"Appendix: update to {settings.model_name}, {run.final.label}"
    key = f"update-{run.final.manifest.id[:8]}"
    context = {
        "run": run,
        "base": base,
        "before": before,
        "news": changes,
        "heading": heading,
        "environment": made_in(run),
    }
    appendix, _ = paged("update.md.jinja", ledger, context, ())
    notice = str(NOTICE.format(key=key, name=f"{settings.model_name}, {run.final.label}"))
    section = str(SECTION.format(key=key, appendix=Markup(appendix)))
    files[HTML] = page.replace(START, START + notice).replace(END, section + END)
    files[MARKDOWN] = words + written("update.md.jinja", ledger, context)
    record = _record(settings, run, base, changes, ledger)
    counts = {"numbers": len(record["numbers"]), "stages": len(run.stages)}
    files[JSON] = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    files[COUNTS] = json.dumps(counts, indent=1) + "\n"
    return files


def _is_copied(path: str) -> bool:
    """Whether an update copies the base's file: its page and drawings, not the scores that the hub shows."""
    return path in (HTML, MARKDOWN) or path.startswith(COPIED)


def stage_entry(stage: Artifact) -> dict[str, Any]:
    """A stage in card.json."""
    model = stage.report.get("model")
    return {"stage": stage.label, "step": stage.step, "id": stage.manifest.id, "model": model}


def _record(settings: Settings, run: Run, base: Artifact, changes: News, ledger: Ledger) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "title": settings.title,
        "update_of": {"step": base.step, "id": base.manifest.id},
        "settings": settings.model_dump(mode="json"),
        "model": run.final.report.get("model"),
        "stages": [stage_entry(stage) for stage in run.stages],
        "verdicts": {key: [h.name for h in rows] for key, _, rows in changes.groups},
        "refused": [{"name": name, "why": why} for why, names in changes.refused for name in names],
        "numbers": ledger.records(),
        "base": read_object(base.path / JSON),
        "drawn_with": {"matplotlib": matplotlib.__version__},
    }
