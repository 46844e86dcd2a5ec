"""Memory and time of one long document spread over 1, 2 and 4 processes of this machine (`learn.context_parallel`).

    python benchmarks/context_parallel.py [--tokens 32768] [--threads 1]

Every process learns its part of one document with recomputed blocks, as pretrain does for long windows. Printed are
the peak resident memory of the fullest process over what it had before, seconds of a forward and backward pass (all
processes share this machine: what counts is the memory), and the loss, which must not depend on the processes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time

import torch
import torch.distributed as dist

from charter.ground.learn.loss import cross_entropy_sum
from charter.ground.learn.parallel import start, stop, total
from charter.ground.model.checkpoint import new_model
from charter.ground.model.layout import documents
from charter.ground.model.shape import Shape
from charter.rooms.pretrain.context_parallel import team

SIZES = (1, 2, 4)


def mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(options: argparse.Namespace) -> dict[str, float]:
    """One process: peak memory, seconds, and the loss of the whole document."""
    torch.set_num_threads(options.threads)
    start(dist.FileStore(options.store, options.size), options.rank, options.size)
    own = team(options.size)
    model = new_model(Shape(4096, 256, 704, 6, 8, 2, 32, options.tokens, qk_norm=True), 0)
    model.recompute = options.recompute
    ids = torch.randint(0, 4096, (options.tokens + 1,), generator=torch.Generator().manual_seed(1))
    for length in (64, options.tokens):  # the first makes what is made once
        before, began = mebibytes(), time.perf_counter()
        row = own.row(ids[:length], ids[1 : length + 1], documents([length]))
        hidden = model.hidden(row.inputs, row.layout)
        loss = cross_entropy_sum(hidden, model.head_weight(), row.targets, row.real / length)
        loss.backward()
        found = {
            "mib": mebibytes() - before,
            "seconds": time.perf_counter() - began,
            "loss": total(float(loss.detach())),
        }
    stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-recompute", dest="recompute", action="store_false")
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size:
        print(json.dumps(work(options)))
        return
    print(f"{options.tokens:,} tokens, blocks {'recomputed' if options.recompute else 'kept'}")
    print("processes   peak MiB of the fullest   seconds   loss")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, *sys.argv[1:], "--size", str(size), "--store", f"{folder}/store"]
            started = [
                subprocess.Popen([*command, "--rank", str(rank)], stdout=subprocess.PIPE, text=True)
                for rank in range(size)
            ]
            found = [json.loads(process.communicate()[0]) for process in started]
        most, slowest = max(f["mib"] for f in found), max(f["seconds"] for f in found)
        print(f"{size:9}   {most:23,.0f}   {slowest:7.1f}   {found[0]['loss']:.6f}")


if __name__ == "__main__":
    main()
