"""Learning in several processes: ranks, sharded weights, shared microbatches, sums, and exchange of bytes.

A room's code is the same for one process and for N. Every process runs it with the same settings, seeds and inputs.
Weights, gradients and moments are sharded over all processes by rows (FSDP2: Zhao et al. 2023, 2304.11277, on
DTensors), and each learns from its share of a step's microbatches. Losses are divided by the weight of the whole step,
so gradients are summed, never averaged, and N processes take the steps of one, up to the order in which floats are
added. With one process nothing here has an effect. Nothing is pickled: all but tensors is sent as bytes of JSON.
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
from charter.ground.text.packing import deal, microbatches

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)

PATIENCE = timedelta(days=7)  # time that a process waits for the others: one works alone on some steps
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
    """This process's place; alone if no process group was started."""
    if not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def start(store: Store, rank: int, size: int) -> None:
    """Joins the other processes: gloo between CPUs, nccl between GPUs (one for each process)."""
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
    """Shards the weights of modules over all processes. Each block of a decoder, and the rest of it, is a unit that is
    gathered for its forward and backward pass. Call it after adapters are added and before the optimizer is made.

    On GPUs in bfloat16 the gathered copies are bfloat16 and the shards stay float32; on CPUs autocast does this.
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
    """The module with whole weights, adapters included, which each process may save, sample from or measure.

    With one process it is the module itself, else a copy whose changes are lost at the end. All processes must call it
    together.
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
    replica: M = copy.deepcopy(skeleton, dict(weights))  # type: ignore[assignment]
    if isinstance(replica, Transformer) and isinstance(module, Transformer):
        replica.take_positions(module.shape)  # a window may have grown since the weights were sharded
    yield replica


def settle(*modules: nn.Module) -> None:
    """Drops weights gathered by a forward pass without backward: then the parameters are shards again."""
    for module in modules:
        for unit in module.modules():
            if isinstance(unit, FSDPModule):
                unit.reshard()


def whole(tensor: Tensor) -> Tensor:
    """All rows of a tensor that may be sharded, outside autograd; all processes must call it together."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rows_here(tensor: Tensor) -> tuple[Tensor, int]:
    """The rows of a tensor in this process, and the number of the first; all rows if it isn't sharded. A single number
    is one row."""
    tensor = tensor.detach()
    if not isinstance(tensor, DTensor):
        return torch.atleast_1d(tensor), 0  # type: ignore[no-untyped-call]
    each = -(-tensor.shape[0] // world().size)
    return tensor.to_local(), min(each * world().rank, tensor.shape[0])


def share(groups: Sequence[T], among: World | None = None) -> list[T | None]:
    """This process's groups of a step. All processes get equally many, so that they gather weights equally often; None
    stands for an empty group. For groups of about equal size; for others see `portion`. `among`: its team among the
    teams, if several processes read one group."""
    processes = among or world()
    mine: list[T | None] = list(groups[processes.rank :: processes.size])
    return mine + [None] * (-(-len(groups) // processes.size) - len(mine))


def portion(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """This process's microbatches of a step's items, as indices of the items; all processes get equally many. For an
    empty one a row of weight 0 passes through the model.

    Items go, longest first, to the process with the fewest tokens. With one process the microbatches are those of
    `text.packing`. They are in order, each of at most `most_tokens` tokens.
    """
    processes = world()
    cuts: list[list[list[int]]] = []
    for members in map(sorted, deal(lengths, processes.size)):
        groups = microbatches([lengths[i] for i in members], most_tokens)
        cuts.append([[members[i] for i in group] for group in groups])
    mine = cuts[processes.rank]
    return mine + [[] for _ in range(max(map(len, cuts)) - len(mine))]


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
    """The value of each process, in their order."""
    size = world().size
    if size == 1:
        return [value]
    values = torch.zeros(size, dtype=torch.float64)
    values[world().rank] = value
    dist.all_reduce(values)
    return [float(number) for number in values]


class Work:
    """Counts the tokens that each process has learnt from since this one started."""

    def __init__(self) -> None:
        self._tokens = [0] * world().size

    def add(self, tokens: int) -> dict[str, list[int]]:
        """Counts the tokens of this process in a step. Returns what the log says beside the sum: the tokens of each
        process; {} if it is alone."""
        counts = [int(number) for number in each(tokens)]
        self._tokens = [before + more for before, more in zip(self._tokens, counts, strict=True)]
        return {"tokens_of_each": counts} if len(counts) > 1 else {}

    def say(self, out: Workspace) -> None:
        """Notes the tokens of each process, if there are several."""
        if len(self._tokens) > 1:
            numbers = " and ".join(f"{number:,}" for number in self._tokens)
            out.note(f"{out.step}: {len(self._tokens)} processes learnt from {numbers} tokens")


def divide(items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R]:
    """The results of `work`, one for each item; every process computes its part. A result must depend only on its item;
    with several processes results are sent as JSON."""
    processes = world()
    if processes.size == 1:
        return work(items)
    mine = items[processes.rank :: processes.size]
    parts = [json.loads(part) for part in gather(json.dumps(work(mine) if mine else []).encode())]
    return [parts[i % processes.size][i // processes.size] for i in range(len(items))]


def gather(data: bytes) -> list[bytes]:
    """The bytes of each process, in their order."""
    if world().size == 1:
        return [data]
    lengths = [int(length) for length in each(len(data))]
    buffer = torch.zeros(max(1, *lengths), dtype=torch.uint8)
    buffer[: len(data)] = _tensor_of(data)
    parts = [torch.empty_like(buffer) for _ in lengths]
    dist.all_gather(parts, buffer)
    return [part[:length].numpy().tobytes() for part, length in zip(parts, lengths, strict=True)]


def broadcast(data: bytes) -> bytes:
    """The leader's bytes, in every process; the bytes of the others are ignored."""
    processes = world()
    if processes.size == 1:
        return data
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0)
    buffer = _tensor_of(data) if processes.leads else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(buffer, 0)
    return buffer.numpy().tobytes()


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
