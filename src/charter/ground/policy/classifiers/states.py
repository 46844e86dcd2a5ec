"""What a frozen checkpoint makes of a text: its hidden states part of the way up, as one vector a window.

    vector = [mean over tokens of x_l / rms(x_l)  for the layers l read]

Texts are plain (no chat template, and text that spells a special token stays text), cut into windows of WINDOW tokens
that begin every STRIDE tokens, each read behind up to BEFORE tokens of what was said before. Layers above the last one
read are never computed. Vectors of windows are remembered by their tokens, so that of a growing reply only the end is
computed again. Letters: T tokens of a row, D width, F features.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from charter.ground.model.attention import attend
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.layout import Layout, documents
from charter.ground.model.rope import tables
from charter.ground.model.transformer import Transformer
from charter.ground.text.packing import microbatches
from charter.ground.text.tokenizer import Tokenizer

WINDOW, STRIDE, BEFORE = 256, 192, 128
ROW_TOKENS = 2048
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Window:
    """Ids of what stands before, and of the text that the vector is taken over, which is never empty."""

    before: tuple[int, ...]
    ids: tuple[int, ...]


class States:
    """A checkpoint's lower layers as a function from windows to vectors. One text is read at a time, whatever the
    thread."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, device: str = "cpu") -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        count = model.shape.num_layers
        self.layers = layers_of(count)
        del model.layers[max(self.layers) :]
        self.width = len(self.layers) * model.shape.hidden_size
        self._known: OrderedDict[Window, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path, device: str = "cpu") -> States:
        """Load a policy checkpoint folder."""
        model, tokenizer = load_policy(folder, device)
        return cls(model, tokenizer, device)

    def windows(self, text: str, before: str = "") -> list[Window]:
        """The windows of a text, the last one reaching its end; one of the text's opening where it is empty."""
        tokenizer = self.tokenizer
        ids = tokenizer.encode(text) or tokenizer.encode("\n") or [0]
        behind = tokenizer.encode(before) if before else []
        stream = [*behind, *ids]
        found = []
        for at in range(0, max(1, len(ids) - WINDOW + STRIDE), STRIDE):
            start = len(behind) + at
            found.append(Window(tuple(stream[max(0, start - BEFORE) : start]), tuple(ids[at : at + WINDOW])))
        return found

    def vectors(self, windows: Sequence[Window]) -> Tensor:
        """One vector a window, [N, F] float32 on the CPU; the same alone or among others within 1e-4."""
        with self._lock:
            fresh = [w for w in dict.fromkeys(windows) if w not in self._known]
            made = dict(zip(fresh, self._computed(fresh), strict=True))
            found = torch.stack([made[w] if w in made else self._known[w] for w in windows])
            self._known.update(made)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    @torch.no_grad()
    def _computed(self, windows: Sequence[Window]) -> list[Tensor]:
        sizes = [len(w.before) + len(w.ids) for w in windows]
        order = sorted(range(len(windows)), key=lambda i: sizes[i])
        found: dict[int, Tensor] = {}
        for group in microbatches([sizes[i] for i in order], ROW_TOKENS):
            members = [order[i] for i in group]
            ids_T = torch.tensor([t for i in members for t in (*windows[i].before, *windows[i].ids)])
            layout = documents([sizes[i] for i in members]).to(self.device)
            read = self._read(ids_T.to(self.device), layout)
            end = 0
            for i in members:
                end += sizes[i]
                start = end - len(windows[i].ids)
                found[i] = torch.cat([x_TD[start:end].mean(0) for x_TD in read]).cpu()
        return [found[i] for i in range(len(windows))]

    def _read(self, ids_T: Tensor, layout: Layout) -> list[Tensor]:
        """Normed states after each layer that is read, [T, D] each."""
        model = self.model
        model.fuse()
        cos_sin = tables(layout.positions, model.get_buffer("inv_freq"), model.rope_factor, model.dtype)
        x_TD = F.embedding(ids_T, model.embed)
        found = []
        for number, layer in enumerate(model.blocks(), 1):
            x_TD = layer.infer(x_TD, cos_sin, lambda qk, v: attend(qk, v, layout))
            if number in self.layers:
                found.append(F.rms_norm(x_TD, (x_TD.shape[-1],)).float())
        return found


def layers_of(count: int) -> tuple[int, ...]:
    """The layers that are read of so many: a third and a half of the way up, where meaning is most readable."""
    return tuple(sorted({max(1, round(count / 3)), max(1, round(count / 2))}))
