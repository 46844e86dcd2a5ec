"""Learning in several processes: who is who, sharded weights, shared microbatches, sums, and bytes between them.

A room's code is the same for one process and for N. Every process runs it with the same settings, seeds and inputs;
weights, gradients and moments are sharded over all of them by rows (FSDP2: Zhao et al. 2023, 2304.11277, on DTensors),
and each learns from its share of a step's microbatches. Losses are sums over the weight of the whole step, so gradients
are summed, never averaged, and N processes take the steps of one, up to the order in which floats are added. In one
process nothing here does anything. Nothing is pickled: what isn't a tensor travels as bytes of JSON.
"""

from __future__ import annotations

import copy
import json
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import Store
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from charter.ground.artifact.workspace import Workspace
from charter.ground.model.transformer import Transformer
from charter.ground.text.packing import dealt, microbatches

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)

PATIENCE = timedelta(days=7)  # that a process waits for the others: some steps are worked on by one alone
_plain: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size` of them; `local_rank` counts on its own machine, and names its GPU."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0


def world() -> World:
    """Who this process is; alone where no process group was started."""
    if not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def start(store: Store, rank: int, size: int) -> None:
    """Joins the other processes: gloo between CPUs, and nccl between GPUs, of which each process has its own."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)


def stop() -> None:
    """Leaves the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def distribute(*modules: nn.Module, precision: str = "float32") -> None:
    """Shards the weights of modules over all processes: each block of a decoder, and what lies around them, is a unit
    that is gathered for its forward and backward pass. Call it once adapters are in place, before the optimizer is
    made.

    On GPUs in bfloat16 the gathered copies are bfloat16 and the shards stay float32; CPUs leave that to autocast.
    """
    size = world().size
    if size == 1:
        return
    device = next(modules[0].parameters()).device.type
    mesh = init_device_mesh(device, (size,))
    for module in modules:
        _plain[module] = _skeleton(module)
        narrow = device == "cuda" and precision == "bfloat16" and isinstance(module, Transformer)
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if narrow else MixedPrecisionPolicy()
        units = [*module.blocks(), module] if isinstance(module, Transformer) else [module]
        for unit in units:
            fully_shard(unit, mesh=mesh, mp_policy=policy)
            assert isinstance(unit, FSDPModule)
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
        if isinstance(module, Transformer):
            register_fsdp_forward_method(module, "hidden")


@contextmanager
def full(module: M) -> Iterator[M]:
    """The module with whole weights that each process may use as it likes, to save, sample or measure with.

    In one process it is the module itself; else a copy, and what is changed in it is lost at the end. Adapters are in
    it. All processes must come here together.
    """
    if module not in _plain:
        yield module
        return
    settle(module)
    skeleton = _plain[module]
    with torch.no_grad():
        weights = {
            id(empty): nn.Parameter(whole(mine), requires_grad=mine.requires_grad)
            for empty, mine in zip(skeleton.parameters(), module.parameters(), strict=True)
        }
    made: M = copy.deepcopy(skeleton, dict(weights))  # type: ignore[assignment]
    if isinstance(made, Transformer) and isinstance(module, Transformer):
        made.take_positions(module.shape)  # a window may have grown since the weights were sharded
    yield made


def settle(*modules: nn.Module) -> None:
    """Drops gathered weights that a pass without a backward pass has left, so that parameters are the shards again."""
    for module in modules:
        for unit in module.modules():
            if isinstance(unit, FSDPModule):
                unit.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, with all its rows, outside autograd; all processes must come here together."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rows_here(tensor: Tensor) -> tuple[Tensor, int]:
    """The rows of a tensor that lie in this process, and the number of the first: all of them where it isn't
    sharded. A single number is one row."""
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return torch.atleast_1d(tensor), 0  # type: ignore[no-untyped-call]
    each = -(-tensor.shape[0] // world().size)
    return tensor.to_local(), min(each * world().rank, tensor.shape[0])


def share(groups: Sequence[T], among: World | None = None) -> list[T | None]:
    """This process's groups of those of a step, equally many in all processes, so that they gather weights equally
    often: where it gets None it learns from an empty one. For groups of about equal size; others: `portion`. `among`:
    its team among the teams, where several processes read one group."""
    here = among or world()
    own: list[T | None] = list(groups[here.rank :: here.size])
    return own + [None] * (-(-len(groups) // here.size) - len(own))


def portion(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """This process's microbatches of a step's items, as indices of the items, equally many in all processes; for an
    empty one a row that weighs nothing passes through the model.

    Items go, longest first, to whoever has the fewest tokens, so that tokens are balanced; in one process the
    microbatches are those of `text.packing`. In order, each of at most `most_tokens` tokens.
    """
    here = world()
    cuts: list[list[list[int]]] = []
    for members in map(sorted, dealt(lengths, here.size)):
        groups = microbatches([lengths[i] for i in members], most_tokens)
        cuts.append([[members[i] for i in group] for group in groups])
    own = cuts[here.rank]
    return own + [[] for _ in range(max(map(len, cuts)) - len(own))]


def total(value: float) -> float:
    """Sum of a number over all processes."""
    return sum(each(value))


def totals(values: Sequence[float]) -> list[float]:
    """Sums over all processes of several numbers, in one exchange."""
    if world().size == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return [float(value) for value in sums]


def each(value: float) -> list[float]:
    """The number of each process, in their order."""
    size = world().size
    if size == 1:
        return [value]
    found = torch.zeros(size, dtype=torch.float64)
    found[world().rank] = value
    dist.all_reduce(found)
    return [float(number) for number in found]


class Work:
    """Tokens that each process has learnt from since this one started."""

    def __init__(self) -> None:
        self._tokens = [0] * world().size

    def add(self, tokens: int) -> dict[str, list[int]]:
        """Counts what this process learnt from in a step. Returns what the log says of it beside the sum of all: the
        tokens of each; nothing where it is alone."""
        found = [int(number) for number in each(tokens)]
        self._tokens = [before + more for before, more in zip(self._tokens, found, strict=True)]
        return {"tokens_of_each": found} if len(found) > 1 else {}

    def say(self, out: Workspace) -> None:
        """Tells the reader who learnt from how much, where this process isn't alone."""
        if len(self._tokens) > 1:
            numbers = " and ".join(f"{number:,}" for number in self._tokens)
            out.note(f"{out.step}: {len(self._tokens)} processes learnt from {numbers} tokens")


def divide(items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R]:
    """What `work` makes of the items, one result each, of which every process makes its part. It must depend on an item
    alone; results of several processes travel as JSON."""
    here = world()
    if here.size == 1:
        return work(items)
    own = items[here.rank :: here.size]
    parts = [json.loads(part) for part in gather(json.dumps(work(own) if own else []).encode())]
    return [parts[i % here.size][i // here.size] for i in range(len(items))]


def gather(data: bytes) -> list[bytes]:
    """The bytes of each process, in their order."""
    if world().size == 1:
        return [data]
    lengths = [int(length) for length in each(len(data))]
    sent = torch.zeros(max(1, *lengths), dtype=torch.uint8)
    sent[: len(data)] = _tensor_of(data)
    found = [torch.empty_like(sent) for _ in lengths]
    dist.all_gather(found, sent)
    return [part[:length].numpy().tobytes() for part, length in zip(found, lengths, strict=True)]


def broadcast(data: bytes) -> bytes:
    """The leader's bytes, in every process; what the others give doesn't matter."""
    here = world()
    if here.size == 1:
        return data
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0)
    sent = _tensor_of(data) if here.leads else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(sent, 0)
    return sent.numpy().tobytes()


def agree(decision: bool) -> bool:
    """The leader's decision, in every process."""
    return broadcast(b"\x01" if decision else b"\x00") == b"\x01"


def barrier() -> None:
    """Waits until every process is here."""
    total(0.0)


def _tensor_of(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _skeleton(module: nn.Module) -> nn.Module:
    """A copy of a module without the memory of its weights."""
    empty = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=weight.requires_grad)
        for weight in module.parameters()
    }
    return copy.deepcopy(module, dict(empty))
