"""The figure of translation: BLEU and chrF of each language, with what BLEU is said to mean (card, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from charter.ground.measure.plots import Series, canvas, forest, inline, legend, rule
from charter.ground.measure.score import Statistic
from charter.ground.measure.translation import (
    GOOD,
    NAMES,
    UNDERSTANDABLE,
    bleu,
    chrf,
    language,
    over_languages,
)
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import Number
from charter.rooms.card.drawing import (
    APART,
    WIDTH,
    compute_number,
    legend_columns,
    note_point,
    overlay_stages,
    sizes,
    sources_of,
    with_points,
)
from charter.rooms.card.figure import Figure
from charter.rooms.card.gather import Run
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.tasks import CAPABILITY

TRANSLATIONS = "samples/translation.jsonl"
PIECES, CHARACTERS = "flores200", "char"
WORDS = {"13a": "words (13a)", CHARACTERS: "characters (char)"}
# Languages drawn; if there are more, the best and the worst.
MOST_LANGUAGES = 60


def translation(run: Run, ledger: Ledger) -> Figure | None:
    """BLEU and chrF of each language, best first, of the first and the last stage (card, section 4.1)."""
    looks = overlay_stages(run, "translation_bleu", ledger, 2)
    if not looks:
        return None
    kinds = (("bleu", bleu, "BLEU"), ("chrf", chrf, "chrF"))
    scores = {kind: [_languages(stage, kind, of, unit) for stage, _ in looks] for kind, of, unit in kinds}
    best = scores["bleu"][-1]
    drawn = {c for by_code in scores["bleu"] for c, n in by_code.items() if ledger.drawable(n, _spell(c))}
    codes = sorted(drawn, key=lambda c: (-_value(best.get(c)), c))
    if not codes:
        return None
    half = MOST_LANGUAGES // 2
    shown = codes if len(codes) <= MOST_LANGUAGES else [*codes[:half], *codes[-half:]]
    figure, (left, right) = canvas(WIDTH, 0.75 + 0.19 * len(shown), 1, 2, APART)
    numbers: list[Number] = []
    for panel, (kind, _, unit) in zip((left, right), kinds, strict=True):
        series = []
        for (_, look), by_code in zip(looks, scores[kind], strict=True):
            drawn_numbers = [by_code.get(code) for code in shown]
            numbers += [n for n in drawn_numbers if n is not None and not n.few]
            series.append(with_points(look, [note_point(n, ledger) for n in drawn_numbers], named=False))
        forest(panel, [_spell(code) for code in shown], series, title=unit, percent=False)
        low, high = (0.0, max(_ends(series))) if kind == "chrf" else (0.0, max(GOOD + 5, *_ends(series)))
        panel.set_xlim(low - 0.02 * high, 1.02 * high)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    rule(left, UNDERSTANDABLE, GOOD)
    right.tick_params(labelleft=False)
    legend(figure, [look for _, look in looks], legend_columns(looks))
    caption = (
        f"Corpus scores of translations from English, best BLEU first. {_describe_bleu(looks[-1][0])}Dashed lines: a "
        "text with the card's BLEU over "
        f"{UNDERSTANDABLE:.0f} can be understood, over {GOOD:.0f} it is good and fluent. n = {sizes(numbers)} "
        "translations a language."
        + (f" The {half} best and {half} worst of {len(codes)} languages." if len(shown) < len(codes) else "")
        + (" Of the stages, the first and the last." if len(looks) > 1 else "")
        + " Bars are 95 % intervals (bootstrap over sentences); small gaps are noise."
    )
    words = "; ".join(f"{_spell(c)} {ledger.value(best[c])}" for c in shown if c in best)
    title = "Translation from English, by language"
    svg = inline(figure, "translation", title, f"BLEU of {looks[-1][0].label}: {words}")
    return Figure("translation", title, caption, svg, sources_of(numbers), section=CAPABILITY)


def _languages(stage: Artifact, kind: str, of: Statistic, unit: str) -> dict[str, Number]:
    """The corpus score of each language of a stage's translations, by its code."""
    report = stage.of("translation_bleu")
    groups: dict[str, list[dict[str, object]]] = {}
    for row in report.rows(TRANSLATIONS):
        groups.setdefault(str(row["group"]), []).append(row)
    table = over_languages(kind, of)
    return {
        code: compute_number(report, f"translation_{kind}_{code}", table(rows), unit, TRANSLATIONS)
        for code, rows in groups.items()
    }


def _describe_bleu(stage: Artifact) -> str:
    """What BLEU counts, as the report says it, with a blank behind it; empty if it doesn't."""
    identity = next(iter(stage.find_identities("translation_bleu").values()), {})
    by_language = identity.get("tokenizers") or {}
    others = sorted({str(name) for name in by_language.values()} - {PIECES})
    if not by_language:
        return ""
    if not others:
        return f"BLEU counts {PIECES} pieces: the card's spBLEU. "
    counted = [
        f"{WORDS.get(name, name)} ({', '.join(_spell(code) for code, own in by_language.items() if own == name)})"
        if len(others) > 1 and name == CHARACTERS
        else WORDS.get(name, name)
        for name in others
    ]
    return f"BLEU counts {', '.join(counted)}: not the card's spBLEU, whose scale differs. "


def _value(number: Number | None) -> float:
    return -1.0 if number is None or number.value is None else number.value


def _ends(series: Sequence[Series]) -> list[float]:
    points = [p for s in series for p in s.points if p is not None]
    return [1.0, *(p.high if p.high is not None else p.value for p in points)]


def _spell(code: str) -> str:
    """The English name of a language; the code if it has none."""
    return language(code) if code in NAMES or code.partition("_")[0].partition("-")[0] in NAMES else code
