"""A frozen checkpoint's hidden states of a text, at its lower layers, as one vector per window.

    vector = [mean over tokens of x_l / rms(x_l)  for the layers l read]

Texts are plain (no chat template, and text that spells a special token stays text), cut into windows of WINDOW tokens
that begin every STRIDE tokens, each read after up to BEFORE tokens of the text before. Layers above the last one read
are never computed. Vectors are cached by the tokens of their window. For a text that grows at its end,
`CachedStreamReader` keeps the last window's keys and values, so a reading costs only its new tokens. Letters: T tokens
of a row, D width, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from weakref import WeakSet

import torch
from torch import Tensor
from torch.nn import functional as F

from charter.ground.model.attention import attend, attend_behind
from charter.ground.model.cache import Cache
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.layout import Layout, documents
from charter.ground.model.rope import tables
from charter.ground.model.transformer import Transformer
from charter.ground.moderation.classifiers.reader import Reader, StreamReader, Window
from charter.ground.text.tokenizer import Tokenizer

WINDOW, STRIDE, BEFORE = 256, 192, 128
# (a layer's number from 0, its rotated queries and keys, its values) -> the attention output of its tokens
LayerAttend = Callable[[int, Tensor, Tensor], Tensor]
MOST_ACTIVE = 32  # growing texts whose keys and values are kept: about 10 MiB each of a 135M model


class States(Reader):
    """A checkpoint's lower layers as a function from windows to vectors."""

    row_tokens = 2048

    def __init__(self, model: Transformer, tokenizer: Tokenizer, device: str = "cpu") -> None:
        super().__init__()
        self.model, self.tokenizer, self.device = model, tokenizer, device
        count = model.shape.num_layers
        self.layers = layers_of(count)
        del model.layers[max(self.layers) :]
        self.width = len(self.layers) * model.shape.hidden_size
        self.active: WeakSet[CachedStreamReader] = WeakSet()  # readers that hold keys and values
        self.turn = 0

    @classmethod
    def open(cls, folder: Path, device: str = "cpu") -> States:
        """Load a policy checkpoint folder."""
        model, tokenizer = load_policy(folder, device)
        return cls(model, tokenizer, device)

    def windows(self, text: str, before: str = "") -> list[Window]:
        """The windows of a text; the last one reaches its end, and an empty text has one."""
        tokenizer = self.tokenizer
        ids = tokenizer.encode(text) or tokenizer.encode("\n") or [0]
        behind = tokenizer.encode(before) if before else []
        stream = [*behind, *ids]
        windows = []
        for at in range(0, max(1, len(ids) - WINDOW + STRIDE), STRIDE):
            start = len(behind) + at
            windows.append(Window(tuple(stream[max(0, start - BEFORE) : start]), tuple(ids[at : at + WINDOW])))
        return windows

    def open_stream(self) -> CachedStreamReader:
        """A reader of a growing text that keeps keys and values."""
        return CachedStreamReader(self)

    def read_together(self, windows: Sequence[Window]) -> list[Tensor]:
        """One vector per window, for windows packed one after another into a row."""
        ids_T = torch.tensor([t for w in windows for t in (*w.before, *w.ids)])
        layout = documents([w.size for w in windows]).to(self.device)
        states = self.read(ids_T.to(self.device), layout.positions, _attend_separately(layout))
        vectors, end = list[Tensor](), 0
        for window in windows:
            end += window.size
            start = end - len(window.ids)
            vectors.append(torch.cat([x_TD[start:end].mean(0) for x_TD in states]).cpu())
        return vectors

    def read(self, ids_T: Tensor, positions_T: Tensor, attention: LayerAttend) -> list[Tensor]:
        """Normed states after each layer of `layers`, [T, D] float32 each."""
        model = self.model
        model.fuse()
        cos_sin = tables(positions_T, model.get_buffer("inv_freq"), model.rope_factor, model.dtype)
        x_TD = F.embedding(ids_T, model.embed)
        states = []
        for number, layer in enumerate(model.blocks()):
            x_TD = layer.infer(x_TD, cos_sin, partial(attention, number))
            if number + 1 in self.layers:
                states.append(F.rms_norm(x_TD, (x_TD.shape[-1],)).float())
        return states


class CachedStreamReader(StreamReader):
    """Keeps keys, values and states of the last window; the beginning that the next window shares with it is not read
    again. Memory is bounded by one window and freed with this object, or earlier if more than MOST_ACTIVE texts grow at
    once: then the last window is read once more."""

    def __init__(self, states: States) -> None:
        super().__init__(states)
        self.states = states
        self.used = 0
        self.forget()

    def forget(self) -> None:
        """Drop keys, values and states."""
        self._cache: Cache | None = None
        self._tokens: tuple[int, ...] = ()
        self._states_TF = torch.zeros(0, self.states.width)

    @torch.no_grad()
    def _read(self, window: Window) -> Tensor:
        tokens = (*window.before, *window.ids)
        cache, shared = self._room(tokens)
        if shared < len(tokens):
            fresh_TF = self._behind(torch.tensor(tokens[shared:]), cache, shared)
            self._states_TF = torch.cat((self._states_TF[:shared], fresh_TF))
        self._tokens = tokens
        return self._states_TF[len(window.before) : len(tokens)].mean(0)

    def _room(self, tokens: tuple[int, ...]) -> tuple[Cache, int]:
        """The cache, cut to the beginning that these tokens share with it, and the length of that beginning."""
        states = self.states
        if self._cache is None:
            shape = replace(states.model.shape, num_layers=max(states.layers))
            self._cache = Cache(shape, 1, 0, states.device, states.model.dtype)
        states.turn = self.used = states.turn + 1
        states.active.add(self)
        if len(states.active) > MOST_ACTIVE:
            oldest = min(states.active, key=lambda state: state.used)
            states.active.discard(oldest)
            oldest.forget()
        pairs = enumerate(zip(self._tokens, tokens, strict=False))
        shared = next((n for n, (old, new) in pairs if old != new), min(len(self._tokens), len(tokens)))
        self._cache.truncate(0, shared)
        self._tokens = tokens[:shared]
        return self._cache, shared

    def _behind(self, ids_T: Tensor, cache: Cache, shared: int) -> Tensor:
        """Normed states of new tokens after `shared` cached ones, [T, F] on the CPU; their keys and values join the
        cache."""
        states, layout = self.states, documents([len(ids_T)]).to(self.states.device)
        shape = cache.shape
        rows_T = torch.arange(len(ids_T), device=states.device)
        row = torch.empty(
            (shape.num_layers, 2, len(ids_T), shape.num_kv_heads, shape.head_dim),
            device=states.device,
            dtype=cache.kv.dtype,
        )

        def attention(number: int, qk: Tensor, v: Tensor) -> Tensor:
            row[number, 0], row[number, 1] = qk[:, shape.num_heads :], v
            if not shared:
                return attend(qk, v, layout)
            return attend_behind(qk, v, layout, [(rows_T, *cache.prefix(number, 0))])

        layer_states = states.read(ids_T.to(states.device), layout.positions + shared, attention)
        cache.write(0, row, 0, len(ids_T))
        return torch.cat(layer_states, 1).cpu()


def _attend_separately(layout: Layout) -> LayerAttend:
    """Attention within each text of a layout, in every layer."""
    return lambda _, qk, v: attend(qk, v, layout)


def layers_of(count: int) -> tuple[int, ...]:
    """The layers to read of `count`: a third and a half of the way up, where probes work best."""
    return tuple(sorted({max(1, round(count / 3)), max(1, round(count / 2))}))
