"""int8 on a CPU: rates of its products, tokens a second beside what memory and products allow, and what it costs in loss.

Three tables, each in one process, for float32, bfloat16 and int8 in turn:

- products: billions of operations a second of every weight's shape at 1, 8, 32 and 512 rows, as the decoder calls them
  (int8 with rounding and scaling), and of three other ways that torch has. Weights are read in turn, so that no cache
  holds them.
- decoding: prompts of 64 tokens, 128 new tokens each, greedy; tokens a second with and without the prompts, and the share
  of what is possible: packed weights and cached keys and values once a step at the speed of reading (one text), and all
  products of a step one after the other (more).
- loss: nats a token more than float32's and the divergence from it, on running text (CHARTER_DATA) and on the replies of
  dialogues in the model's chat form.

`--peer COMMAND` runs a command after every precision, such as a peer's own benchmark, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from material import model_folder, template_of
from roofline import decoding
from side import ENVIRONMENT, machine, parser, print_table
from torch import Tensor

from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.int8 import Int8Weight
from charter.ground.model.layout import documents
from charter.ground.model.linear import pack, packed_product
from charter.ground.model.transformer import Transformer
from charter.ground.settings.execution import PRECISIONS
from charter.ground.settings.places import find_data
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.template import Encoded

ROWS, BATCHES = (1, 8, 32, 512), (1, 8, 32)
PROMPT, NEW, WINDOW = 64, 128, 512
BEYOND_CACHE = 64 * 2**20  # bytes of weights read in turn
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
Product = Callable[[Tensor], Tensor]


def best(call: Callable[[], object], times: int) -> float:
    """Seconds of the shortest of some calls."""
    found = float("inf")
    for _ in range(times + 1):
        started = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - started)
    return found


def ways(weight: Tensor) -> dict[str, Product]:
    """The product of one weight in every way."""
    scale = weight.abs().amax(1) / 127
    rounded = (weight / scale[:, None]).round().to(torch.int8)
    float32, bfloat16, ours = pack(weight), pack(weight, torch.bfloat16), Int8Weight(weight)
    assert float32 is not None and bfloat16 is not None
    plain, half = rounded.t(), scale.bfloat16()
    return {
        "float32": lambda x: packed_product(x, float32),
        "bfloat16": lambda x: packed_product(x, bfloat16),
        "int8": ours.product,
        "int8, sums alone": lambda x: ours.sums(x.to(torch.uint8)),
        "_int_mm": lambda x: torch._int_mm(x.to(torch.int8), plain),
        "_weight_int8pack_mm": lambda x: torch._weight_int8pack_mm(x.bfloat16(), rounded, half),
    }


@torch.inference_mode()
def products(model: Transformer, times: int) -> None:
    """The table of rates."""
    shapes = {tuple(p.weight.shape) for p in model.projections()} | {tuple(model.head_weight().shape)}
    table = [["inputs -> outputs, rows", *ways(torch.randn(16, 16))]]
    for outputs, inputs in sorted(shapes):
        copies = max(1, min(40, BEYOND_CACHE // (outputs * inputs)))
        made = [ways(torch.randn(outputs, inputs)) for _ in range(copies)]
        for rows in ROWS:
            x, cells = torch.rand(rows, inputs) * 100, list[str]()
            for way in table[0][1:]:
                turns = [(each[way], x) for each in made]
                seconds = best(lambda turns=turns: [product(x) for product, x in turns], times) / copies
                cells.append(f"{2e-9 * rows * inputs * outputs / seconds:.0f}")
            table.append([f"{inputs} -> {outputs}, {rows}", *cells])
    print("products, Gop/s")
    print_table(table)


def reading() -> float:
    """Bytes a second of reading memory."""
    block = torch.ones(2**28, dtype=torch.uint8).view(torch.int64)
    return block.numel() * 8 / best(block.max, 5)


def step_bytes(model: Transformer, precision: str) -> float:
    """Bytes that one step of one text in the middle of its reply has to read."""
    weights = BYTES[precision] * sum(p.weight.numel() for p in model.projections())
    head = model.head_weight().numel() * (1 if precision == "int8" else 4)
    shape = model.shape
    kept = 8 * shape.num_layers * shape.num_kv_heads * shape.head_dim * (PROMPT + NEW // 2)
    return float(weights + head + kept)


def decode(model: Transformer, engine: Engine, precision: str, memory: float, new: int, turns: int) -> list[list[str]]:
    """Rows of the table of decoding, one for each batch."""
    draw, table = torch.Generator().manual_seed(0), []
    prompts = torch.randint(100, model.shape.vocab_size, (max(BATCHES), PROMPT), generator=draw).tolist()
    for batch in BATCHES:
        whole, steps = float("inf"), float("inf")
        for _ in range(turns + 1):
            for prompt in prompts[:batch]:
                engine.submit(prompt, Sampling(temperature=0, max_tokens=new))
            started = time.perf_counter()
            engine.step()
            read = time.perf_counter()
            while not engine.idle:
                engine.step()
            ended = time.perf_counter()
            whole, steps = min(whole, ended - started), min(steps, ended - read)
        rate = batch * (new - 1) / steps
        possible = memory / step_bytes(model, precision) if batch == 1 else batch / decoding(model, batch)
        limit = "memory" if batch == 1 else "products"
        cells = [f"{batch * new / whole:.0f}", f"{rate:.0f}", f"{100 * rate / possible:.0f} % of {limit}"]
        table.append([f"{precision}, {batch}", *cells])
    return table


def material(options: argparse.Namespace, windows: int) -> dict[str, list[Encoded]]:
    """Running text, and dialogues of which the replies count."""
    template = template_of(model_folder(options))
    with gzip.open(find_data("pretrain/wikipedia_30_articles.txt.gz"), "rt", encoding="utf-8") as file:
        ids = template.tokenizer.encode(file.read(6 * WINDOW * windows))
    pieces = [ids[at : at + WINDOW] for at in range(0, min(len(ids), WINDOW * windows), WINDOW)]
    rows = read_jsonl(shipped("helpful.train"))[: 8 * windows]
    return {
        "text": [Encoded(piece, [1] * len(piece)) for piece in pieces],
        "replies": [template.encode(row["messages"]) for row in rows],
    }


@torch.inference_mode()
def predictions(model: Transformer, precision: str, texts: Sequence[Encoded]) -> list[Tensor]:
    """Log-probabilities of the vocabulary at every token that counts, in half precision to keep many."""
    model.unfuse()
    model.precision = precision
    found = []
    for text in texts:
        states, _ = model.prefill(torch.tensor(text.ids), documents([len(text.ids)]))
        counts = torch.tensor(text.mask[1:], dtype=torch.bool)
        found.append(model.logits(states[:-1][counts]).log_softmax(-1).half())
    return found


def against(exact: Sequence[Tensor], rounded: Sequence[Tensor], texts: Sequence[Encoded]) -> list[str]:
    """Cells: nats a token more than `exact` with their standard error, the mean divergence, and tokens."""
    more, divergences = [], []
    for p, q, text in zip(exact, rounded, texts, strict=True):
        gap, counts = p.float() - q.float(), torch.tensor(text.mask[1:], dtype=torch.bool)
        more.append(gap.gather(1, torch.tensor(text.ids)[1:][counts, None])[:, 0])
        divergences.append((p.float().exp() * gap).sum(-1))
    each = torch.cat(more)
    error = float(each.std()) / len(each) ** 0.5
    return [f"{float(each.mean()):+.4f} ± {error:.4f}", f"{float(torch.cat(divergences).mean()):.4f}", str(len(each))]


def main() -> None:
    """Command line."""
    options = parser(str(__doc__))
    options.add_argument("--tables", default="products,decoding,loss", help="comma-separated")
    options.add_argument("--peer", default="", help="a command to run after every precision")
    given = options.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.environ.update(ENVIRONMENT, OMP_NUM_THREADS=str(given.threads))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(given.threads)
    model, tokenizer = load_policy(model_folder(given))
    print(", ".join(f"{key} {value}" for key, value in machine(given.threads).items()))
    print(f"load {os.getloadavg()[0]:.1f}")
    tables = given.tables.split(",")
    if "products" in tables:
        products(model, 1 if given.quick else 20)
    if "decoding" in tables:
        memory = reading()
        table = [["precision, batch", "tokens/s with prompts", "without", "share"]]
        for precision in PRECISIONS:
            model.unfuse()
            model.precision = precision
            engine = Engine(model, tokenizer, slots=max(BATCHES))
            engine.ends = frozenset()
            table += decode(model, engine, precision, memory, 8 if given.quick else NEW, 1 if given.quick else 3)
            if given.peer:
                subprocess.run(given.peer, shell=True, check=True)
        print(f"decoding; memory is read at {memory / 1e9:.1f} GB/s")
        print_table(table)
    if "loss" in tables:
        table = [["loss", "more than float32", "divergence", "tokens"]]
        for name, texts in material(given, 1 if given.quick else 6).items():
            exact = predictions(model, "float32", texts)
            for precision in PRECISIONS[1:]:
                cells = against(exact, predictions(model, precision, texts), texts)
                table.append([f"{precision}, {name}", *cells])
        print("loss, nats a token")
        print_table(table)


if __name__ == "__main__":
    main()
