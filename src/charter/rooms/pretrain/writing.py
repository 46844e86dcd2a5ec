"""What a user can look at during training: sampled texts, and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.learn.parallel import full
from charter.ground.measure.plots import SERIES, Line, canvas, curves, inline, standalone
from charter.ground.settings.seed import derive_seed
from charter.rooms.pretrain.settings import Samples
from charter.rooms.pretrain.start import Start

CURVE = "curve.svg"
MOST_POINTS = 400
# passes over a text that teach nearly as much as new text (Muennighoff 2023)
FEW = 4
UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"), (0, ""))
# characters of a sample in a note
SHOWN = 60


def announce(start: Start, out: Workspace) -> None:
    """Note the derived size, steps and tokens."""
    plan = start.plan
    size = f"{format_count(plan.shape.num_parameters)} weights, {plan.steps:,} steps of"
    if plan.context > plan.shape.context:
        out.note(
            f"{size} about {plan.batch_tokens:,} tokens, or of one whole window with its share of documents, "
            f"up to {plan.context:,}"
        )
        return
    passes = plan.tokens / start.epoch_tokens
    more = "; after four passes little is gained" if passes > FEW else ""
    out.note(f"{size} {plan.batch_tokens:,} tokens: {passes:.2g} passes over the corpus{more}")


def format_count(count: int) -> str:
    """12345678 as "12.3M", 12345 as "12.3k"."""
    size, unit = next((size, unit) for size, unit in UNITS if count >= size)
    return f"{count / size:.1f}{unit}" if unit else str(count)


def sample_prompts(start: Start, samples: Samples) -> list[list[int]]:
    """The ids of each text to continue; the boundary for an empty one. Raises CharterError if one leaves no room to
    write."""
    encoded = [start.tokenizer.encode_document(prompt) or [start.boundary] for prompt in samples.prompts]
    context = start.model.shape.context
    for number, ids in enumerate(encoded):
        if len(ids) >= context:
            raise CharterError(
                f"samples.prompts[{number}] has {len(ids)} tokens, and the model reads {context} at once; shorten it"
            )
    return encoded


def write_samples(start: Start, prompts: Sequence[Sequence[int]], samples: Samples, step: int, out: Workspace) -> None:
    """Continue each prompt, with the same random numbers at every step, and write samples/written-STEP.jsonl."""
    if not prompts:
        return
    sampling = Sampling(temperature=samples.temperature, max_tokens=samples.tokens)
    seeds = [derive_seed(out.seed, "sample", n) for n in range(len(prompts))]
    with full(start.model) as whole_model:
        was_training = whole_model.training
        completions = Engine(whole_model, start.tokenizer, len(prompts)).generate(prompts, sampling, 1, seeds)
        # packed weights double the memory
        whole_model.unfuse()
        whole_model.train(was_training)
    rows = [
        {"step": step, "prompt": prompt, "text": completion.text, "stop": completion.stop}
        for prompt, (completion,) in zip(samples.prompts, completions, strict=True)
    ]
    out.write_jsonl(f"samples/written-{step:08d}.jsonl", rows)
    first = " ".join((str(rows[0]["prompt"]) + str(rows[0]["text"])).split())
    out.note(f"step {step}: {first[:SHOWN]}{'...' if len(first) > SHOWN else ''}")


def draw_curve(out: Workspace) -> Path:
    """Loss of training and bits per byte of held-out text over the tokens read, from the log."""
    rows = read_log(out.path)
    stride = -(-len(rows) // MOST_POINTS)
    figure, (loss_axes, bits_axes) = canvas(6.4, 2.4, columns=2, gap=0.08)
    learnt_rows = [row for row in rows if "spike" not in row]
    loss = [(row["tokens"], row["loss"]) for row in learnt_rows[::stride]]
    bits = [(row["tokens"], row["bits_per_byte"]) for row in rows if "bits_per_byte" in row]
    curves(loss_axes, "training: nats a token", [_line("loss", loss, SERIES[0])], "tokens")
    curves(bits_axes, "held out: bits a byte", [_line("bits", bits, SERIES[1])], "tokens")
    words = "Loss of training, and bits per byte of held-out text, over the tokens read"
    return out.write_text(CURVE, standalone(inline(figure, "pretrain", "Pretraining", words)))


def _line(name: str, points: list[tuple[float, float]], colour: str) -> Line:
    return Line(name, [x for x, _ in points], [y for _, y in points], colour)
