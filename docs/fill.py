"""Fills what is generated: in docs/start/first_run.md the expected output from a run's card and the table of rooms, in
README.md some rows of the range over seeds, in docs/project/map.md the words of our own.

    python docs/fill.py                 the tables alone
    python docs/fill.py RUN             the output too, from RUN/card/card.json and the rows it names
    python docs/fill.py --range RUN RUN the range over runs of one recipe with several seeds and precisions
    python docs/fill.py [RUN] --check   writes nothing; exit code 1 where a page is out of date

Nothing between the markers is typed by hand. The prompt shown is the first of the card's random draw for
which the card names a principle, else the first of the draw; no other choice is made.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tables import Card, between, read_card, spread, table

from charter.building import ABOVE, FLOORS, ROOMS
from charter.cli.explain import first_sentence, read_words
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.constitution.constitution import load
from charter.ground.measure.metric import default_label
from charter.ground.reports.number import Number, figure, interval
from charter.ground.settings.sources import resolve_again
from charter.rooms.evaluate.catalogue import METRICS
from charter.runner.rooms import list_settings, open_room
from charter.terminal.tables import counted
from charter_service.building import PARTS

LABELS = {metric.name: metric.label for metric in METRICS}
ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DEMO = ROOT / "docs" / "start" / "first_run.md"
ARCHITECTURE = ROOT / "docs" / "project" / "architecture.md"
MAP = ROOT / "docs" / "project" / "map.md"
SOURCES = ROOT / "src" / "charter"
LONGEST_REPLY = 400
LONGEST_DEFAULT = 60
RANGED = (
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "helpful_refusal_rate",
    "facts_refusal_rate",
    "refusal_d_prime",
    "facts_recalled",
    "bits_per_byte",
    "unsafe_loop_rate",
    "lookalike_loop_rate",
    "helpful_loop_rate",
)
PROOF = ("Unsafe refused", "Look-alikes refused", "d′, look-alikes", "Bits per byte")
FIELDS = set(Number.__dataclass_fields__) - {"sources"}


def folder_of(package: str) -> Path:
    """The folder of a room, named by its package."""
    return ROOT / "src" / Path(*package.split("."))


def phrase(folder: Path) -> str:
    """The first sentence of a folder's README."""
    return first_sentence(folder / "README.md")


def room_table() -> str:
    """Rooms in the order of building.py, then what stands below and above them."""
    rows = []
    for room, package in ROOMS.items():
        declared = open_room(room)
        variant = f" ({declared.variant})" if declared.variant else ""
        folder = folder_of(package)
        link = f"[{room}](../../{folder.relative_to(ROOT)}/README.md)"
        rows.append((link, f"{declared.product}{variant}", phrase(folder)))
    api = folder_of("charter_service.api")
    below = [part for part in PARTS if part != "api" and part not in ROOMS]
    rows += [
        ("ground", "", f"what rooms stand on, in {len(FLOORS)} floors: {', '.join(FLOORS)}"),
        (f"[charter_service/api](../../{api.relative_to(ROOT)}/README.md)", "", phrase(api)),
        (f"charter_service: {', '.join(below)}", "", "what the served rooms and the api stand on"),
        ("runner, cli", "", "plan, run, resume, show, verify; they alone load the rooms"),
        ("[interop](../howto/interop.md)", "", "our models for lm-eval and Inspect"),
    ]
    return table(("room", "makes", "in a phrase"), rows, left=3)


def tree() -> str:
    """The packages two levels deep, each with a phrase; rooms stand in a table of their own."""
    branches = {
        "ground/": ("what experiments stand on; a floor imports only floors above it here", FLOORS),
        "rooms/": ("one room, one product; first_run.md lists them", {}),
    }
    branches |= {f"{name}/": (owns, {}) for name, owns in ABOVE.items()}
    lines = ["src/charter/"]
    for name, (owns, inner) in branches.items():
        lines.append(f"  {name:<18}{owns}")
        lines += [f"    {part:<16}{said}" for part, said in inner.items()]
    lines.append(f"  {'data/':<18}texts, constitution and policy that come along")
    lines.append("src/charter_service/    what runs until it is stopped")
    lines += [f"    {name:<16}{part.owns}" for name, part in PARTS.items()]
    return "\n".join(["```", *lines, "```"])


def settings_table(room: str) -> str:
    """The settings of a room, with their defaults and what they mean; nested ones by their dotted names."""
    rows = []
    for setting in list_settings(open_room(room)):
        shown = "needed" if setting.needed else json.dumps(setting.default, ensure_ascii=False)
        shown = f"`{shown}`" if len(shown) <= LONGEST_DEFAULT else "see settings.py"
        rows.append((f"`{setting.name}`", shown, setting.meaning))
    return table(("setting", "default", "meaning"), rows, left=3)


def glossary() -> str:
    """Words of our own, as `charter explain` knows them."""
    rows = []
    for entry in read_words():
        places = ", ".join(f"`{place}`" for place in entry["where"])
        rows.append((", ".join(entry["words"]), entry["idea"], places))
    return table(("word", "idea", "where"), rows, left=3)


def number_of(card: Card, key: str) -> Number | None:
    """A number of the card by its key, or None."""
    row = next((n for n in card["numbers"] if n["key"] == key), None)
    return None if row is None else Number(**{k: v for k, v in row.items() if k in FIELDS})


def worded(number: Number | None) -> str:
    """Value and interval as the card prints them."""
    if number is None:
        return "-"
    ends = interval(number)
    return figure(number.value, number.unit, number.change) + (f" ({ends})" if ends else "")


def headline_table(card: Card) -> str:
    """The card's headline numbers: start, final, paired change; the grader's false alarms behind its grade."""
    first, last = card["stages"][0], card["stages"][-1]
    rows = []
    for name in _with_false_alarms(card["settings"]["headline"]):
        before, after = (number_of(card, f"{stage['step']}/{name}") for stage in (first, last))
        if before is None and after is None:
            continue
        change = number_of(card, f"{first['step']}..{last['step']}/{name}")
        note = "" if change is None or change.significant else ", not significant"
        count = "-" if after is None or after.n is None else f"{after.n:,}"
        label = LABELS.get(name, default_label(name))
        rows.append((label, worded(before), worded(after), f"{worded(change)}{note}", count))
    return table(("", first["stage"], last["stage"], "paired change", "n"), rows)


def _with_false_alarms(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield name
        if name == "harm_answered_rate":
            yield "lookalike_harm_rate"


def moved(card: Card, prompt: str, topic: str) -> str | None:
    """The key of the principle that the card names for a prompt or its topic."""
    for what in (f"prompt {prompt}", topic):
        start = f"revisions on {what} under "
        keys = [str(n["name"]).removeprefix(start) for n in card["numbers"] if str(n["name"]).startswith(start)]
        if what and keys:
            return keys[0]
    return None


def principle_text(run: Path, folder: Path, key: str) -> str:
    """What the principle asks of a reply, from the constitution that the critique step used."""
    manifest = read_manifest(folder)
    for parent in manifest.parents:
        if parent.role == "transcripts":
            for source in read_manifest(run / parent.path).external:
                if source.role == "constitution":
                    path = resolve_again(source, run).path
                    if path is not None:
                        return load(path).critique(key).critique
    return ""


def quoted(text: str) -> str:
    """A reply as a quotation, cut where it is long."""
    words = text.strip() or "(nothing)"
    words = words if len(words) <= LONGEST_REPLY else words[:LONGEST_REPLY].rstrip() + " ..."
    return "\n".join(f"    {line}" for line in words.splitlines())


def exchange(run: Path, folder: Path, card: Card) -> str:
    """One unsafe prompt that the first stage answered and the last refuses, and the principle behind it."""
    stages = (card["stages"][0], card["stages"][-1])
    rows = {
        stage["step"]: {
            r["id"]: r for r in read_objects(run / stage["step"] / "samples/harmlessness.jsonl") if not r["sample"]
        }
        for stage in stages
    }
    first, last = (rows[stage["step"]] for stage in stages)
    turned = [n for n in last if n in first and last[n]["refusal"] and not first[n]["refusal"]]
    # the card's own draw, which names the unsafe prompt first
    name = next((n for n in card["samples"]["before_and_after"] if n in turned), "")
    if not name:
        return f"No unsafe prompt of {len(last)} was answered by {stages[0]['stage']} and is refused now."
    parts = [
        f"Drawn by seed from the {len(turned)} of {len(last)} unsafe prompts that {stages[0]['stage']} answers and "
        f"{stages[1]['stage']} refuses: `{name}` ({last[name]['topic'].replace('_', ' ')}):",
        quoted(str(last[name]["prompt"])),
    ]
    for stage in stages:
        parts += [f"{stage['stage']}:", quoted(rows[stage["step"]][name]["reply"])]
    key = moved(card, name, str(last[name]["topic"]))
    if key:
        words = "In training, most revisions of replies on this topic followed one principle of the constitution"
        parts.append(f"{words}, `{key}`: {principle_text(run, folder, key)}".rstrip(": "))
    return "\n\n".join(parts)


def numbers_block(run: Path) -> str:
    """Expected output: one prompt before and after, the headline numbers, and where they come from."""
    folder, card = read_card(run)
    manifest = read_manifest(folder)
    made = [read_manifest(path.parent) for path in sorted(run.glob("*/manifest.json"))]
    minutes = sum(m.timing.seconds for m in made) / 60
    where = manifest.environment
    commit = (manifest.source.commit or "unknown")[:12] + (" with changes" if manifest.source.dirty else "")
    grader = "fit" if card["grader"]["fit"] else "unfit"
    origin = (
        f"Run `{manifest.recipe}`, card `{manifest.id[:12]}`, commit {commit}: {minutes:.1f} minutes "
        f"of work on {where.device} ({counted(where.threads, 'threads')} a step, {where.precision}, "
        f"torch {where.torch}). Intervals are 95 %. "
        f"The grader is {grader}: {card['grader']['why']}."
    )
    return "\n\n".join((exchange(run, folder, card), headline_table(card), origin))


def range_block(runs: Sequence[Path]) -> str:
    """The mean, the lowest and the highest value by stage over runs of one recipe. Raises CharterError for runs of
    different stages."""
    found = [read_card(run) for run in runs]
    seeds = sorted({json.loads((run / "run.json").read_text("utf-8"))["recipe"]["seed"] for run in runs})
    precisions = sorted({read_manifest(folder).environment.precision for folder, _ in found})
    made = f"{counted(len(runs), 'runs')} (seeds {', '.join(map(str, seeds))}; {', '.join(precisions)})"
    return f"{made}: mean, lowest to highest; n of each run.\n\n" + range_table([card for _, card in found])


def range_table(cards: Sequence[Card]) -> str:
    """A row for each of RANGED that all stages of all cards have. Raises CharterError for cards of other stages."""
    stages = [[stage["stage"] for stage in card["stages"]] for card in cards]
    if any(names != stages[0] for names in stages):
        raise CharterError(f"the runs have different stages: {sorted({', '.join(s) for s in stages})}")
    rows = []
    for name in RANGED:
        by_stage = [
            [number_of(card, f"{card['stages'][place]['step']}/{name}") for card in cards]
            for place in range(len(stages[0]))
        ]
        if any(number is None for numbers in by_stage for number in numbers):
            continue
        cells = [_spread([number for number in numbers if number is not None]) for numbers in by_stage]
        first = by_stage[0][0]
        count = f"{first.n:,}" if first is not None and first.n is not None else "-"
        rows.append((LABELS.get(name, default_label(name)), *cells, count))
    return table(("", *stages[0], "n"), rows)


def proof_table(page: str) -> str:
    """The rows of the range over runs that README.md shows. Raises CharterError if the page lacks one."""
    block = page.partition("<!-- range:start -->\n")[2].partition("<!-- range:end -->")[0].strip()
    lines = block.splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith("|")), len(lines))
    rows = [line for name in PROOF for line in lines if line.startswith(f"| {name} |")]
    if len(rows) != len(PROOF):
        raise CharterError(f"the range of {DEMO.name} lacks one of {', '.join(PROOF)}; fill it with --range")
    return "\n".join([*_gist(rows), *lines[: start + 2], *rows])


def _gist(rows: Sequence[str]) -> list[str]:
    """What plain finetuning and RL do, with the table's own numbers; nothing where they don't show it."""
    cells = {row.split("|")[1].strip(): [c.strip().partition(" (")[0] for c in row.split("|")[2:]] for row in rows}
    unsafe, look = cells["Unsafe refused"], cells["Look-alikes refused"]
    start, plain, *_, last = (float(cell.removesuffix(" %")) for cell in unsafe[:4])
    before, after = (float(look[at].removesuffix(" %")) for at in (1, 3))
    if plain - start < (max(plain, last) - start) / 2 or after >= before:
        return []
    return [
        f"Plain finetuning does most of it: {start:.1f} to {unsafe[1]} of unsafe prompts refused. RL takes back "
        f"needless refusals: {before:.1f} to {look[3]} of look-alikes.",
        "",
    ]


def _spread(numbers: Sequence[Number]) -> str:
    """Mean and range, as `75.0 % (70.0 to 80.0)`."""
    return spread([number.value for number in numbers if number.value is not None], numbers[0].unit)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the pages, or with --check says whether they are up to date."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a finished run with a card; without it: the table alone")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page differs")
    parser.add_argument("--range", nargs="+", type=Path, metavar="RUN", default=[], help="finished runs of one recipe")
    asked = parser.parse_args(arguments)
    kept = {page: page.read_text("utf-8") for page in (README, DEMO, ARCHITECTURE, MAP)}
    try:
        made = {
            DEMO: between(kept[DEMO], "rooms", room_table()),
            ARCHITECTURE: between(kept[ARCHITECTURE], "tree", tree()),
            MAP: between(kept[MAP], "words", glossary()),
        }
        if asked.run is not None:
            made[DEMO] = between(made[DEMO], "numbers", numbers_block(asked.run))
        if asked.range:
            made[DEMO] = between(made[DEMO], "range", range_block(asked.range))
        made[README] = between(kept[README], "proof", proof_table(made[DEMO]))
    except CharterError as error:
        print(f"fill: {error}", file=sys.stderr)
        return 1
    changed = [page for page in made if made[page] != kept[page]]
    for page in changed:
        if not asked.check:
            page.write_text(made[page], "utf-8")
            continue
        name = str(page.relative_to(ROOT))
        before, after = kept[page].splitlines(), made[page].splitlines()
        print("\n".join(difflib.unified_diff(before, after, name, "generated", n=0, lineterm="")))
        print(f"fill: {name} is out of date; run docs/fill.py without --check", file=sys.stderr)
    return int(bool(changed) and asked.check)


if __name__ == "__main__":
    sys.exit(main())
