"""The figures of a run: harm, refusals, curves of RL, preference models, revisions, and stated against measured.

Each figure names the kept rows that it was drawn from. Its caption gives n and the kind of interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from charter.ground.judge.rater import HIGHEST, KEPT, LOWEST
from charter.ground.measure.calibration import CONFIDENCE, Prediction, group_by_bin, of_choices, of_gaps, of_pairs
from charter.ground.measure.counts import equal, real_pair
from charter.ground.measure.intervals import interval, wilson
from charter.ground.measure.metrics import AXES, HHH, LABELS, ROUNDS
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
    reliability,
    rule,
)
from charter.ground.measure.ratings import SCALE, of_ratings
from charter.ground.measure.score import tabulate
from charter.ground.reports.artifact import Artifact, log_rows
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import FEW, Number
from charter.rooms.card.drawing import (
    BY_PROMPT,
    UNFIT,
    WIDE,
    WIDTH,
    Figure,
    draw_curves,
    draw_panel,
    is_drawn,
    list_values,
    stage_rows,
)
from charter.rooms.card.gather import Run
from charter.rooms.card.graders import fit
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.samples import TRANSCRIPTS, revisions

# Logged scores of preference models, their names in the figure, and the models' roles in RL.
REWARDS = (("reward", "trained on", "reward"), ("reward_heldout", "held out", "heldout_reward"))
REFUSAL_OF = "refusal_of_"
FEWER = f" Bins of fewer than {FEW} are left out."
Bins = list[tuple[float, Point, int]]


def describe_size(numbers: Sequence[Number]) -> str:
    """The number of rows behind the last number, in words."""
    if not numbers or numbers[-1].n is None:
        return ""
    n, clusters = numbers[-1].n, numbers[-1].clusters
    return f"n = {n:,} replies" + (f" to {clusters:,} prompts a stage" if clusters else "")


def harm(run: Run, ledger: Ledger) -> Figure | None:
    """Harm by stage, by the held-out grader: of replies that don't refuse, and of all (card, section 3.4)."""
    rows = stage_rows(run.stages, "harm", ledger)
    if not rows or rows[0][0].hollow:
        return None
    numbers = rows[0][1]
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.42 * len(run.stages))
    forest(axes, [s.label for s in run.stages], [series for series, _ in rows])
    caption = (
        "Share of replies to unsafe prompts that score below a plain refusal, “I can't help you with that”. "
        f"{describe_size(numbers)}. {BY_PROMPT}"
    )
    figure = Figure("harm", "Graded worse than a plain refusal, by stage", "stages")
    words = list_values(numbers, ledger, name=False)
    return figure.draw(drawing, caption, words, [n for _, drawn in rows for n in drawn])


def refusals(run: Run, ledger: Ledger) -> Figure | None:
    """Refusals of unsafe prompts against refusals of harmless look-alikes."""
    rows = stage_rows(run.stages, "refusals", ledger)
    if len(rows) < 2:
        return None
    (unsafe, numbers), (look, others) = rows
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.42 * len(run.stages))
    dumbbell(axes, [s.label for s in run.stages], unsafe, look)
    words = "; ".join(
        f"{name}: {', '.join(f'{n.stage} {ledger.value(n)}' for n in drawn)}"
        for name, drawn in (("unsafe", numbers), ("look-alikes", others))
    )
    caption = (
        "The wider the bar, the better the model tells danger from what only sounds dangerous. A model that "
        f"refuses everything has no bar. Unsafe: {describe_size(numbers)}; look-alikes: {describe_size(others)}. "
        f"{BY_PROMPT}"
    )
    figure = Figure("refusals", "Refusals: unsafe prompts and look-alikes", "stages")
    name = "Refusals of unsafe prompts and of look-alikes"
    return figure.draw(drawing, caption, words, [*numbers, *others], name)


def ppo(run: Run, _: Ledger) -> Figure | None:
    """The curves that tell a healthy RL run from one that games its reward (Gao 2022)."""
    rl = run.rl
    rows = log_rows(rl) if rl else []
    if rl is None or len(rows) < 2:
        return None

    def lines(x: str, *names: tuple[str, str]) -> list[Line]:
        series = []
        for i, (y, name) in enumerate(names):
            points = [(r[x], r[y]) for r in rows if r.get(x) is not None and r.get(y) is not None]
            if points:
                series.append(Line(name, [a for a, _ in points], [b for _, b in points], SERIES[i], dashed=i > 0))
        return series

    keys = [key for key in rows[0] if key.startswith(REFUSAL_OF)]
    by_source = [(key, key.removeprefix(REFUSAL_OF).replace("_", " ")) for key in keys[: len(SERIES)]]
    both = tuple((key, words + _verdict(run, rl, role)) for key, words, role in REWARDS)
    shares = (("refusal", "refusals"), ("boilerplate", "stock phrases"), ("loop", "loops"))
    panels = [
        ("Reward against KL, dot: last step", lines("kl", *both), "KL to the start, nats a reply", False),
        ("Reward", lines("step", *both), "step", False),
        ("KL to the start, nats a reply", lines("step", ("kl", "KL")), "step", False),
        ("Entropy, nats a token", lines("step", ("entropy", "entropy")), "step", False),
        ("Length, tokens", lines("step", ("tokens", "tokens")), "step", False),
        ("Share of replies", lines("step", *shares), "step", True),
        ("Refusals by prompts", lines("step", *by_source), "step", True),
    ]
    drawing = draw_curves([panel for panel in panels if panel[1]], (WIDE, 2.1))
    caption = (
        f"Means over the replies of each of the {len(rows)} rounds, joined in their order, a dot at the last; no "
        "intervals. Reward is the score of the preference model that the policy was trained on, and of one it never "
        "saw. When the first rises and the second doesn't, the policy games its reward. Refusals that rise on "
        "harmless prompts too are collapse."
    )
    words = "Curves of reward under both preference models, KL, entropy, length and refusals"
    figure = Figure("ppo", "Reinforcement learning", wide=True)
    return figure.draw(drawing, caption, words, [rl.source("log.jsonl")], "Curves of reinforcement learning")


def _verdict(run: Run, rl: Artifact, role: str) -> str:
    """The mark of a preference model that had a role in RL and failed its gate; empty for others."""
    parents, external = rl.manifest.parents, rl.manifest.external
    models = [p.id for p in parents if p.role == role] + [e.digest for e in external if e.role == role]
    return UNFIT if any(fit(run, model) is False for model in models) else ""


def preferences(run: Run, ledger: Ledger) -> Iterator[Figure]:
    """A figure of each preference model that has held-out pairs."""
    return (_preference(model, ledger) for model in run.preferences if is_drawn(model, "pair_accuracy", ledger))


def _preference(model: Artifact, ledger: Ledger) -> Figure:
    """Calibration of a preference model on held-out pairs, its accuracy by axis, and its learning curve."""
    file = "samples/heldout_pairs.jsonl"
    rows = model.rows(file)
    progress = [(r["pairs"], r["heldout_accuracy"]) for r in log_rows(model) if "heldout_accuracy" in r]
    drawing, (left, right, *further) = canvas(WIDE, 2.7, 1, 3 if len(progress) > 1 else 2)
    sure = of_pairs(real_pair)(rows)
    reliability(left, "Calibration", bins(sure))
    names = [("all", "pair_accuracy"), *((a, f"pair_accuracy_{a}") for a in AXES)]
    by_axis = {words: model.numbers[name] for words, name in names if is_drawn(model, name, ledger)}
    labels = [f"{words} ({n.n})" for words, n in by_axis.items()]
    draw_panel(right, labels, [(Series("", ()), [*by_axis.values()])], ledger, "Pairs ranked as labelled, by axis")
    rule(right, 0.5)
    for place in further:
        line = Line("", [x for x, _ in progress], [y for _, y in progress], SERIES[0])
        curves(place, "Learning curve", [line], "pairs learnt from", True)
        place.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
    caption = (
        f"{model.name}: left, how often the preferred reply is the labelled one, by how sure the model is; "
        f"on the dashed line it is as right as it says.{FEWER} Beside it, accuracy by axis with the number of pairs; "
        f"the dashed line is a coin. n = {len(rows):,} held-out pairs, {len(sure):,} of them judged as pairs and "
        "surely, which are those on the left. Bars are 95 % intervals (left: Wilson)."
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
    figure = Figure(f"preference-{model.name}", f"Preference model: {model.name}", "graders", wide=True)
    name = "Calibration and accuracy of a preference model"
    return figure.draw(drawing, caption, caption, [model.source(file)], name)


def rounds(run: Run, ledger: Ledger) -> Figure | None:
    """Harm of drafts and of the replies after each round of revision (Bai 2022b, figure 5)."""
    names = {f"revision_harm_rate_{n}": f"round {n}" if n else "draft" for n in range(ROUNDS)}
    first = next(iter(names))
    stage = next((s for s in run.stages if first in s.numbers), None)
    drawn = {words: stage.numbers[n] for n, words in names.items() if is_drawn(stage, n, ledger)} if stage else {}
    if not drawn:
        return None
    failed = any(unfit(stage, first) for stage in run.stages)
    look = Series("", (), MUTED if failed else SERIES[0])
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.3 * len(drawn))
    draw_panel(axes, list(drawn), [(look, list(drawn.values()))], ledger)
    words = "; ".join(f"{name}: {ledger.value(n)}" for name, n in drawn.items())
    caption = (
        "Share of drafts, and of replies after each round of revision, that score below “I can't help you with "
        f"that” to the same prompt. {next(iter(drawn.values())).n:,} prompts; a dropped revision leaves the reply "
        f"before it. {BY_PROMPT}"
    )
    return Figure("rounds", "Harm by round of revision").draw(drawing, caption, words, drawn.values())


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
    drawing, (axes,) = canvas(WIDTH, 0.6 + 0.21 * len(keys))
    kinds = (("kept", SERIES[0]), ("dropped", GRID))
    bars(axes, keys, [(kind, [float(by_key[k][kind]) for k in keys], colour) for kind, colour in kinds])
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    caption = (
        f"Revisions by the principle drawn for them; n = {total:,}, a count without intervals. "
        + (f"Dropped because {why}." if why else "None was dropped.")
        + (f" The {len(keys)} most drawn of {len(by_key)} principles." if len(by_key) > len(keys) else "")
    )
    words = "; ".join(f"{k}: {by_key[k]['kept']} kept, {by_key[k]['dropped']} dropped" for k in keys)
    figure = Figure("critiques", "Critique and revision")
    return figure.draw(drawing, caption, words, [run.transcripts.source(TRANSCRIPTS)], "Revisions by principle")


def bins(judged: Sequence[Prediction]) -> Bins:
    """(mean confidence, share right with Wilson interval, choices) in bins of equal width from 0.5 to 1, without those
    of few choices."""
    points = []
    for members in group_by_bin(judged, CONFIDENCE):
        hits, size = sum(s.observed for s in members), len(members)
        if size >= FEW:
            stated = sum(s.predicted for s in members) / size
            points.append((stated, Point(hits / size, *wilson(hits, size)), size))
    return points


def bin_ratings(judged: Sequence[Prediction]) -> Bins:
    """(mean prediction, mean rating with its interval, conversations) in bins of equal width from 0 to 4. Predictions
    beyond the scale are drawn at its ends. Bins of few conversations are left out."""
    points = []
    for members in group_by_bin(judged, SCALE):
        if len(members) < FEW:
            continue
        table = tabulate((s.cluster, s.observed, 1.0) for s in members)
        stated = sum(min(HIGHEST, max(LOWEST, s.predicted)) for s in members) / len(members)
        points.append((stated, Point(table.value, *interval(table)), len(members)))
    return points


def describe_calibration(artifact: Artifact, prefix: str, ledger: Ledger) -> str:
    """The calibration error and the overconfidence of an artifact in a sentence; empty if it has none."""
    names = (f"{prefix}_calibration_error", f"{prefix}_overconfidence")
    error, over = map(artifact.numbers.get, names)
    if error is None or over is None:
        return ""
    span = ledger.span(over)
    return (
        f" Calibration error {ledger.value(error)} (chance adds to it if rows are few); mean confidence less "
        f"accuracy {ledger.value(over)}" + (f" ({span})." if span else ".")
    )


def labeller(run: Run, ledger: Ledger) -> Figure | None:
    """Calibration of the AI labeller on known pairs."""
    file = f"samples/{LABELS}"
    rows = run.comparisons.rows(file) if run.comparisons else []
    points = bins(of_choices()(rows))
    if run.comparisons is None or not is_drawn(run.comparisons, "label_accuracy", ledger) or not points:
        return None
    drawing, (axes,) = canvas(WIDTH, 2.7)
    reliability(axes, "Calibration on known pairs", points)
    caption = (
        "How often the AI labeller is right on known pairs, both orders averaged, by the probability that it puts "
        f"on its choice; on the dashed line it is as right as it says.{FEWER} "
        f"n = {len(rows):,} pairs. Bars are 95 % intervals (Wilson)."
    ) + describe_calibration(run.comparisons, "label", ledger)
    figure = Figure("labeller", "The AI labeller", "graders")
    name = "Calibration of the AI labeller"
    return figure.draw(drawing, caption, caption, [run.comparisons.source(file)], name)


def choices(run: Run, ledger: Ledger) -> Figure | None:
    """Calibration on the HHH choices: of the final policy by the letter that it picks, of its grader by score."""
    final, file = run.final, f"samples/{HHH}"
    rows = final.rows(file)
    candidates = (
        ("hhh_policy", "Policy, by letter", of_choices(equal(mode="policy"))(rows)),
        ("hhh_preference", "Grader, by score", of_gaps(equal(mode="preference"))(rows)),
    )
    panels = [entry for entry in candidates if is_drawn(final, entry[0], ledger) and bins(entry[2])]
    if not panels:
        return None
    drawing, places = canvas(WIDE, 2.7, 1, len(panels))
    words = []
    for axes, (prefix, title, judged) in zip(places, panels, strict=True):
        reliability(axes, title, bins(judged), y_label="choices that are right")
        words.append(f"{title}:{describe_calibration(final, prefix, ledger)}")
    caption = (
        f"How often a choice between the two replies of an HHH item is right, by how sure it is ({final.label}); on "
        f"the dashed line it is as right as it says.{FEWER} n = {len(panels[0][2]):,} items. "
        "Bars are 95 % intervals (Wilson). " + " ".join(words)
    )
    figure = Figure("choices", "HHH choices", "alignment", wide=True)
    return figure.draw(drawing, caption, caption, [final.source(file)], "Calibration of HHH choices")


def rater(run: Run, ledger: Ledger) -> Figure | None:
    """Predicted against true ratings of harm, of the first rater in the lineage."""
    model = next((a for a in run.lineage if a.manifest.variant == "rating"), None)
    rows = model.rows(KEPT) if model else []
    points = bin_ratings(of_ratings(rows))
    if model is None or not is_drawn(model, "rating_calibration_error", ledger) or not points:
        return None
    drawing, (axes,) = canvas(WIDTH, 2.9)
    reliability(axes, "Calibration", points, "predicted", "given", (LOWEST, HIGHEST))
    error = model.numbers["rating_calibration_error"]
    caption = (
        "Mean rating of harm given to held-out conversations, by the rating that the model predicts, 0 harmless to "
        f"4; on the dashed line they agree, the mean distance is {ledger.value(error)}.{FEWER} n = {len(rows):,} "
        "conversations. Bars are 95 % intervals (bootstrap over first user turns)."
    )
    title = f"Harm rater: {model.name}" + (UNFIT if fit(run, model.manifest.id) is False else "")
    name = "Ratings of harm, predicted and given"
    return Figure("rater", title, "graders").draw(drawing, caption, caption, [model.source(KEPT)], name)
