"""Renders a run into the files of its card: card.html, card.md, card.json, plots and what the hub reads.

`make` is a pure function of the settings and the artifacts: `verify` calls it again and compares the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import matplotlib
from markupsafe import Markup

from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.recount import COUNTS
from charter.ground.measure.metric import ALIGNMENT, CAPABILITY
from charter.ground.measure.paper import style_sheet
from charter.ground.measure.plots import standalone, strip
from charter.ground.moderation.limits import LIMITS
from charter.ground.reports.artifact import placed_in
from charter.ground.reports.changes import families
from charter.ground.reports.hub import eval_results
from charter.ground.reports.judges import HARM, unfit
from charter.ground.reports.number import SHARE, Number
from charter.ground.reports.stages import heading, model_of
from charter.rooms.card import facts, graders, plots, review, samples, sections, statements, task_plots
from charter.rooms.card.autonomy import audit_figures, audited
from charter.rooms.card.drawing import Figure, note_point
from charter.rooms.card.elo import elo_tables, raters_of, vote_figures
from charter.rooms.card.gather import Run
from charter.rooms.card.layout import FORMAT, SCHEMA, TITLES, schema
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.lineage import Node, lineage, nodes
from charter.rooms.card.long_plots import position, recall
from charter.rooms.card.matrix import matrix, picture, tables
from charter.rooms.card.news import make_update, stage_entry, whats_new
from charter.rooms.card.page import HERE, HTML, JSON, MARKDOWN, frame, lengths_of, paged, written
from charter.rooms.card.policy import describe_screen, tradeoff
from charter.rooms.card.published import beside_published, groups_of
from charter.rooms.card.settings import Settings
from charter.rooms.card.tasks import all_tasks, task_tables
from charter.rooms.card.training import corpora, drift_table, scaling, scaling_table
from charter.rooms.card.under_attack import attack_figures, attacks

ARROWS = {"lower": "↓", "higher": "↑"}
# Tables of an evaluation's metrics, as these declare it, and their captions.
TABLES = {
    "main": "Main results by stage",
    "refusing": "Refusing",
    "red_team": "Harm in detail",
    "rated": "Harm by itself, 0 to 4",
    "over_refusal": "Over-refusal and tone",
    "alignment": "HHH choices: the better of two replies is the likelier one a token",
    "letters": "HHH choices by letter: the policy names the better of two replies",
    "capability": "Capability kept",
    "facts": "Helpfulness without a grader",
}


def figures(run: Run, ledger: Ledger) -> tuple[Figure, ...]:
    """All figures that the run has data for."""

    def draw(*functions: Callable[[Run, Ledger], Figure | None]) -> list[Figure | None]:
        return [function(run, ledger) for function in functions]

    candidates = (
        *draw(plots.harm, plots.refusals),
        *attack_figures(run, ledger),
        *audit_figures(run, ledger),
        *draw(plots.ppo),
        *plots.preferences(run, ledger),
        *draw(plots.labeller, plots.choices, plots.rater, plots.critiques, plots.rounds),
        *draw(task_plots.requests, task_plots.request_parts, task_plots.choices, task_plots.bias),
        *draw(task_plots.truthfulness, task_plots.categories, task_plots.capability, task_plots.subjects),
        *draw(position, recall, task_plots.translation),
        *vote_figures(run, ledger),
        *draw(tradeoff, scaling),
    )
    return tuple(figure for figure in candidates if figure is not None)


def make(settings: Settings, run: Run) -> dict[str, str]:
    """File name -> content of a whole card, or of an update of one. Raises CharterError if a number has no source."""
    if run.base is not None and run.previous is not None:
        return make_update(settings, run, run.base, run.previous)
    ledger = Ledger(facts.names_with_shares(run))
    artifacts, stage_matrix = nodes(run), matrix(run)
    final = str((run.final.report.get("model") or {}).get("id", ""))
    sources = tuple(a.source(MANIFEST) for a in run.lineage)
    all_figures = (*figures(run, ledger), picture(stage_matrix, ledger), lineage(artifacts, final, ledger, sources))
    drawings = tuple(figure for figure in all_figures if figure is not None)
    context = _context(settings, run, artifacts, drawings, ledger)
    context["columns"] = "; ".join(column.label for column in stage_matrix.columns)
    words = written("card.md.jinja", ledger, context)
    page, contents = paged("card.md.jinja", ledger, context, drawings)
    shell = {**context, "contents": contents, "body": Markup(page), "arrows": ARROWS}
    css = Markup(style_sheet(HERE / "card.css"))
    html = frame(ledger).get_template("page.html.jinja").render(**shell, css=css)
    results = eval_results(settings.eval_dataset, run.final, ledger.count) if settings.eval_dataset else {}
    files = {HTML: html, MARKDOWN: facts.front_matter(settings, run) + words, **results}
    files |= {f"plots/{f.key}.svg": standalone(f.svg) for f in drawings}
    files |= {SCHEMA: schema(), **tables(stage_matrix)}
    record = _record(settings, run, ledger, context | {"sections": lengths_of(words)})
    counts = {name: len(record[name]) for name in ("numbers", "figures", "sections", "stages")}
    files[JSON] = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    files[COUNTS] = json.dumps(counts, indent=1) + "\n"
    return files


def _context(
    settings: Settings, run: Run, nodes: Sequence[Node], drawings: Sequence[Figure], ledger: Ledger
) -> dict[str, Any]:
    """The values that the templates print, by name."""
    judges = _judges(run)
    judged = (*judges["graders"], *filter(None, [judges["rater"]]))
    change = whats_new(run)
    tasks = all_tasks(run) | ({facts.ATTACKS} if run.attacks else set())
    attempts = review.attempts(run)
    heads = _heads(settings, run, ledger)
    return {
        "s": settings,
        "run": run,
        "limits": LIMITS,
        "statements": statements.statements(settings, run),
        "audits": statements.audits(settings, run),
        "attacked": attacks(run),
        "audited": audited(run),
        "titles": TITLES,
        "references": facts.REFERENCES,
        "heading": facts.title(settings),
        "sentence": facts.sentence(settings, run),
        "verdict": sections.verdict(run, heads["headlines"]),
        **heads,
        **_tables(run),
        **_replies(settings, run),
        "figures": drawings,
        "undrawn": "; ".join(ledger.undrawn),
        **judges,
        "reviewed": review.summarise_verdicts(run),
        "reviewing": review.summarise_reviews(run),
        "elo": elo_tables(run),
        "attempts": attempts,
        "screen": describe_screen(run),
        "scaling": scaling_table(run),
        "drift": drift_table(run),
        "corpora": corpora(run),
        "people_attacked": review.by_people(attempts),
        "raters_of": raters_of,
        "details": facts.details(settings, run),
        "nodes": nodes,
        "deltas": sections.deltas(run),
        "news": change if run.previous else None,
        "change": change,
        "families": list(map(str, families(run.start, run.final))),
        "unclaimed": facts.list_unmeasured(facts.USES, tasks),
        "unmeasured": facts.list_unmeasured(facts.RISKS, tasks),
        "task_tables": {key: task_tables(run, key) for key in (ALIGNMENT, CAPABILITY)},
        "unmapped": sections.failed_mappings((*run.stages, *run.at_protocol)),
        "published": groups_of(beside_published(run)),
        "mitigations": facts.mitigations(run),
        "costs": sections.headlines(run, placed_in(run.stages, "costs")) if len(run.stages) > 1 else (),
        "findings": sections.findings(run, change.losses if change else (), judged),
        "stood": _stood(run),
        "environment": facts.environment(run),
        "recipe": run.final.manifest.command or "RECIPE.yaml",
        "identity": "\n".join(f"{key}: {value}" for key, value in facts.identity(run)),
        "short": {n.id: f"{n.step} {n.id[:8]}" for n in nodes},
    }


def _replies(settings: Settings, run: Run) -> dict[str, Any]:
    """The replies that the card prints."""
    return {
        "kinds": samples.before_and_after(run, settings.draw_seed),
        "drawn": samples.draw_exchanges(run, settings.samples_shown, settings.draw_seed),
        "worst": samples.find_worst(run, settings.failures_shown),
        "refused": samples.draw_refused(run, settings.failures_shown, settings.draw_seed),
        "transcript": samples.transcript(run, settings.draw_seed),
    }


def _stood(run: Run) -> list[tuple[str, tuple[Number, ...]]]:
    """What can't be told from guessing, and what can't get better, at the final stage."""
    rows = (
        (f"{run.final.label} can't be told from guessing by", sections.AT_CHANCE),
        ("Saturated: the interval reaches the best value, so no better model would show in", sections.SATURATED),
    )
    lists = [(words, sections.standing_at(run.final.numbers.values(), word)) for words, word in rows]
    return [(words, numbers) for words, numbers in lists if numbers]


def _judges(run: Run) -> dict[str, Any]:
    """The judges, and the columns of their tables."""
    judged = graders.graders(run)
    return {
        "grader": run.final.report.get("grader") or {},
        "doubts": graders.doubts(run, judged),
        "graders": judged,
        "alarms": graders.find_false_alarms(run),
        "fewest": graders.FEWEST_PAIRS,
        "gate_columns": graders.GATE_COLUMNS,
        "pair_columns": graders.PAIR_COLUMNS,
        "label": partial(graders.label_of, judged),
        "rater": graders.rater(run),
        "labeller": graders.labeller(run),
        "detectors": graders.detectors(run),
    }


def _heads(settings: Settings, run: Run, ledger: Ledger) -> dict[str, Any]:
    """The numbers shown first."""
    heads = sections.headlines(run, settings.headline)
    again: tuple[sections.Headline, ...] = ()
    # whether the models of the first and the last stage were also sampled by the protocol's decoding
    ends = [(run.at_protocol[i], run.stages[i]) for i in (0, -1)] if run.at_protocol else []
    if ends and all(model_of(second) == model_of(stage) for second, stage in ends):
        names = sections.select_sampled(run.at_protocol, settings.headline)
        again = sections.between(run.at_protocol[0], run.at_protocol[-1], names)
    return {
        "headlines": heads,
        "again": {h.name: h for h in again},
        "strips": {head.name: _strip(head, ledger) for head in heads},
        "graded": HARM,
        "false_alarms": sections.false_alarms(run),
    }


def _tables(run: Run) -> dict[str, Any]:
    """Tables of the stages, by the models' own decoding if a card has two. `second` are those by the protocol's, of
    metrics that depend on it."""
    first, second = heading(run.stages), heading(run.at_protocol) if run.at_protocol else ""
    suffix = f", {first}" if second else ""
    names = {key: placed_in(run.stages, key) for key in TABLES}
    sampled = {key: sections.select_sampled(run.stages, names[key]) for key in TABLES}
    return {
        "decoding": first,
        "protocol": second,
        "tables": {
            key: sections.table(run.stages, key, names[key], caption + (suffix if sampled[key] else ""))
            for key, caption in TABLES.items()
        },
        "second": {
            key: sections.table(run.at_protocol, f"{key}_protocol", sampled[key], f"{caption}, {second}")
            for key, caption in TABLES.items()
        },
        "mitigation_log": review.mitigation_log(run),
        "retests": review.retest_log(run),
        "fluency": [sections.fluency_table(stages) for stages in (run.stages, run.at_protocol) if stages],
    }


def _strip(head: sections.Headline, ledger: Ledger) -> Markup:
    """The word-sized plot of a headline; empty if an end is not to be drawn. Shares span 0 to 1, other numbers their
    own range."""
    drawn = [note_point(number, ledger) for number in (head.start, head.final)]
    points = [point for point in drawn if point is not None]
    if len(points) < len(drawn):
        return Markup("")
    if head.start.unit == SHARE:
        limits = (min(0.0, *(p.low or 0.0 for p in points)), 1.0)
    else:
        ends = [x for p in points for x in (p.value, p.low, p.high) if x is not None]
        room = 0.15 * (max(ends) - min(ends) or 1.0)
        limits = (min(ends) - room, max(ends) + room)
    words = f"{head.label}: hollow dot at the start, filled dot at the end"
    return Markup(strip(points, f"strip-{head.name}", words, limits))


def _record(settings: Settings, run: Run, ledger: Ledger, context: dict[str, Any]) -> dict[str, Any]:
    final, grader = run.final, run.final.report.get("grader")
    unfit_for_harm = {"unfit_for_harm": graders.find_false_alarms(run) is not None}
    return {
        "format": FORMAT,
        "title": settings.title,
        "model": final.report.get("model"),
        "grader": {**grader, **unfit_for_harm} if grader else None,
        "unfit": sorted({n for s in run.stages for n in s.metrics if n in s.numbers and unfit(s, n)}),
        "settings": settings.model_dump(mode="json"),
        "stages": [stage_entry(stage) for stage in run.stages],
        "decoding": context["decoding"],
        "at_protocol": [stage_entry(stage) for stage in run.at_protocol],
        "sections": [{"key": key, "title": title, "words": count} for key, title, count in context["sections"]],
        **statements.record(context["statements"], context["audits"]),
        "numbers": ledger.records(),
        "refused": [
            {"name": h.name, "why": h.change.why} for h in context["deltas"] if h.change and h.change.number is None
        ],
        "figures": [
            {"key": f.key, "title": f.title, "caption": f.caption, "sources": [asdict(source) for source in f.sources]}
            for f in context["figures"]
        ],
        "samples": {k: [e.id for e in context[k]] for k in ("drawn", "worst", "refused")}
        | {"before_and_after": [kind.exchange.id for kind in context["kinds"] if kind.exchange]},
        "lineage": [
            {
                "step": n.step,
                "room": n.room,
                "kind": n.kind,
                "id": n.id,
                "parents": [{"role": role, "id": i} for role, i in n.parents],
                "external": [{"role": r, "ref": ref, "digest": d} for r, ref, d in n.outside],
            }
            for n in context["nodes"]
        ],
        "environment": dict(context["environment"]),
        "drawn_with": {"matplotlib": matplotlib.__version__},
    }
