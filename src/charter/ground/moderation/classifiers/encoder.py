"""The sentence encoder as reader of the probe: its upper layers are adapted to the policy.

    W = W_0 + (A B)^T        low-rank adapters (Hu 2021) that come with charter, added once at the start
    vector = [10 x / |x|  of the mean x over the text's tokens, after each adapted layer]

A window is read as `[CLS] text before [SEP] text [SEP]`, all of it in both directions, as the encoder was pretrained.
Letters: N windows, T tokens of the longest, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from charter.ground.model.sentence_encoder import LAYERS, Rows, SentenceEncoder, Tensors, mean_state, open_encoder, pad
from charter.ground.moderation.classifiers.reader import Reader, Window, cut
from charter.ground.text.tokenizer import Tokenizer

READ = (3, 4, 5)  # layers, from 0, whose states make the vector
WINDOW, STRIDE, BEFORE = 128, 96, 32


class Encoder(Reader):
    """The encoder with an adapter, as a function from windows to vectors."""

    row_tokens = 4096

    def __init__(self, weights: Tensors, tokenizer: Tokenizer, adapter: Tensors, device: str = "cpu") -> None:
        """weights: as the hub names them; adapter: `NAME.a` [D_in, R] and `NAME.b` [R, D_out] by projection."""
        super().__init__()
        self.tokenizer, self.device = tokenizer, device
        tensors = dict(weights)
        for name in (name.removesuffix(".a") for name in adapter if name.endswith(".a")):
            change = adapter[f"{name}.a"].float() @ adapter[f"{name}.b"].float()
            tensors[f"{name}.weight"] = tensors[f"{name}.weight"] + change.T
        self.model = SentenceEncoder({name: tensor.to(device) for name, tensor in tensors.items()})
        self.width = len(READ) * int(tensors["embeddings.LayerNorm.weight"].numel())

    @classmethod
    def open(cls, folder: Path, adapter: Tensors, device: str = "cpu") -> Encoder:
        """From a folder as on the hub. Raises CharterError if the files differ."""
        return cls(*open_encoder(folder), adapter, device)

    def windows(self, text: str, before: str = "") -> list[Window]:
        """The windows of a text, each after the end of `before`."""
        ids = self.tokenizer.encode(text) or self.tokenizer.encode(".")
        behind = self.tokenizer.encode(before)[-BEFORE:] if before else []
        return cut(ids, behind, WINDOW, STRIDE)

    def read_together(self, windows: Sequence[Window]) -> list[Tensor]:
        """One vector per window; windows are padded to the longest."""
        rows = pad_windows(windows, self.device)
        x_NTD, parts = self.model.embed(rows), []
        for layer in range(LAYERS):
            x_NTD = self.model.layer(x_NTD, rows, layer)
            if layer in READ:
                parts.append(pool(x_NTD, rows))
        return list(torch.cat(parts, 1).cpu())


def pad_windows(windows: Sequence[Window], device: str = "cpu") -> Rows:
    """Windows with the tokens that mark their parts, padded to the longest."""
    return pad([(w.before, w.ids) for w in windows], device)


def pool(x_NTD: Tensor, rows: Rows) -> Tensor:
    """A layer's part of the vectors, scaled to a length of 10."""
    return 10 * mean_state(x_NTD, rows)
