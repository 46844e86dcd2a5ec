"""The tokenizer of a corpus: a checkpoint's, or byte-level BPE trained on a sample of the mix (Radford 2019).

The sample takes documents of the training split in the order of a weighted draw without replacement (Efraimidis and
Spirakis 2006), at least one, until it reaches `sample_mib`. A document's draw is the same in every attempt.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.progress import Bar
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.ground.model.opening import checkpoint_folder
from charter.ground.text.tokenizer import Tokenizer, train_tokenizer
from charter.rooms.corpus.batch import Batch
from charter.rooms.corpus.page import describe_size
from charter.rooms.corpus.selection import Selection, Table
from charter.rooms.corpus.settings import Settings, Vocabulary

MIB = 1 << 20


def make_tokenizer(table: Table, selection: Selection, settings: Settings, inputs: Inputs, out: Workspace) -> Tokenizer:
    """Saves a checkpoint's tokenizer, or trains one, once. It lies in the corpus's folder."""
    mark = out.state / "tokenizer.whole"
    if not mark.exists():
        checkpoint = inputs.optional("tokenizer")
        if checkpoint is not None:
            tokenizer = Tokenizer.from_folder(checkpoint_folder(checkpoint))
        else:
            mask = sample(table, selection, settings.vocabulary, out.seed)
            with out.progress("tokenizer", int(table.bytes[mask].sum())) as bar:
                tokenizer = train_on_sample(table, mask, settings.vocabulary, bar)
            if tokenizer.vocab_size < settings.vocabulary.size:
                out.note(describe_size(tokenizer.vocab_size, settings.vocabulary.size))
        tokenizer.save(out.path)
        atomic_write(mark, "")
    return Tokenizer.from_folder(out.path)


def sample(table: Table, selection: Selection, settings: Vocabulary, seed: int) -> npt.NDArray[np.bool_]:
    """Selects the documents to train the tokenizer on."""
    times = np.where(selection.heldout, 0, selection.times)
    waits = -np.log1p(-table.draw(seed, "tokenizer")) / np.maximum(times, 1)
    order = np.argsort(np.where(times > 0, waits, np.inf), kind="stable")[: np.count_nonzero(times)]
    before = np.cumsum(table.bytes[order], dtype=np.int64) - table.bytes[order]
    mask = np.zeros(len(table), bool)
    mask[order[before < settings.sample_mib * MIB]] = True
    return mask


def train_on_sample(table: Table, mask: npt.NDArray[np.bool_], settings: Vocabulary, bar: Bar) -> Tokenizer:
    """Trains a tokenizer of at most `settings.size` tokens, with <|endoftext|> before plain text."""

    def texts() -> Iterator[str]:
        for path, start, end in table.batches():
            numbers = np.flatnonzero(mask[start:end])
            batch = Batch(path) if len(numbers) else None
            for number in numbers.tolist():
                assert batch is not None
                yield batch.text(number)
                bar.advance(int(batch.bytes[number]))

    return train_tokenizer(texts(), settings.size, spare=settings.spare, opening=True)
