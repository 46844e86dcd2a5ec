"""Attention over a flat row, behind cached text, and of one new token a slot. Never a dense T x T mask.

Letters: T tokens of the row, H query heads, K key heads, G = H / K query heads that share a key head, d head
size, B paths of a group, Q queries and L keys of each, S slots, P cached tokens of a slot.

    o = sum_j softmax_j(q k_j / sqrt(d)) v_j
Two parts of one softmax merge by their log-sum-exps: o = o_1 s + o_2 (1 - s), s = sigmoid(lse_1 - lse_2).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from charter.ground.model.layout import Layout, Plan, Spread

# (q [B, H, Q, d], k and v [B, K, L, d], which keys a query sees or None: causal) -> tensors [B, H, Q, ...]
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, ...]]

MOST_SCORES = 2**27  # computed at once if no fused kernel gives the log-sum-exp
SHORT = 512  # keys; with more the softmax that `_Short` keeps would be large


def _rows(result: Tensor) -> Tensor:
    """[B, H, Q, ...] -> [B * Q, H, ...]."""
    return result.transpose(1, 2).flatten(0, 1)


def _each(qk_THd: Tensor, v_TKd: Tensor, layout: Layout, kernel: Kernel) -> list[Tensor]:
    """Call the kernel on every path; returns its results as [T, H, ...] in the order of the row.

    Queries and keys arrive as one tensor (queries first): they are rotated together and cut together.
    """
    if layout.dense is not None:
        d, both, keys = qk_THd.shape[2], qk_THd.shape[1], v_TKd.shape[1]
        qk = qk_THd.view(*layout.dense, both, d).transpose(1, 2)
        v = v_TKd.view(*layout.dense, keys, d).transpose(1, 2)
        q, k = qk.split_with_sizes((both - keys, keys), 1)  # slices would go back by filling zeros
        return [_rows(result) for result in kernel(q, k, v, None)]
    if qk_THd.device.type == "cpu":
        return _attend_paths(qk_THd, v_TKd, layout, kernel)
    return _attend_groups(qk_THd, v_TKd, layout.plan, kernel)


def _attend_paths(qk_THd: Tensor, v_TKd: Tensor, layout: Layout, kernel: Kernel) -> list[Tensor]:
    """One call for each path, on slices of the row: on a CPU calls are cheap; gathering and padding are not."""
    segments = layout.segments
    key_heads = v_TKd.shape[1]
    sizes = [end - start for start, end in segments]
    q_THd, k_TKd = qk_THd.split_with_sizes((qk_THd.shape[1] - key_heads, key_heads), 1)
    qs, ks, vs = (dict(zip(segments, rows.split_with_sizes(sizes), strict=True)) for rows in (q_THd, k_TKd, v_TKd))
    pieces: dict[tuple[int, int], list[Tensor]] = {}
    for path, fresh, few in zip(layout.paths, layout.outputs, layout.few, strict=True):
        if not fresh:
            continue
        queries = fresh if few else tuple(segment for segment in path if segment in qs)
        q = _join([qs[segment] for segment in queries])
        k, v = (_join([rows[segment] for segment in path if segment in rows]) for rows in (ks, vs))
        visible = _visible(path, fresh, q_THd.device) if few else None
        q, k, v = (rows.transpose(0, 1)[None] for rows in (q, k, v))
        results = kernel(q, k, v, visible)
        splits = [_rows(result).split_with_sizes([end - start for start, end in queries]) for result in results]
        for number, segment in enumerate(queries):
            if segment in fresh:
                pieces[segment] = [parts[number] for parts in splits]
    return [torch.cat(parts) for parts in zip(*(pieces[segment] for segment in segments), strict=True)]


def _join(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _visible(path: Sequence[tuple[int, int]], fresh: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """[1, 1, Q, L]: the keys up to each token of `fresh` in the path."""
    place, at = {}, 0
    for start, end in path:
        place[start, end] = at
        at += end - start
    own = torch.cat([torch.arange(s, e, device=device) - s + place[s, e] for s, e in fresh])
    return (torch.arange(at, device=device) <= own[:, None])[None, None]


def _attend_groups(qk_THd: Tensor, v_TKd: Tensor, plan: Plan, kernel: Kernel) -> list[Tensor]:
    """One call for each group of similar paths, gathered and padded at their ends: on a GPU the launches cost most."""
    _, both, d = qk_THd.shape
    heads = both - v_TKd.shape[1]
    parts: list[list[Tensor]] = []
    for group in plan.groups:
        shape, rows = (group.rows.shape[0], group.rows.shape[1]), group.rows.view(-1)
        qk = qk_THd.index_select(0, rows).view(*shape, both, d).transpose(1, 2)
        v = v_TKd.index_select(0, rows).view(*shape, both - heads, d).transpose(1, 2)
        q = qk[:, :heads]
        if group.queries is not None:
            q = qk_THd[:, :heads].index_select(0, group.queries.view(-1))
            q = q.view(*group.queries.shape, heads, d).transpose(1, 2)
        parts.append([_rows(result) for result in kernel(q, qk[:, heads:], v, group.visible)])
    return [_join(results).index_select(0, plan.order) for results in zip(*parts, strict=True)]


class _Short(torch.autograd.Function):
    """Attention of few tokens in half precision, by plain products that keep the softmax for backward.

    On a CPU torch's fused kernel is as fast forward, but three to four times as slow backward at 100 tokens: it
    computes scores and softmax once more, in tiles that a short text does not fill. The scores are float32.
    """

    @staticmethod
    def forward(ctx: Any, q_BHQd: Tensor, k_BKLd: Tensor, v_BKLd: Tensor, visible: Tensor | None) -> Tensor:
        (b, heads, queries, d), (_, key_heads, length, _) = q_BHQd.shape, k_BKLd.shape
        # heads that share a key head are further queries of it
        q = q_BHQd.reshape(b * key_heads, -1, d)
        k, v = (x.reshape(b * key_heads, length, d) for x in (k_BKLd, v_BKLd))
        if visible is None:
            visible = torch.ones((queries, length), dtype=torch.bool, device=q.device).tril()
        with torch.autocast("cpu", enabled=False):
            scores = torch.bmm(q.float().mul_(d**-0.5), k.float().transpose(1, 2))
            scores.view(b, heads, queries, length).masked_fill_(~visible, float("-inf"))
            shares = scores.softmax(-1).to(q.dtype)
            ctx.save_for_backward(q, k, v, shares)
            return torch.bmm(shares, v).view(b, heads, queries, d)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares = ctx.saved_tensors
        (b, heads, queries, d), (rows, length, _) = grads[0].shape, k.shape
        grad = grads[0].reshape(rows, -1, d)
        towards = torch.bmm(grad, v.transpose(1, 2))
        scores = torch.ops.aten._softmax_backward_data(towards, shares, -1, shares.dtype).mul_(d**-0.5)
        keys = (b, rows // b, length, d)
        return (
            torch.bmm(scores, k).view(b, heads, queries, d),
            torch.bmm(scores.transpose(1, 2), q).view(keys),
            torch.bmm(shares.transpose(1, 2), grad).view(keys),
            None,
        )


class _Spread(torch.autograd.Function):
    """Attention over documents that continue in other processes."""

    @staticmethod
    def forward(ctx: Any, qk_THd: Tensor, v_TKd: Tensor, spread: Spread) -> Tensor:
        mixed, lse = spread.forward(qk_THd, v_TKd)
        ctx.spread = spread
        ctx.save_for_backward(qk_THd, v_TKd, mixed, lse)
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.spread.backward(grads[0], *ctx.saved_tensors), None)


def attend(qk_THd: Tensor, v_TKd: Tensor, layout: Layout) -> Tensor:
    """Causal attention along every path of the layout -> [T, H * d], differentiable.

    qk [T, H + K, d]: rotated queries, then rotated keys. v [T, K, d].
    """
    if layout.spread is not None:
        kind = qk_THd.device.type
        if torch.is_autocast_enabled(kind):
            half = torch.get_autocast_dtype(kind)
            qk_THd, v_TKd = qk_THd.to(half), v_TKd.to(half)
        mixed: Tensor = _Spread.apply(qk_THd, v_TKd, layout.spread)  # type: ignore[no-untyped-call]
        return mixed
    learning = torch.is_grad_enabled() and (qk_THd.requires_grad or v_TKd.requires_grad)
    plain = learning and qk_THd.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if plain:
        half = torch.get_autocast_dtype("cpu")
        qk_THd, v_TKd = qk_THd.to(half), v_TKd.to(half)

    def kernel(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> tuple[Tensor, ...]:
        if plain and k.shape[2] <= SHORT:
            return (_Short.apply(q, k, v, visible),)  # type: ignore[no-untyped-call]
        shared = q.shape[1] != k.shape[1]
        causal = visible is None
        return (F.scaled_dot_product_attention(q, k, v, visible, is_causal=causal, enable_gqa=shared),)

    return _each(qk_THd, v_TKd, layout, kernel)[0].flatten(1)


def _with_lse(
    q_BHQd: Tensor, k_BKLd: Tensor, v_BKLd: Tensor, causal: bool, visible: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(output [B, H, Q, d], log-sum-exp [B, H, Q]) without gradients."""
    mask = None
    if visible is not None:
        mask = torch.zeros(visible.shape, dtype=q_BHQd.dtype, device=q_BHQd.device)
        mask.masked_fill_(~visible, float("-inf"))
    if q_BHQd.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q_BHQd, k_BKLd, v_BKLd, 0.0, causal, attn_mask=mask
        )
        return out, lse
    return _by_products(q_BHQd, k_BKLd, v_BKLd, causal, mask)


def _by_products(
    q_BHQd: Tensor, k_BKLd: Tensor, v_BKLd: Tensor, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`_with_lse` by plain products; some queries at a time if their scores would be large."""
    most = max(1, MOST_SCORES // (q_BHQd.shape[0] * q_BHQd.shape[1] * k_BKLd.shape[2]))
    if not causal and mask is None and q_BHQd.shape[2] > most:
        parts = [_by_products(q, k_BKLd, v_BKLd, False, None) for q in torch.split(q_BHQd, most, 2)]
        return torch.cat([out for out, _ in parts], 2), torch.cat([lse for _, lse in parts], 2)
    share = q_BHQd.shape[1] // k_BKLd.shape[1]
    k, v = k_BKLd.repeat_interleave(share, 1), v_BKLd.repeat_interleave(share, 1)
    scores = (q_BHQd @ k.transpose(2, 3)).float() * q_BHQd.shape[3] ** -0.5
    if causal:
        hidden = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(v.dtype) @ v, lse


def attend_behind(
    qk_THd: Tensor, v_TKd: Tensor, layout: Layout, prefixes: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> Tensor:
    """`attend` for rows that also see cached text before their path -> [T, H * d], without gradients.

    prefixes: (rows [n] of the flat row, cached k [1, K, P, d], cached v [1, K, P, d]) of each slot with P >
    0. The prefix is neither copied nor masked: all its queries attend to it in one call, merged with their
    own part.
    """

    def kernel(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> tuple[Tensor, ...]:
        return _with_lse(q, k, v, visible is None, visible)

    own, own_lse = _each(qk_THd, v_TKd, layout, kernel)
    heads, key_heads = own.shape[1], v_TKd.shape[1]
    result = own.clone()
    for rows, k, v in prefixes:
        q = qk_THd[:, :heads].index_select(0, rows)
        n, d = q.shape[0], q.shape[2]
        # Without a mask the G heads that share a key head are further queries of it: keys are read once.
        q = q.view(n, key_heads, -1, d).permute(1, 2, 0, 3).reshape(1, key_heads, -1, d)
        out, lse = _with_lse(q, k, v, False, None)
        out = out.view(key_heads, -1, n, d).permute(2, 0, 1, 3).reshape(n, heads, d)
        lse = lse.reshape(key_heads, -1, n).permute(2, 0, 1).reshape(n, heads)
        share = torch.sigmoid(own_lse.index_select(0, rows).float() - lse.float())[..., None].to(own.dtype)
        result.index_copy_(0, rows, own.index_select(0, rows) * share + out * (1 - share))
    return result.flatten(1)


def attend_one(q_SHd: Tensor, k_SKLd: Tensor, v_SKLd: Tensor, mask_SL: Tensor | None) -> Tensor:
    """One query a slot over its cached keys -> [S, H * d], without gradients.

    mask [S, L] is added to the scores (0 or -inf), None when every slot has L tokens. The G heads that share
    a key head are the rows of one small product, so keys and values are read once. Plain batched products
    beat the fused kernel here: it is made for many queries.
    """
    slots, heads, d = q_SHd.shape
    key_heads = k_SKLd.shape[1]
    scale = float(d) ** -0.5
    if q_SHd.device.type != "cpu":
        q = q_SHd.view(slots, key_heads, -1, d)
        mask = None if mask_SL is None else mask_SL[:, None, None]
        return F.scaled_dot_product_attention(q, k_SKLd, v_SKLd, attn_mask=mask).reshape(slots, heads * d)
    q = q_SHd.reshape(slots * key_heads, -1, d)
    keys, values = k_SKLd.flatten(0, 1), v_SKLd.flatten(0, 1)
    scores = torch.bmm(q * scale, keys.transpose(1, 2))
    if mask_SL is not None:
        scores.view(slots, heads, -1).add_(mask_SL[:, None])
    return torch.bmm(scores.softmax(-1), values).view(slots, heads * d)
