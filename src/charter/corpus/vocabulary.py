"""The tokenizer of a corpus: a checkpoint's, or byte-level BPE trained on a sample of the mix (Radford 2019).

The sample is documents of the training split, each taken with the probability that makes `sample_mib` of them in all,
by a draw of its own: the same in every attempt.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from charter.corpus.batch import Batch
from charter.corpus.selection import Selection, Table
from charter.corpus.settings import Settings, Vocabulary
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.progress import Bar
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.ground.model.opening import checkpoint_folder
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer

MIB = 1 << 20


def the_tokenizer(
    table: Table,
    selection: Selection,
    settings: Settings,
    inputs: Inputs,
    out: Workspace,
) -> Tokenizer:
    """A checkpoint's tokenizer, or one that is trained, once; it lies in the corpus's folder."""
    mark = out.state / "tokenizer.whole"
    if not mark.exists():
        given = inputs.optional("tokenizer")
        if given is not None:
            tokenizer = Tokenizer.from_folder(checkpoint_folder(given))
        else:
            sample = sample_bytes(table, selection, settings.vocabulary)
            with out.progress("tokenizer", sample) as bar:
                tokenizer = trained_tokenizer(table, selection, settings.vocabulary, out.seed, bar)
        tokenizer.save(out.path)
        atomic_write(mark, "")
    return Tokenizer.from_folder(out.path)


def trained_tokenizer(
    table: Table, selection: Selection, settings: Vocabulary, seed: int, bar: Bar
) -> Tokenizer:
    """A tokenizer of `settings.size` tokens at most, <|endoftext|> before plain text."""
    times = np.where(selection.heldout, 0, selection.times)
    whole = float((table.bytes * times.astype(np.float64)).sum())
    chosen = table.draw(seed, "tokenizer") < times * (settings.sample_mib * MIB / whole)

    def texts() -> Iterator[str]:
        for path, start, end in table.batches():
            own = np.flatnonzero(chosen[start:end])
            batch = Batch(path) if len(own) else None
            for number in own.tolist():
                assert batch is not None
                yield batch.text(number)
                bar.advance(int(batch.bytes[number]))

    return train_tokenizer(texts(), settings.size, spare=settings.spare, opening=True)


def sample_bytes(table: Table, selection: Selection, settings: Vocabulary) -> int:
    """About how much text is read for it."""
    times = np.where(selection.heldout, 0, selection.times)
    return int(min((table.bytes * (times > 0)).sum(dtype=np.int64), settings.sample_mib * MIB))
