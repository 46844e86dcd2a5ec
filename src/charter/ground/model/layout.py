"""Which tokens of a flat ragged row see which others: the only description of a batch in Charter, without padding.

A batch is one row of T tokens. A path is a tuple of (start, end) segments of that row, read one after the
other and attended causally. Documents are paths of one segment; n replies behind one prompt are n paths that
share the prompt segment, which is then computed once. The outputs of a segment are taken from the first path
that has it.

The index plan is made once per layout and used by every layer. Letters: T tokens of the row, B paths of a
group, L their longest length, Q the most queries that one of them needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

Segment = tuple[int, int]
Path = tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Paths of similar length, attended in one call.

    `rows` [B, L]: rows of the keys. The tail of a shorter path repeats row 0: under a causal mask no real
    query sees it and its output is never used. `queries` [B, Q] and `visible` [B, 1, Q, L] are set only if the paths
    need few of their outputs: then the other outputs would cost more than a mask.
    """

    rows: Tensor
    queries: Tensor | None = None
    visible: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """`groups` in order of call; `order` [T]: where each token's output lies in their concatenation."""

    groups: tuple[Group, ...]
    order: Tensor


class Spread(Protocol):
    """Attention of a row whose documents continue in other processes, and its gradients (`learn.context_parallel`)."""

    def forward(self, qk_THd: Tensor, v_TKd: Tensor) -> tuple[Tensor, Tensor]:
        """(output [T, H * d], log-sum-exp [T, H]) of rotated queries and keys [T, H + K, d] and values [T, K, d]."""
        ...

    def backward(
        self, grad: Tensor, qk_THd: Tensor, v_TKd: Tensor, mixed: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of queries and keys, and of values."""
        ...


@dataclass(frozen=True, eq=False)
class Layout:
    """`positions` [T] int64 and the `paths` of a flat row. `rows` of the plan live on the device of
    `positions`. `spread` attends instead of the paths if they are parts of documents of several processes."""

    positions: Tensor
    paths: tuple[Path, ...]
    spread: Spread | None = None

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @cached_property
    def longest(self) -> int:
        """Tokens in the longest path."""
        return max((sum(end - start for start, end in path) for path in self.paths), default=0)

    @cached_property
    def outputs(self) -> tuple[tuple[Segment, ...], ...]:
        """For each path the segments whose outputs it produces, and no earlier path does."""
        earlier: set[Segment] = set()
        result = []
        for path in self.paths:
            fresh = tuple(segment for segment in path if segment not in earlier and segment[0] < segment[1])
            earlier.update(fresh)
            result.append(fresh)
        return tuple(result)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All segments with tokens, in the order of the row, which they must cover exactly once
        (ValueError)."""
        segments = sorted(segment for fresh in self.outputs for segment in fresh if segment[0] < segment[1])
        ends = [0, *(end for _, end in segments)]
        if [start for start, _ in segments] != ends[:-1] or ends[-1] != len(self):
            raise ValueError("every token of the row must be produced by exactly one segment of the layout")
        return tuple(segments)

    @cached_property
    def dense(self) -> tuple[int, int] | None:
        """(B, L) if the row is B documents of L tokens, which a view of the row shows; else None."""
        lengths = {end - start for start, end in self.segments}
        alone = self.paths == tuple((segment,) for segment in self.segments)
        return (len(self.paths), lengths.pop()) if alone and len(lengths) == 1 else None

    @cached_property
    def few(self) -> tuple[bool, ...]:
        """Whether a path needs under a fifth of its outputs: then a mask is cheaper than all its queries."""
        sizes = [sum(end - start for start, end in path) for path in self.paths]
        outputs = [sum(end - start for start, end in fresh) for fresh in self.outputs]
        return tuple(5 * count < size for count, size in zip(outputs, sizes, strict=True))

    @cached_property
    def plan(self) -> Plan:
        """The plan of gathered groups, for devices on which gathering pays."""
        return _plan(self)

    def to(self, device: torch.device | str) -> "Layout":
        """The same layout on another device."""
        return Layout(self.positions.to(device), self.paths, self.spread)


def documents(lengths: Sequence[int]) -> Layout:
    """Independent documents, one after the other, each from position 0."""
    paths, at = [], 0
    for length in lengths:
        paths.append(((at, at + length),))
        at += length
    positions = [torch.arange(length) for length in lengths]
    return Layout(torch.cat(positions) if positions else torch.zeros(0, dtype=torch.int64), tuple(paths))


def tree(prompt_len: int, branch_lens: Sequence[int]) -> Layout:
    """A prompt once, then branches that each see the prompt and themselves; their positions continue the prompt's."""
    prompt: Segment = (0, prompt_len)
    paths, at = [], prompt_len
    positions = [torch.arange(prompt_len)]
    for length in branch_lens:
        paths.append((prompt, (at, at + length)))
        positions.append(torch.arange(prompt_len, prompt_len + length))
        at += length
    return Layout(torch.cat(positions), tuple(paths) or ((prompt,),))


def join(layouts: Sequence[Layout]) -> Layout:
    """Layouts side by side in one row; no token sees another layout's."""
    paths: list[Path] = []
    at = 0
    for layout in layouts:
        paths += [tuple((start + at, end + at) for start, end in path) for path in layout.paths]
        at += len(layout)
    return Layout(torch.cat([layout.positions for layout in layouts]), tuple(paths))


def _rows(segments: Sequence[Segment]) -> list[int]:
    return [row for start, end in segments for row in range(start, end)]


def _similar(length: int, longest: int) -> bool:
    """Whether two lengths share a group: attention over a short padded tail is cheaper than another call."""
    return longest - length <= max(16, longest // 8)


def _pad(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *([0] * (width - len(row)))] for row in rows], device=device)


def _plan(layout: Layout) -> Plan:
    total, device = len(layout), layout.positions.device
    paths = [_rows(path) for path in layout.paths]
    outputs = [_rows(segments) for segments in layout.outputs]
    few = layout.few
    active = [i for i, rows in enumerate(outputs) if rows]
    active.sort(key=lambda i: (few[i], -len(paths[i]), -len(outputs[i]), i))
    groups: list[Group] = []
    order = [0] * total
    at, members = 0, list[int]()
    for n, i in enumerate(active):
        members.append(i)
        after = active[n + 1] if n + 1 < len(active) else None
        first = members[0]
        if (
            after is not None
            and few[after] == few[first]
            and _similar(len(paths[after]), len(paths[first]))
            and (not few[first] or _similar(len(outputs[after]), len(outputs[first])))
        ):
            continue
        group, width = _group([paths[m] for m in members], [outputs[m] for m in members], few[first], device)
        groups.append(group)
        for b, m in enumerate(members):
            local = {row: j for j, row in enumerate(outputs[m] if few[first] else paths[m])}
            for row in outputs[m]:
                order[row] = at + b * width + local[row]
        at += len(members) * width
        members = []
    return Plan(tuple(groups), torch.tensor(order, device=device))


def _group(
    paths: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], few: bool, device: torch.device
) -> tuple[Group, int]:
    """(the group, the number of output rows of each path)."""
    rows = _pad(paths, device)
    if not few:
        return Group(rows), rows.shape[1]
    queries = _pad(outputs, device)
    indices = [{row: j for j, row in enumerate(path)} for path in paths]
    places = [[index[row] for row in output] for index, output in zip(indices, outputs, strict=True)]
    at = _pad(places, device)
    visible = torch.arange(rows.shape[1], device=device) <= at[:, :, None]
    return Group(rows, queries, visible[:, None]), queries.shape[1]
