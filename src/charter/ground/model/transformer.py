"""The decoder: pre-norm blocks of grouped-query attention and SwiGLU, on a flat row of tokens without padding.

    x = x + attention(norm(x));  x = x + down(silu(gate(x)) * up(x)), x normed first

Training and inference run the same block with different attention functions. Letters: T tokens of the row, D width, V
vocabulary, H query heads, K key heads, d head size, I feed-forward width, S slots.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from charter.ground.artifact.errors import CharterError
from charter.ground.model.attention import attend, attend_behind, attend_one
from charter.ground.model.cache import Before, Cache, Step
from charter.ground.model.int8 import multiplies_int8
from charter.ground.model.layout import Layout, documents
from charter.ground.model.linear import Projection, RmsNorm, linear, packed_product
from charter.ground.model.packing import PackedWeights, Site
from charter.ground.model.recomputing import PIECE, apply_block, suits
from charter.ground.model.rope import frequencies, rotate, tables
from charter.ground.model.shape import Shape

# (rotated queries and keys [T, H + K, d], values [T, K, d]) -> [T, H * d]
Attend = Callable[[Tensor, Tensor], Tensor]
Tables = tuple[Tensor, Tensor]

REACH_TOKENS = 256  # that measure the range of states, for int8


class _SwiGlu(torch.autograd.Function):
    """silu(gate) * up of [T, 2 I]. It keeps only its input for backward, a third of what autograd would keep."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        result = torch.empty_like(both)
        grad_gate, grad_up = result.chunk(2, -1)
        torch.mul(F.silu(gate), grad, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return result


def _swiglu(both: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # then the compiler chooses what to keep
        gate, up = both.chunk(2, -1)
        return F.silu(gate) * up
    active: Tensor = _SwiGlu.apply(both)  # type: ignore[no-untyped-call]
    return active


class Block(nn.Module):
    """One layer; `infer` uses the packed weights of `Transformer.fuse`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, d = shape.hidden_size, shape.head_dim
        query, key = shape.num_heads * d, shape.num_kv_heads * d
        self.heads, self.key_heads, self.d = shape.num_heads, shape.num_kv_heads, d
        self.attention_norm = RmsNorm(width, shape.norm_eps)
        self.qkv = Projection(width, {"q_proj": query, "k_proj": key, "v_proj": key}, shape.qkv_bias)
        self.q_norm = RmsNorm(d, shape.norm_eps) if shape.qk_norm else None
        self.k_norm = RmsNorm(d, shape.norm_eps) if shape.qk_norm else None
        self.out = Projection(query, {"o_proj": width}, shape.o_bias)
        self.mlp_norm = RmsNorm(width, shape.norm_eps)
        self.gate_up = Projection(width, {"gate_proj": shape.intermediate_size, "up_proj": shape.intermediate_size})
        self.down = Projection(shape.intermediate_size, {"down_proj": width})

    def forward(self, x_TD: Tensor, cos_sin: Tables, attention: Attend, lean: Layout | None = None) -> Tensor:
        """[T, D] -> [T, D]. `lean`: the row's layout, to keep little for backward (see `recomputing`)."""
        if lean is not None:
            return apply_block(self, x_TD, cos_sin, lean)
        return self.after(x_TD, attention(*self.before(x_TD, cos_sin)))

    def before(self, x_TD: Tensor, cos_sin: Tables) -> tuple[Tensor, Tensor]:
        """Rotated queries and keys [T, H + K, d], values [T, K, d]."""
        return self._cut(self.qkv(self.attention_norm(x_TD)), cos_sin)

    def after(self, x_TD: Tensor, mixed: Tensor) -> Tensor:
        """[T, D] from the block's input and the output of attention, [T, H * d]."""
        x_TD = x_TD + self.out(mixed)
        fed: Tensor = self.down(_swiglu(self.gate_up(self.mlp_norm(x_TD))))
        return x_TD + fed

    def infer(self, x_TD: Tensor, cos_sin: Tables, attention: Attend) -> Tensor:
        """The same without gradients, by the packed weights, some tokens of a long row at a time."""
        if len(x_TD) <= PIECE:
            return self._infer_after(x_TD, attention(*self._infer_before(x_TD, cos_sin)))
        pieces = [slice(at, at + PIECE) for at in range(0, len(x_TD), PIECE)]
        heads = self.heads + self.key_heads
        qk = x_TD.new_empty((len(x_TD), heads, self.d))
        v = x_TD.new_empty((len(x_TD), self.key_heads, self.d))
        for piece in pieces:
            qk[piece], v[piece] = self._infer_before(x_TD[piece], (cos_sin[0][piece], cos_sin[1][piece]))
        mixed = attention(qk, v)
        del qk, v
        result = torch.empty_like(x_TD)
        for piece in pieces:
            result[piece] = self._infer_after(x_TD[piece], mixed[piece])
        return result

    def _infer_before(self, x_TD: Tensor, cos_sin: Tables) -> tuple[Tensor, Tensor]:
        return self._cut(self.qkv.infer(self.attention_norm.infer(x_TD)), cos_sin)

    def _infer_after(self, x_TD: Tensor, mixed: Tensor) -> Tensor:
        x_TD = self.out.infer(mixed) + x_TD
        gate, up = self.gate_up.infer(self.mlp_norm.infer(x_TD)).chunk(2, -1)
        return self.down.infer(F.silu(gate).mul_(up)) + x_TD

    def _cut(self, qkv: Tensor, cos_sin: Tables) -> tuple[Tensor, Tensor]:
        """Splits the product of query, key and value, and norms and rotates it: the input of attention."""
        parts = (self.heads + self.key_heads, self.key_heads)
        qk, v_TKd = qkv.view(-1, sum(parts), self.d).split_with_sizes(parts, 1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = qk.split_with_sizes((self.heads, self.key_heads), 1)
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), 1)
        return rotate(qk, *cos_sin), v_TKd


@dataclass(slots=True)
class Trunk:
    """States [T, D] of a row after a model's first layers, which are frozen. Models with the same layers, such as the
    model before training, need not compute them again. `states` is None until `Transformer.hidden` fills it in."""

    layers: int
    states: Tensor | None = None


class Transformer(nn.Module):
    """The decoder with its embedding and head; weights are uninitialised until they are loaded.

    `recompute`: keep only the input of each block for backward (gradient checkpointing); for long documents on a CPU
    also the output of attention (`recomputing`). `precision`: the type of the packed weights of inference (see `fuse`);
    set it before the first use. `generation`: the fields of its checkpoint's generation_config.json, which are saved
    with it again.
    """

    def __init__(self, shape: Shape, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = shape
        self.recompute = False
        self.precision = "float32"
        self.generation: dict[str, Any] = {}
        with torch.device("meta"):
            self.embed = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))
            self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
            self.norm = RmsNorm(shape.hidden_size, shape.norm_eps)
            self.head = None if shape.tied else nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))
        self.to_empty(device=device)
        self.to(dtype)
        inv_freq, self.rope_factor = frequencies(shape)
        self.register_buffer("inv_freq", inv_freq.to(device), persistent=False)
        self._packed: PackedWeights | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state without packed weights: a copy packs its own."""
        return {**self.__dict__, "_packed": None}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.embed.dtype

    def take_positions(self, shape: Shape) -> None:
        """Take the positions of this shape, which differs in nothing else (ValueError)."""
        positions = {key: getattr(shape, key) for key in ("max_positions", "rope_theta", "rope_scaling")}
        if replace(self.shape, **positions) != shape:
            raise ValueError("a shape that differs in more than its positions needs other weights")
        inv_freq, self.rope_factor = frequencies(shape)
        self.inv_freq = inv_freq.to(self.device)
        self.shape = shape

    def head_weight(self) -> Tensor:
        """[V, D]: the embedding itself when the head is tied."""
        return self.embed if self.head is None else self.head

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """[N, V]. Losses compute them in chunks and never hold N x V floats."""
        weight, packed = self.head_weight(), self._packed
        if packed is not None and packed.head is not None and not torch.is_grad_enabled() and packed.head_fresh(weight):
            return packed_product(hidden_ND, packed.head)
        return linear(hidden_ND, weight)

    def hidden(self, ids_T: Tensor, layout: Layout, trunk: Trunk | None = None) -> Tensor:
        """States after the final norm, [T, D], differentiable. A filled trunk replaces the layers below it; an empty
        one gets their states.

        Raises CharterError if a path is longer than the context.
        """
        self._check_context(layout.longest)
        cos_sin = self._tables(layout.positions)
        blocks, below = self.blocks(), 0
        if trunk is not None and trunk.states is not None:
            x_TD, below = trunk.states.to(self.dtype), trunk.layers
        else:
            x_TD = F.embedding(ids_T, self.embed)

        def attention(qk: Tensor, v: Tensor) -> Tensor:
            return attend(qk, v, layout)

        recompute = self.recompute and torch.is_grad_enabled()
        for number, layer in enumerate(blocks[below:], below):
            if trunk is not None and number == trunk.layers:
                trunk.states = x_TD.detach()
            if recompute and suits(layout, x_TD.device):
                x_TD = layer(x_TD, cos_sin, attention, layout)
            elif recompute:
                x_TD = checkpoint(layer, x_TD, cos_sin, attention, use_reentrant=False)
            else:
                x_TD = layer(x_TD, cos_sin, attention)
        normed: Tensor = self.norm(x_TD)
        return normed

    @torch.no_grad()
    def prefill(self, ids_T: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """(states [T, D], keys and values of the row [N, 2, T, K, d]) for `Cache.write`, without gradients."""
        return self._fill(ids_T, layout, layout.positions, None, [])

    @torch.no_grad()
    def extend(self, ids_T: Tensor, layout: Layout, cache: Before, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`prefill` behind cached text: path i of the layout continues slot `slots[i]`.

        Positions of the layout count from 0; the slot's length is added here. Several paths may continue one
        slot (questions behind one few-shot prefix). It writes nothing: call `Cache.write` to keep the returned row.
        """
        if len(slots) != len(layout.paths):
            raise ValueError(f"{len(layout.paths)} paths need one slot each, got {len(slots)}")
        lengths = cache.lengths
        rows: dict[int, list[int]] = {}
        for slot, segments in zip(slots, layout.outputs, strict=True):
            rows.setdefault(slot, []).extend(row for start, end in segments for row in range(start, end))
        positions = layout.positions.clone()
        prefixes = []
        for slot, indices in rows.items():
            if lengths[slot] and indices:
                index = torch.tensor(indices, device=positions.device)
                positions[index] += lengths[slot]
                prefixes.append((slot, index))
        self._check_context(int(positions.max()) + 1)
        return self._fill(ids_T, layout, positions, cache, prefixes)

    @torch.no_grad()
    def decode(self, ids_S: Tensor, cache: Cache, slots: Sequence[int] | None = None) -> Tensor:
        """States [S, D] of one new token for each slot (all by default), which joins the cache.

        Keep the slots in use first (`Cache.copy` moves one): slots 0..S-1 are read in place, others gathered.
        Decodes with the weights that filled the cache.
        """
        step = Step(cache, slots)
        self._check_context(step.longest)
        cos_sin = self._tables(step.positions)
        x_SD = F.embedding(ids_S, self.embed)
        parts = self.shape.num_heads, self.shape.num_kv_heads
        for number, layer in enumerate(self.blocks()):

            def attention(qk: Tensor, v: Tensor, number: int = number) -> Tensor:
                q, k = qk.split_with_sizes(parts, 1)
                return attend_one(q, *step.store(number, k, v), step.mask)

            x_SD = layer.infer(x_SD, cos_sin, attention)
        step.finish()
        normed: Tensor = self.norm(x_SD)
        return normed

    def fuse(self) -> None:
        """Pack the weights for inference if they, or the active adapters, have changed since the last packing.

        `prefill` and `extend` call it, so sampling never uses weights older than its prompt. It takes at most a
        millisecond for a million parameters, and as much memory again as the weights, which `unfuse` frees. It packs
        nothing off the CPU or in other types than float32. If this CPU has no int8 product, int8 packs float32.
        """
        if self.device.type != "cpu" or self.dtype is not torch.float32:
            self.unfuse()
        elif self._packed is None or not self._packed.fresh(self.head_weight()):
            self.unfuse()
            int8 = self.precision == "int8"
            precision = "float32" if int8 and not multiplies_int8() else self.precision
            sites = self._sites() if precision == "int8" else ()
            self._packed = PackedWeights(self.projections(), self.head_weight(), precision, sites)

    def unfuse(self) -> None:
        """Drop the packed weights."""
        if self._packed is not None:
            self._packed.drop()
            self._packed = None

    def projections(self) -> list[Projection]:
        """Every projection, layer by layer."""
        return [p for block in self.blocks() for p in (block.qkv, block.out, block.gate_up, block.down)]

    def blocks(self) -> list[Block]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    @torch.no_grad()
    def _sites(self) -> list[Site]:
        """The inputs of every product, measured on tokens spread evenly over the vocabulary."""
        sites: dict[nn.Module, Site] = {}
        norms: dict[nn.Module, RmsNorm] = {b.qkv: b.attention_norm for b in self.blocks()}
        norms |= {b.gate_up: b.mlp_norm for b in self.blocks()}

        def look(projection: nn.Module, inputs: tuple[Tensor]) -> None:
            assert isinstance(projection, Projection)
            sizes_TK = inputs[0].abs()
            reach_T = sizes_TK.amax(1)
            largest = float(reach_T.max() / reach_T.median().clamp_min(torch.finfo(self.dtype).tiny))
            sites[projection] = Site(projection, norms.get(projection), sizes_TK.amax(0), largest)

        hooks = [projection.register_forward_pre_hook(look) for projection in self.projections()]
        tokens = min(REACH_TOKENS, self.shape.vocab_size, self.shape.context)
        try:
            self.hidden(torch.linspace(0, self.shape.vocab_size - 1, tokens).long(), documents([tokens]))
        finally:
            for hook in hooks:
                hook.remove()
        return list(sites.values())

    def _tables(self, positions: Tensor) -> Tables:
        return tables(positions, self.get_buffer("inv_freq"), self.rope_factor, self.dtype)

    def _check_context(self, longest: int) -> None:
        if longest > self.shape.context:
            raise CharterError(
                f"text of {longest} tokens is longer than this model's context of {self.shape.context}; "
                "shorten it or choose a model with a longer context"
            )

    def _fill(
        self, ids_T: Tensor, layout: Layout, positions: Tensor, cache: Before | None, prefixes: list[tuple[int, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        self._check_context(layout.longest)
        self.fuse()
        shape, heads = self.shape, self.shape.num_heads
        row = torch.empty(
            (shape.num_layers, 2, len(layout), shape.num_kv_heads, shape.head_dim),
            device=ids_T.device,
            dtype=self.dtype,
        )
        cos_sin = self._tables(positions)
        x_TD = F.embedding(ids_T, self.embed)
        for number, layer in enumerate(self.blocks()):

            def attention(qk: Tensor, v: Tensor, number: int = number) -> Tensor:
                row[number, 0], row[number, 1] = qk[:, heads:], v
                if cache is None or not prefixes:
                    return attend(qk, v, layout)
                cached = [(rows, *cache.prefix(number, slot)) for slot, rows in prefixes]
                return attend_behind(qk, v, layout, cached)

            x_TD = layer.infer(x_TD, cos_sin, attention)
        normed: Tensor = self.norm(x_TD)
        return normed, row
