"""What the corpus room tells its user: the report page, one self-contained HTML file about the kept and the dropped
documents, and lines about skipped input and the kept documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from charter.ground.measure.paper import style_sheet
from charter.ground.measure.plots import SERIES, bars, canvas, inline
from charter.ground.settings.texts import CODE, DateField, Listing
from charter.rooms.corpus.counting import UNKNOWN_YEAR, Examined
from charter.rooms.corpus.quality import BOUNDS
from charter.rooms.corpus.settings import Settings

HERE = Path(__file__).parent
_MOST_BARS = 10
_TITLES = {
    "language": "By language",
    "source": "By source",
    "licence": "By licence",
    "year": "By year",
    "kind": "By kind",
}
# The known order of the tests for each reason; those of quality come between.
_FIRST = (
    *("unreadable", "damaged", "binary", "too_large", "broken_utf8", "broken_row", "no_text", "empty"),
    *("broken_date", "undated", "after_cutoff", "language", "no_words"),
)
_LAST = ("contaminated", "exact_copy", "near_copy", "share")

Rows = Sequence[tuple[str, Any]]
_SETTINGS = {
    "too_large": "reading.largest_mib",
    "broken_utf8": "reading.broken_utf8",
    "undated": "filters.undated",
    "after_cutoff": "filters.cutoff",
    "broken_date": "filters.cutoff",
    "language": "filters.languages",
}
_FEW = 10  # below this number of held-out documents, a line says so
_MOST = 6  # most reasons, or endings, in a line


def write_page(contents: Mapping[str, Any], counts: Mapping[str, float], samples: Sequence[Mapping[str, Any]]) -> str:
    """The page for `composition.json` and `counts.json`, with some documents."""
    by = contents["by"]
    heldout = counts["documents_heldout"]
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            css=style_sheet(HERE / "report.css"),
            whole=contents,
            counts=counts,
            samples=samples,
            plots=[
                _plot(name, groups)
                for name in ("language", "source", "year")
                if len(groups := _drop_empty(by[name])) > 1
            ],
            tables=[(title, _largest(_drop_empty(by[name]), name)) for name, title in _TITLES.items()],
            dropped=sorted(contents["dropped"].items(), key=lambda pair: _place(pair[0])),
            heads=[
                ("documents kept", _percent(counts["kept_share"])),
                ("bytes kept", _percent(counts["kept_bytes_share"])),
                ("bytes", short(counts["bytes"])),
                ("languages", _exact(len(by["language"]))),
                ("documents held out", _exact(heldout)),
                ("tokens a word", f"{counts['tokens_per_word']:.2f}"),
                ("bytes a token", f"{1 / counts['tokens_per_byte']:.2f}"),
            ],
            lists=[
                (
                    f"Placeholders written for personal data, in {_exact(counts['personal_documents'])} documents "
                    "before copies were dropped",
                    "kind",
                    list(contents["personal"].items()),
                    "No personal data was found.",
                ),
                (
                    "Documents dropped because they share a run of 13 words with a benchmark's item",
                    "benchmark",
                    sorted(contents["contaminated"].items(), key=lambda pair: (-pair[1], pair[0])),
                    "No document holds an item of a benchmark.",
                ),
            ],
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "exact": _exact,
        "short": short,
        "percent": _percent,
        "over": lambda a, b: f"{a / b:.2f}" if b else "-",
        "spoken": lambda reason: reason.replace("_", " "),
        "first_upper": lambda text: text[:1].upper() + text[1:],
    }
    return environment


def _drop_empty(groups: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The groups with selected documents."""
    return {name: group for name, group in groups.items() if group.get("bytes")}


def _largest(groups: Mapping[str, Mapping[str, float]], name: str) -> Rows:
    """The groups: years in order, others with the largest first."""
    if name == "year":
        return sorted(groups.items(), key=lambda pair: (pair[0] == UNKNOWN_YEAR, pair[0]))
    return sorted(groups.items(), key=lambda pair: (-pair[1]["tokens"], pair[0]))


def _plot(name: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Bars of megabytes for the largest groups, or for years in order."""
    rows = list(_largest(groups, name))
    top = rows[-_MOST_BARS:] if name == "year" else rows[:_MOST_BARS]
    figure, (axes,) = canvas(4.0, 0.6 + 0.24 * max(2, len(top)))
    bars(axes, [label for label, _ in top], [("MB", [g["bytes"] / 1e6 for _, g in top], SERIES[0])])
    part = f", {len(top)} of {len(rows)}" if len(top) < len(rows) else ""
    axes.set_title(f"{_TITLES[name]}, MB{part}", loc="left", fontsize=8.5, fontweight="bold")
    words = "; ".join(f"{label} {g['bytes'] / 1e6:.1f} MB" for label, g in top)
    return inline(figure, f"by-{name}", _TITLES[name], words)


def _place(reason: str) -> tuple[int, int | str]:
    for group, reasons in ((0, _FIRST), (2, _LAST)):
        if reason in reasons:
            return group, reasons.index(reason)
    return 1, reason


def _exact(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """A number of at most four digits, with its prefix: 63.0 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def describe_unread(listing: Listing) -> str:
    """A line about an absent optional source, or about files and linked folders that a source skipped; "" if none."""
    if listing.missing:
        return f"left out because it is optional: {listing.missing}"
    return "; ".join(filter(None, (_describe_untaken(listing), _describe_linked(listing))))


def _describe_untaken(listing: Listing) -> str:
    if not listing.passed_over:
        return ""
    source, count = listing.source, sum(listing.passed_over.values())
    files = "1 file" if count == 1 else f"{count:,} files"
    endings = _name_largest({ending or "without an ending": n for ending, n in listing.passed_over.items()}, "others")
    program = source.kind != "code" and any(ending in CODE for ending in listing.passed_over)
    cure = "name them under `files` of a manifest" + (", or write `kind: code` there" if program else "")
    return f"{source.name}: {files} not taken ({endings}); {cure}"


def _describe_linked(listing: Listing) -> str:
    if not listing.linked:
        return ""
    folders = "1 linked folder" if listing.linked == 1 else f"{listing.linked:,} linked folders"
    return f"{listing.source.name}: {folders} not followed; name what it links to as a source of its own"


def describe_faults(examined: Examined) -> str:
    """A line about input that could not be read, with the first fault."""
    first = examined.first_fault
    place = f"{first['file']}:{first['line']}" if first["line"] else first["file"]
    more = examined.faults - 1
    beside = "samples/refused.jsonl" + (f" names it and {more:,} more" if more else " names it")
    return f"can't be read: {place} of {first['source']} ({first['detail']}); {beside}"


def describe_undated(examined: Examined, listings: Sequence[Listing]) -> list[str]:
    """Lines about sources in which no row has the column of dates."""
    lines = []
    for number, listing in enumerate(listings):
        date, rows = listing.source.date, examined.rows[number]
        if isinstance(date, DateField) and rows and examined.undated_rows[number] == rows:
            names = ", ".join(examined.columns[number])
            lines.append(
                f"{listing.source.name}: none of {rows:,} rows has the column {date.field!r}, which its manifest "
                f"names for dates; name one of theirs: {names}"
            )
    return lines


def describe_size(size: int, target: int) -> str:
    """A line about a vocabulary that is smaller than its setting."""
    return (
        f"the tokenizer has {size:,} tokens, fewer than `vocabulary.size` {target:,}: every word of its "
        "sample is a token; give more text, or set a smaller size"
    )


def describe_heldout(counts: Mapping[str, float]) -> str:
    """A line if too little is held out to measure a loss; else ""."""
    heldout, count = counts["documents_heldout"], f"{counts['documents_unique']:,.0f}"
    if not heldout:
        return f"none of {count} documents is held out, and `pretrain` needs some: raise `heldout_share`"
    if heldout < _FEW:
        return f"{heldout:.0f} of {count} documents held out: the loss on so few says little; raise `heldout_share`"
    return ""


def describe_kept(counts: Mapping[str, float], dropped: Mapping[str, int]) -> str:
    """A line about the kept part of the input, the reasons for the rest, and the held-out part."""
    summary = (
        f"kept {counts['documents_unique']:,.0f} of {counts['documents_read']:,.0f} documents, "
        f"{short(counts['unique_bytes'])}B of {short(counts['bytes_read'])}B"
    )
    reasons = f" ({in_words(dropped)})" if dropped else ""
    return f"{summary}{reasons}, {counts['documents_heldout']:,.0f} of them held out; report.html says more"


def explain_empty(examined: Examined, listings: Sequence[Listing], settings: Settings, samples: Path) -> str:
    """Why no document is left, the setting that dropped most, and the folder with samples."""
    total = sum(examined.read.values())
    if not total:
        return "no document was found, because every source is optional and none is there; name one that is"
    (source, reason), _ = examined.dropped.most_common(1)[0]
    kind = "code" if listings[source].source.kind == "code" else "prose"
    cure = setting_of(reason, kind, settings) or "look at the sources"
    return f"no document was kept of {total:,} ({in_words(examined.by_reason())}); {cure}; {samples} shows them"


def setting_of(reason: str, kind: str, settings: Settings) -> str:
    """The settings behind a reason for documents of a kind, with their values; "" if there are none."""
    if reason in _SETTINGS:
        return _with_value(_SETTINGS[reason], settings)
    places = (f"filters.quality.{bound}" for bound in BOUNDS[kind].get(reason, ()))
    return ", ".join(_with_value(place, settings) for place in places)


def _with_value(place: str, settings: Settings) -> str:
    value = settings.model_dump(mode="json")
    for part in place.split("."):
        value = value[part]
    return f"{place} is {json.dumps(value)}"


def in_words(dropped: Mapping[str, int]) -> str:
    """The reasons, the most frequent first: 36 short, 4 exact copy."""
    return _name_largest({reason.replace("_", " "): n for reason, n in dropped.items()}, "for other reasons")


def _name_largest(counts: Mapping[str, int], others_name: str) -> str:
    """The largest counts with their names, and the sum of the others."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    largest, others = ordered[:_MOST], sum(count for _, count in ordered[_MOST:])
    return ", ".join(f"{count:,} {name}" for name, count in [*largest, *([(others_name, others)] if others else [])])
