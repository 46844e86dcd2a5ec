"""From raw text to token shards, in phases that each leave whole files.

Examine pieces of the input in all processes (read, normal form, date, language, quality, benchmarks, personal data);
find exact and near copies; choose the repeats of each document; train the tokenizer; encode and write; count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.corpus_index import INDEX, SPLITS, Index, Shard, Split, dtype_of
from charter.ground.text.shards import ShardWriter
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.corpus.counting import (
    add_up,
    composition,
    drop_selected,
    flatten,
    sample_rows,
    tokens_of,
    write_faults,
)
from charter.rooms.corpus.crew import Crew
from charter.rooms.corpus.encoding import Encoder, Work, plan_work, write_split
from charter.rooms.corpus.page import (
    describe_faults,
    describe_heldout,
    describe_kept,
    describe_undated,
    describe_unread,
    explain_empty,
    write_page,
)
from charter.rooms.corpus.phases import copies_of, crew_size, cut_stretches, examine_all, index_benchmarks, list_sources
from charter.rooms.corpus.selection import Selection, Table, make_table, select
from charter.rooms.corpus.settings import Settings
from charter.rooms.corpus.vocabulary import make_tokenizer


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a corpus (`ground/text/shards.py`), counts, samples and report.html."""
    listings = list_sources(inputs.many("sources"))
    for listing in listings:
        if remark := describe_unread(listing):
            out.note(remark)
    stretches = cut_stretches(listings, settings.reading)
    tests = index_benchmarks(benchmarks(inputs), out)
    paths = examine_all(listings, stretches, settings, out)
    table, examined = make_table(paths), add_up(paths)
    if examined.faults:
        out.note(describe_faults(examined))
    for remark in describe_undated(examined, listings):
        out.note(remark)
    write_faults(paths, out.path / "samples/refused.jsonl")
    out.write_jsonl("samples/dropped.jsonl", examined.examples)
    if not len(table):
        raise CharterError(explain_empty(examined, listings, settings, out.path / "samples"))
    copies = copies_of(table, settings, out)
    selection = select(table, copies, [listing.source for listing in listings], settings, out.seed)
    if not (selection.times[~selection.heldout] > 0).any():
        raise CharterError("every document is held out or left out; give more text, or a smaller heldout_share")
    tokenizer = make_tokenizer(table, selection, settings, inputs, out)
    index = write_shards(table, selection, tokenizer, [x.source.name for x in listings], settings, out)
    out.write_json(INDEX, index.model_dump(mode="json"))
    drop_selected(examined, table, selection)
    tokens = tokens_of(out.path, table, selection)
    contents = composition(listings, table, selection, tokens, examined, tests, settings.languages)
    numbers = flatten(contents, examined, settings.languages)
    report(contents, numbers, sample_rows(listings, table, selection, out.seed), out)
    if remark := describe_heldout(numbers):
        out.note(remark)
    out.note(describe_kept(numbers, contents["dropped"]))


def benchmarks(inputs: Inputs) -> list[Path]:
    """Files that no document may overlap: the shipped held-out sets and those of the role."""
    return [*sorted(shipped_folder().glob("*.heldout.jsonl")), *(entry.folder for entry in inputs.many("benchmarks"))]


def write_shards(
    table: Table, selection: Selection, tokenizer: Tokenizer, names: Sequence[str], settings: Settings, out: Workspace
) -> Index:
    """Encodes the selected documents after those of an earlier attempt. Returns the index of all shards."""
    size = tokenizer.vocab_size
    writers = {split: ShardWriter(out.path / split, size, settings.shard_tokens) for split in SPLITS}
    total = int((table.bytes * selection.times.astype(np.int64)).sum())
    splits: dict[Split, tuple[Shard, ...]] = {}
    with (
        out.progress("tokens", total) as bar,
        Crew[Work, list[npt.NDArray[np.uint32]]](crew_size(settings, total), Encoder, out.path) as crew,
    ):
        for split, writer in writers.items():
            schedule = plan_work(table, selection, split, writer.documents)
            splits[split] = write_split(crew, writer, schedule, table, bar)
    return Index(
        dtype=dtype_of(size),
        vocab_size=size,
        tokenizer=tokenizer.digest,
        sources=tuple(names),
        languages=table.languages,
        splits=splits,
    )


def report(contents: dict[str, Any], counts: dict[str, float], rows: list[dict[str, Any]], out: Workspace) -> None:
    """Writes samples, counts, the metrics and the page."""
    out.write_jsonl("samples/documents.jsonl", rows)
    out.write_json("composition.json", contents)
    out.counts(counts)
    out.write_text("report.html", write_page(contents, counts, rows))
