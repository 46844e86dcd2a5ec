"""The figures of a card: harm, refusals, curves of RL, preference models, revisions.

Each figure names the kept rows that it was drawn from. Its caption gives n and the kind of interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from charter.ground.measure.calibration import of_pairs
from charter.ground.measure.counts import real_pair
from charter.ground.measure.metrics import AXES, ROUNDS
from charter.ground.measure.plots import (
    GRID,
    MUTED,
    SERIES,
    Line,
    Point,
    Series,
    bars,
    canvas,
    curves,
    dumbbell,
    forest,
    inline,
    reliability,
    rule,
)
from charter.ground.reports.artifact import Artifact, log_rows
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import FEW, Number
from charter.rooms.card.autonomy import audit_figures
from charter.rooms.card.benchmark_plots import bias, capability, categories, truthfulness
from charter.rooms.card.benchmark_plots import choices as hhh
from charter.rooms.card.calibration import FEWER, bins, choices, describe_calibration, labeller, rater
from charter.rooms.card.drawing import WIDTH, by_stage, is_drawn, note_point, sources_of
from charter.rooms.card.figure import UNFIT, Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.graders import fit
from charter.rooms.card.language_plots import translation
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.long_plots import position, recall
from charter.rooms.card.policy import tradeoff
from charter.rooms.card.request_plots import request_parts, requests
from charter.rooms.card.samples import TRANSCRIPTS, revisions
from charter.rooms.card.scaling import scaling
from charter.rooms.card.subject_plots import subjects
from charter.rooms.card.under_attack import attack_figures
from charter.rooms.card.vote_plots import vote_figures

# Logged scores of preference models, their names in the figure, and the models' roles in RL.
REWARDS = (("reward", "trained on", "reward"), ("reward_heldout", "held out", "heldout_reward"))
REFUSAL_OF = "refusal_of_"
INTERVALS = "Bars are 95 % intervals over prompts (bootstrap; Wilson where few differ)."


def figures(run: Run, ledger: Ledger) -> tuple[Figure, ...]:
    """All figures that the run has data for."""
    candidates = [
        harm(run, ledger),
        refusals(run, ledger),
        *attack_figures(run, ledger),
        *audit_figures(run, ledger),
    ]
    if run.rl is not None:
        candidates.append(ppo(run, run.rl))
    candidates += [preference(p, ledger) for p in run.preferences]
    candidates += [
        labeller(run, ledger),
        choices(run, ledger),
        rater(run, ledger),
        critiques(run, ledger),
        rounds(run, ledger),
    ]
    tasks = (
        *(
            requests,
            request_parts,
            hhh,
            bias,
            truthfulness,
            categories,
            capability,
            subjects,
        ),
        *(position, recall, translation),
    )
    candidates += [draw(run, ledger) for draw in tasks]
    candidates += [*vote_figures(run, ledger), tradeoff(run, ledger), scaling(run, ledger)]
    return tuple(f for f in candidates if f is not None)


def _n(numbers: Sequence[Number]) -> str:
    """The number of rows behind the last number, in words."""
    if not numbers or numbers[-1].n is None:
        return ""
    n, clusters = numbers[-1].n, numbers[-1].clusters
    return f"n = {n:,} replies" + (f" to {clusters:,} prompts a stage" if clusters else "")


def harm(run: Run, ledger: Ledger) -> Figure | None:
    """Harm by stage, by the held-out grader: of replies that don't refuse, and of all (card, section 3.4)."""
    answered, numbers = by_stage(run.stages, "harm_answered_rate", ledger)
    graded, others = by_stage(run.stages, "harm_rate", ledger)
    if not numbers:
        return None
    series = [_make_series(run, "harm_answered_rate", "answers graded worse", answered, SERIES[0])]
    if others:
        curt = _make_series(run, "harm_rate", "curt refusals too", graded, SERIES[1])
        series.append(replace(curt, hollow=True))
    figure, (axes,) = canvas(WIDTH, 0.6 + 0.42 * len(run.stages))
    forest(axes, [s.label for s in run.stages], series)
    words = "; ".join(f"{n.stage}: {ledger.value(n)}" for n in numbers)
    caption = (
        "Share of replies to unsafe prompts that score below a plain refusal, “I can't help you with that”. "
        f"{_n(numbers)}. {INTERVALS}"
    )
    return Figure(
        "harm",
        "Graded worse than a plain refusal, by stage",
        caption,
        inline(figure, "harm", "Graded worse than a plain refusal, by stage", words),
        sources_of([*numbers, *others]),
        section="stages",
    )


def _make_series(run: Run, metric: str, name: str, points: list[Point | None], colour: str) -> Series:
    """Points by one preference model, muted and named unfit if it failed its gate at any stage."""
    failed = any(unfit(stage, metric) for stage in run.stages)
    return Series(name + UNFIT, points, MUTED) if failed else Series(name, points, colour)


def refusals(run: Run, ledger: Ledger) -> Figure | None:
    """Refusals of unsafe prompts against refusals of harmless look-alikes."""
    unsafe, numbers = by_stage(run.stages, "unsafe_refusal_rate", ledger)
    look, others = by_stage(run.stages, "lookalike_refusal_rate", ledger)
    if not numbers or not others:
        return None
    figure, (axes,) = canvas(WIDTH, 0.6 + 0.42 * len(run.stages))
    dumbbell(
        axes,
        [s.label for s in run.stages],
        Series("unsafe prompts refused", unsafe, SERIES[0]),
        Series("harmless look-alikes refused", look, SERIES[1], hollow=True),
    )
    words = "; ".join(
        f"{name}: {', '.join(f'{n.stage} {ledger.value(n)}' for n in drawn)}"
        for name, drawn in (("unsafe", numbers), ("look-alikes", others))
    )
    caption = (
        "The wider the bar, the better the model tells danger from what only sounds dangerous. A model that "
        f"refuses everything has no bar. Unsafe: {_n(numbers)}; look-alikes: {_n(others)}. {INTERVALS}"
    )
    return Figure(
        "refusals",
        "Refusals: unsafe prompts and look-alikes",
        caption,
        inline(figure, "refusals", "Refusals of unsafe prompts and of look-alikes", words),
        sources_of([*numbers, *others]),
        section="stages",
    )


def ppo(run: Run, rl: Artifact) -> Figure | None:
    """The curves that tell a healthy RL run from one that games its reward (Gao 2022)."""
    rows = log_rows(rl)
    if len(rows) < 2:
        return None

    def xy(x: str, y: str) -> tuple[list[float], list[float]]:
        points = [(r[x], r[y]) for r in rows if r.get(x) is not None and r.get(y) is not None]
        return [a for a, _ in points], [b for _, b in points]

    def lines(x: str, *names: tuple[str, str]) -> list[Line]:
        series = []
        for i, (key, name) in enumerate(names):
            xs, ys = xy(x, key)
            if xs:
                series.append(Line(name, xs, ys, SERIES[i], dashed=i > 0))
        return series

    keys = [key for key in rows[0] if key.startswith(REFUSAL_OF)]
    by_source = [(key, key.removeprefix(REFUSAL_OF).replace("_", " ")) for key in keys[: len(SERIES)]]
    both = tuple((key, words + _verdict(run, rl, role)) for key, words, role in REWARDS)
    panels = [
        ("Reward against KL, dot: last step", lines("kl", *both), "KL to the start, nats a reply", False),
        ("Reward", lines("step", *both), "step", False),
        ("KL to the start, nats a reply", lines("step", ("kl", "KL")), "step", False),
        ("Entropy, nats a token", lines("step", ("entropy", "entropy")), "step", False),
        ("Length, tokens", lines("step", ("tokens", "tokens")), "step", False),
        (
            "Share of replies",
            lines("step", ("refusal", "refusals"), ("boilerplate", "stock phrases"), ("loop", "loops")),
            "step",
            True,
        ),
        ("Refusals by prompts", lines("step", *by_source), "step", True),
    ]
    panels = [p for p in panels if p[1]]
    columns = min(3, len(panels))
    lines_of_panels = -(-len(panels) // columns)
    figure, axes = canvas(9.6, 2.1 * lines_of_panels, lines_of_panels, columns)
    for place, (title, panel_lines, x_label, percent) in zip(axes, panels, strict=False):
        curves(place, title, panel_lines, x_label, percent)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    caption = (
        f"Means over the replies of each of the {len(rows)} rounds, joined in their order, a dot at the last; no "
        "intervals. Reward is the score of the "
        "preference model that the policy was trained on, and of one it never saw. When the first rises and "
        "the second doesn't, the policy games its reward. Refusals that rise on harmless prompts too are collapse."
    )
    words = "Curves of reward under both preference models, KL, entropy, length and refusals"
    return Figure(
        "ppo",
        "Reinforcement learning",
        caption,
        inline(figure, "ppo", "Curves of reinforcement learning", words),
        (rl.source("log.jsonl"),),
        wide=True,
    )


def _verdict(run: Run, rl: Artifact, role: str) -> str:
    """The mark of a preference model that had a role in RL and failed its gate; empty for others."""
    parents, external = rl.manifest.parents, rl.manifest.external
    models = [p.id for p in parents if p.role == role] + [e.digest for e in external if e.role == role]
    return UNFIT if any(fit(run, model) is False for model in models) else ""


def preference(model: Artifact, ledger: Ledger) -> Figure | None:
    """Calibration of a preference model on held-out pairs, its accuracy by axis, and its learning curve."""
    rows = model.rows("samples/heldout_pairs.jsonl")
    if not is_drawn(model, "pair_accuracy", ledger):
        return None
    progress = [(r["pairs"], r["heldout_accuracy"]) for r in log_rows(model) if "heldout_accuracy" in r]
    figure, (left, right, *further) = canvas(9.6, 2.7, 1, 3 if len(progress) > 1 else 2)
    sure = of_pairs(real_pair)(rows)
    reliability(left, "Calibration", bins(sure))
    names = [("all", "pair_accuracy"), *((a, f"pair_accuracy_{a}") for a in AXES)]
    by_axis = [(words, model.numbers[name]) for words, name in names if is_drawn(model, name, ledger)]
    points = [note_point(n, ledger) for _, n in by_axis]
    forest(
        right,
        [f"{words} ({n.n})" for words, n in by_axis],
        [Series("", points)],
        title="Pairs ranked as labelled, by axis",
    )
    rule(right, 0.5)
    for place in further:
        line = Line("", [x for x, _ in progress], [y for _, y in progress], SERIES[0])
        curves(place, "Learning curve", [line], "pairs learnt from", True)
        place.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
    caption = (
        f"{model.name}: left, how often the preferred reply is the labelled one, by how sure the model is; "
        f"on the dashed line it is as right as it says.{FEWER} Beside it, accuracy by axis with the number of pairs; "
        "the dashed line is a coin. "
        f"n = {len(rows):,} held-out pairs, {len(sure):,} of them judged as pairs and surely, which are those on the "
        "left. Bars are 95 % intervals (left: Wilson)."
    )
    caption += describe_calibration(model, "pair", ledger)
    preferred, labelled = (model.numbers.get(f"pair_longer_{word}") for word in ("preferred", "labelled"))
    if preferred is not None and labelled is not None:
        caption += (
            f" Where the replies differ in length, the longer one scores higher in {ledger.value(preferred)} and is "
            f"labelled better in {ledger.value(labelled)}."
        )
    if further:
        caption += " Right, accuracy while it learnt, on the same held-out pairs each time; no intervals."
    return Figure(
        f"preference-{model.name}",
        f"Preference model: {model.name}",
        caption,
        inline(figure, f"preference-{model.name}", "Calibration and accuracy of a preference model", caption),
        (model.source("samples/heldout_pairs.jsonl"),),
        wide=True,
        section="graders",
    )


def rounds(run: Run, ledger: Ledger) -> Figure | None:
    """Harm of drafts and of the replies after each round of revision (Bai 2022b, figure 5)."""
    names = [f"revision_harm_rate_{n}" for n in range(ROUNDS)]
    stage = next((s for s in run.stages if names[0] in s.numbers), None)
    if stage is None:
        return None
    labels = ["draft", *(f"round {n}" for n in range(1, len(names)))]
    drawn = [
        (label, stage.numbers[name])
        for label, name in zip(labels, names, strict=True)
        if is_drawn(stage, name, ledger)
    ]
    if not drawn:
        return None
    labels, numbers = [label for label, _ in drawn], [n for _, n in drawn]
    points = [note_point(n, ledger) for n in numbers]
    figure, (axes,) = canvas(WIDTH, 0.6 + 0.3 * len(numbers))
    forest(axes, labels, [_make_series(run, names[0], "held-out grader", points, SERIES[0])])
    words = "; ".join(f"{name}: {ledger.value(n)}" for name, n in zip(labels, numbers, strict=True))
    caption = (
        "Share of drafts, and of replies after each round of revision, that score below “I can't help you with "
        f"that” to the same prompt. {numbers[0].n:,} prompts; a dropped revision leaves the reply before it. "
        f"{INTERVALS}"
    )
    title = "Harm by round of revision"
    return Figure("rounds", title, caption, inline(figure, "rounds", title, words), sources_of(numbers))


def critiques(run: Run, ledger: Ledger) -> Figure | None:
    """Revisions by principle: those that were kept, and those that the filter dropped."""
    by_key, reasons = revisions(run)
    if not by_key or run.transcripts is None:
        return None
    total = sum(sum(c.values()) for c in by_key.values())
    if total < FEW:
        ledger.undrawn["Revisions by principle"] = None
        return None
    keys = sorted(by_key, key=lambda k: (-sum(by_key[k].values()), k))[:16]
    figure, (axes,) = canvas(WIDTH, 0.6 + 0.21 * len(keys))
    parts = [
        ("kept", [float(by_key[k]["kept"]) for k in keys], SERIES[0]),
        ("dropped", [float(by_key[k]["dropped"]) for k in keys], GRID),
    ]
    bars(axes, keys, parts)
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    caption = (
        f"Revisions by the principle drawn for them; n = {total:,}, a count without intervals. "
        + (f"Dropped because {why}." if why else "None was dropped.")
        + (f" The {len(keys)} most drawn of {len(by_key)} principles." if len(by_key) > len(keys) else "")
    )
    words = "; ".join(f"{k}: {by_key[k]['kept']} kept, {by_key[k]['dropped']} dropped" for k in keys)
    return Figure(
        "critiques",
        "Critique and revision",
        caption,
        inline(figure, "critiques", "Revisions by principle", words),
        (run.transcripts.source(TRANSCRIPTS),),
    )
