"""The engine: samples depend on no neighbour and no cache, share their prefill, and stop as they should."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Completion, Engine, Event, naming_prompts
from charter.ground.generate.engine_limits import Bounds
from charter.ground.generate.sampling import Sampling
from charter.ground.learn.loss import token_logprobs
from charter.ground.model.cache import Cache
from charter.ground.model.heads import ScoreHead
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer
from charter.ground.settings.seed import derive_seed

FREE = Sampling(max_tokens=12)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return toys.model(0)


def make_engine(model: Transformer, slots: int = 8, **more: object) -> Engine:
    return Engine(model, toys.tokenizer(), slots, **more)  # type: ignore[arg-type]


def prompts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(10, toys.VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def uncached(model: Transformer, prompt: Sequence[int], ids: Sequence[int]) -> Tensor:
    """States [len(ids), D] before each token of ids, from one forward pass of training."""
    row = torch.tensor([*prompt, *ids])
    with torch.no_grad():
        return model.hidden(row, documents([len(row)]))[len(prompt) - 1 : -1]


def drain(engine: Engine) -> list[Event]:
    events: list[Event] = []
    while not engine.idle:
        events += engine.step()
    return events


@pytest.fixture
def prefilled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each row that is read, in order."""
    seen: list[int] = []
    real = Transformer._fill

    def spy(self: Transformer, ids_T: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        seen.append(len(ids_T))
        return real(self, ids_T, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Transformer, "_fill", spy)
    return seen


def test_the_samples_of_a_prompt_share_one_prefill(model: Transformer, prefilled: list[int]) -> None:
    completions = make_engine(model, slots=3).generate(prompts(30), FREE, n=7)
    assert prefilled == [30]
    assert len({tuple(c.ids) for c in completions[0]}) > 1, "samples of one prompt must differ"


def test_prompts_that_begin_alike_are_read_together_once(model: Transformer, prefilled: list[int]) -> None:
    start, *ends = prompts(40, 3, 5, 9)
    together = make_engine(model).generate([start + end for end in ends], FREE)
    assert prefilled == [40, 3 + 5 + 9]
    for number, end in enumerate(ends):
        alone = make_engine(model).generate([start + end], FREE, seeds=[number])
        assert alone[0][0].ids == together[number][0].ids


@pytest.mark.parametrize("slots", [1, 2, 7, 32])
def test_a_shared_beginning_is_kept_from_one_admission_to_the_next(
    model: Transformer, prefilled: list[int], slots: int
) -> None:
    one, two, *ends = prompts(60, 90, 3, 5, 9, 4, 6, 8, 2)
    inputs = [one + end for end in ends[:4]] + [two + end for end in ends[4:]]
    how = [Sampling(max_tokens=t) for t in (3, 9)] + [Sampling(temperature=0, max_tokens=6)]
    for sampling in how:
        prefilled.clear()
        engine = make_engine(model, slots)
        completions = engine.generate(inputs, sampling, seeds=range(50, 57))
        assert sum(prefilled) == 60 + 90 + sum(map(len, ends)), "each beginning is read once"
        for prompt, seed, samples in zip(inputs, range(50, 57), completions, strict=True):
            alone = make_engine(model).generate([prompt], sampling, seeds=[seed])[0]
            assert [c.ids for c in samples] == [c.ids for c in alone]
            assert samples[0].logprobs == pytest.approx(alone[0].logprobs, abs=1e-4)


def test_nothing_is_kept_for_what_is_sampled_next(model: Transformer, prefilled: list[int]) -> None:
    start, a, b = prompts(60, 3, 5)
    engine = make_engine(model)
    for _ in range(2):
        engine.generate([start + a, start + b], FREE)
    assert prefilled == [60, 8, 60, 8], "weights may change between calls"


def test_a_finished_slot_is_refilled_at_once(model: Transformer) -> None:
    engine = make_engine(model, slots=2)
    numbers = [
        engine.submit(p, Sampling(max_tokens=t), seed=t) for p, t in zip(prompts(5, 6, 7, 8), (2, 5, 3, 1), strict=True)
    ]
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    step = 0
    while not engine.idle:
        events = engine.step()
        assert len({e.request for e in events if not e.done}) <= 2
        for event in events:
            begun.setdefault(event.request, step)
            if event.done:
                ended[event.request] = step
        step += 1
    assert list(ended) == [numbers[0], numbers[2], numbers[3], numbers[1]]
    assert begun[numbers[2]] == ended[numbers[0]], "the third takes the slot in the step in which the first ends"
    assert begun[numbers[3]] == ended[numbers[2]] < ended[numbers[1]]


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_a_sample_is_the_same_alone_in_any_batch_and_with_any_number_of_slots(model: Transformer, slots: int) -> None:
    inputs = prompts(4, 31, 17, 31, 9)
    seeds = [3, 1, 4, 1, 5]
    completions = make_engine(model, slots).generate(inputs, FREE, n=2, seeds=seeds)
    for prompt, seed, samples in zip(inputs, seeds, completions, strict=True):
        alone = make_engine(model, 2).generate([prompt], FREE, n=2, seeds=[seed])[0]
        assert [c.ids for c in alone] == [c.ids for c in samples]
        for a, b in zip(alone, samples, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_sample_k_of_a_seed_draws_from_its_own_stream(model: Transformer) -> None:
    (prompt,) = prompts(9)
    three = make_engine(model).generate([prompt], FREE, n=3, seeds=[21])[0]
    two = make_engine(model).generate([prompt], FREE, n=2, seeds=[21])[0]
    assert [c.ids for c in three[:2]] == [c.ids for c in two]
    assert derive_seed(21, 0) != derive_seed(21, 1)


def test_greedy_decoding_is_the_argmax_of_the_forward_pass(model: Transformer) -> None:
    inputs = prompts(1, 26, 40)
    for prompt, (completion,) in zip(
        inputs, make_engine(model).generate(inputs, Sampling(temperature=0, max_tokens=20)), strict=True
    ):
        logits = model.logits(uncached(model, prompt, completion.ids))
        assert completion.ids == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    "how", [FREE, Sampling(temperature=0.6, max_tokens=12), Sampling(top_k=4, top_p=0.9, max_tokens=12)]
)
def test_log_probabilities_are_those_of_training(model: Transformer, how: Sampling) -> None:
    inputs = prompts(3, 28, 15)
    for prompt, samples in zip(inputs, make_engine(model, 4).generate(inputs, how, n=2), strict=True):
        for completion in samples:
            states = uncached(model, prompt, completion.ids)
            with torch.no_grad():
                expected, _ = token_logprobs(states, model.head_weight(), torch.tensor(completion.ids), how.temperature)
            assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_top_k_one_is_greedy(model: Transformer) -> None:
    inputs = prompts(12)
    cut = make_engine(model).generate(inputs, Sampling(top_k=1, max_tokens=9))[0][0]
    assert cut.ids == make_engine(model).generate(inputs, Sampling(temperature=0, max_tokens=9))[0][0].ids


def test_a_stop_ends_the_reply_and_is_cut_from_its_text(model: Transformer) -> None:
    inputs = prompts(8)
    free = make_engine(model).generate(inputs, Sampling(max_tokens=30), seeds=[2])[0][0]
    assert free.stop == "length" and len(free.ids) == 30 and free.text == toys.tokenizer().decode(free.ids)
    stop = toys.tokenizer().decode(free.ids[10:12])
    stopped = make_engine(model).generate(inputs, Sampling(max_tokens=30, stops=("never this", stop)), seeds=[2])[0][0]
    assert stopped.stop == "stop"
    assert stopped.text == free.text[: free.text.find(stop)]
    assert stopped.ids == free.ids[: len(stopped.ids)] and len(stopped.ids) <= 12
    assert len(stopped.logprobs) == len(stopped.ids)


def test_the_end_of_turn_token_ends_a_reply_and_stays_among_its_ids(model: Transformer) -> None:
    inputs = prompts(8)
    free = make_engine(model).generate(inputs, FREE, seeds=[2])[0][0]
    engine = make_engine(model)
    engine.ends |= {free.ids[5]}
    ended = engine.generate(inputs, FREE, seeds=[2])[0][0]
    place = free.ids.index(free.ids[5])
    assert ended.ids == free.ids[: place + 1] and ended.stop == "end"
    assert ended.text == toys.tokenizer().decode(free.ids[:place])
    assert len(ended.logprobs) == place + 1


def test_the_tokenizers_ends_are_the_engines(model: Transformer) -> None:
    assert (
        make_engine(model).ends == toys.tokenizer().ends
        and toys.tokenizer().special["<|im_end|>"] in make_engine(model).ends
    )


def test_a_reply_ends_where_the_context_does(model: Transformer) -> None:
    (prompt,) = prompts(10)
    completion = make_engine(model, context=14).generate([prompt], FREE)[0][0]
    assert len(completion.ids) == 4 and completion.stop == "length"
    assert completion.ids == make_engine(model).generate([prompt], FREE)[0][0].ids[:4]


def test_the_prompt_that_is_too_long_is_named(model: Transformer) -> None:
    engine = make_engine(model, context=14)
    message = r"^prompt third: the prompt has 20 tokens, the context holds 14 with the reply; shorten it$"
    with pytest.raises(CharterError, match=message), naming_prompts(["first", "second", "third"]):
        engine.generate(prompts(3, 4, 20), FREE)
    assert engine.idle


def test_a_prompt_over_the_context_and_an_empty_one_are_refused(model: Transformer) -> None:
    engine = make_engine(model, context=14)
    with pytest.raises(CharterError, match=r"14 tokens, the context holds 14.*shorten"):
        engine.submit(prompts(14)[0], FREE)
    with pytest.raises(CharterError, match="empty prompt"):
        engine.submit([], FREE)
    assert engine.idle and engine.step() == []
    assert len(engine.generate(prompts(13), FREE)[0][0].ids) == 1


def test_a_refused_prompt_leaves_nothing_of_its_batch_behind(model: Transformer) -> None:
    engine = make_engine(model, context=14)
    with pytest.raises(CharterError, match="shorten"):
        engine.generate(prompts(5, 20), FREE)
    assert engine.idle
    assert engine.generate(prompts(5), FREE)[0][0].ids


def test_generate_needs_an_idle_engine(model: Transformer) -> None:
    engine = make_engine(model)
    number = engine.submit(prompts(5)[0], FREE)
    with pytest.raises(CharterError, match="idle"):
        engine.generate(prompts(4), FREE)
    engine.cancel(number)
    assert engine.idle


def test_cancelling_frees_the_slots_and_leaves_the_others_alone(model: Transformer) -> None:
    inputs = prompts(5, 9, 7)
    engine = make_engine(model, slots=4)
    first, second, third = (engine.submit(p, FREE, n=2, seed=i) for i, p in enumerate(inputs))
    events = engine.step() + engine.step()
    assert {e.request for e in events} == {first, second}, "four slots are taken, the third request waits"
    engine.cancel(first)
    engine.cancel(999)
    done = {(e.request, e.sample): e.completion for e in drain(engine) if e.done}
    assert set(done) == {(second, 0), (second, 1), (third, 0), (third, 1)}
    for number, i in ((second, 1), (third, 2)):
        alone = make_engine(model).generate([inputs[i]], FREE, n=2, seeds=[i])[0]
        assert [done[(number, k)].ids for k in range(2)] == [c.ids for c in alone]


def test_a_waiting_request_can_be_cancelled(model: Transformer) -> None:
    engine = make_engine(model, slots=1)
    first, second = (engine.submit(p, Sampling(max_tokens=3)) for p in prompts(5, 6))
    engine.step()
    engine.cancel(second)
    assert {e.request for e in drain(engine)} == {first}


def test_probe_values_are_the_heads_on_the_state_before_each_token(model: Transformer) -> None:
    head = ScoreHead(toys.SHAPE.hidden_size, 4)
    inputs = prompts(6, 25)
    completions = make_engine(model, probe=head).generate(inputs, FREE, n=2)
    for prompt, samples in zip(inputs, completions, strict=True):
        for completion in samples:
            with torch.no_grad():
                expected = head(uncached(model, prompt, completion.ids)).tolist()
            assert completion.probes == pytest.approx(expected, abs=1e-4)


def test_without_a_probe_there_are_no_values(model: Transformer) -> None:
    completion = make_engine(model).generate(prompts(6), FREE)[0][0]
    assert completion.probes == [] and isinstance(completion, Completion)


def test_no_prompts_give_no_completions(model: Transformer) -> None:
    assert make_engine(model).generate([], FREE) == []


def test_memory_bounds_the_slots_and_changes_no_sample(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [p for pair in zip(prompts(*[20] * 6), prompts(*range(300, 306)), strict=True) for p in pair]
    sizes: list[tuple[int, int]] = []
    real = Cache.resize

    def spy(self: Cache, slots: int, tokens: int) -> None:
        real(self, slots, tokens)
        sizes.append((self.slots, self.kv.nbytes))

    free = make_engine(model, slots=8).generate(inputs, FREE, n=2)
    monkeypatch.setattr(Cache, "resize", spy)
    memory = 2 * 320 * make_engine(model).cache.token_bytes
    engine = make_engine(model, slots=8, bounds=Bounds(memory=memory))
    completions = engine.generate(inputs, FREE, n=2)
    assert [[c.ids for c in samples] for samples in completions] == [[c.ids for c in samples] for samples in free]
    for ours, theirs in zip(completions, free, strict=True):
        assert [c.logprobs for c in ours] == [pytest.approx(c.logprobs, abs=1e-4) for c in theirs]
    assert {slots for slots, _ in sizes} == {2}, "two long texts fit"
    engine.generate(prompts(*[20] * 8), FREE)
    assert engine.cache.slots == 8, "eight short ones"
    assert all(taken <= memory for _, taken in sizes)


def test_one_long_text_takes_room_for_itself_alone(model: Transformer) -> None:
    engine = make_engine(model, slots=8)
    engine.generate(prompts(300), FREE)
    assert engine.cache.slots == 1 and engine.cache.capacity >= 300
    engine.generate(prompts(300, 20, 20), FREE)
    assert engine.cache.slots == 4
    engine.generate(prompts(*[20] * 9), FREE)
    assert engine.cache.slots == 8 and engine.cache.capacity < 300


def test_one_text_is_sampled_whatever_it_takes(model: Transformer) -> None:
    engine = make_engine(model, bounds=Bounds(memory=1))
    inputs = prompts(300, 8)
    completions = engine.generate(inputs, FREE)
    assert engine.cache.slots == 1
    assert [c[0].ids for c in completions] == [c[0].ids for c in make_engine(model).generate(inputs, FREE)]


class _Spelled:
    """Holds a reply to some tokens and then its end, and notes how many were left before each."""

    def __init__(self, tokens: list[int], end: int) -> None:
        self.rest, self.left = [*tokens, end], list[int]()

    def restrict(self, logits_V: Tensor, remaining: int) -> None:
        self.left.append(remaining)
        keep = logits_V[self.rest[0]].item()
        logits_V.fill_(float("-inf"))[self.rest[0]] = keep

    def accept(self, token: int) -> bool:
        assert token == self.rest.pop(0)
        return True


def test_a_constraint_holds_each_sample_to_its_form_and_no_neighbour() -> None:
    tokenizer = toys.tokenizer()
    served = Engine(toys.model(), tokenizer, slots=4)
    free = served.generate([[5, 6]], Sampling(max_tokens=7), 2)
    constraints: list[_Spelled] = []

    def spelled() -> _Spelled:
        constraints.append(_Spelled(tokenizer.encode("ok"), tokenizer.eos_id))
        return constraints[-1]

    held = served.submit([7, 8], Sampling(max_tokens=5), 2, constraint=spelled)
    beside = served.submit([5, 6], Sampling(max_tokens=7), 2)
    completions: dict[tuple[int, int], Completion] = {}
    while not served.idle:
        completions |= {(e.request, e.sample): e.completion for e in served.step() if e.done}
    assert [completions[held, k].text for k in (0, 1)] == ["ok", "ok"]
    assert [completions[held, k].stop for k in (0, 1)] == ["end", "end"]
    assert all(one.left == list(range(5, 5 - len(one.left), -1)) for one in constraints) and len(constraints) == 2
    assert [completions[beside, k].ids for k in (0, 1)] == [c.ids for c in free[0]]


def test_the_stop_that_ended_a_reply_is_named(model: Transformer) -> None:
    inputs = prompts(8)
    free = make_engine(model).generate(inputs, Sampling(max_tokens=30), seeds=[2])[0][0]
    assert free.done and free.stopped_by is None
    stop = toys.tokenizer().decode(free.ids[10:12])
    how = Sampling(max_tokens=30, stops=("never this", stop))
    assert make_engine(model).generate(inputs, how, seeds=[2])[0][0].stopped_by == stop


def test_the_likeliest_tokens_hold_the_drawn_ones_log_probability(model: Transformer) -> None:
    how = [Sampling(max_tokens=9, top_logprobs=20), Sampling(temperature=0, max_tokens=9, top_logprobs=3)]
    for sampling in how:
        (completion,) = make_engine(model).generate(prompts(8), sampling)[0]
        assert [len(top) for top in completion.top] == [sampling.top_logprobs] * 9
        for token, logprob, top in zip(completion.ids, completion.logprobs, completion.top, strict=True):
            if token in dict(top):
                assert dict(top)[token] == pytest.approx(logprob, abs=1e-5)
            assert top == sorted(top, key=lambda pair: -pair[1])
        if sampling.temperature == 0:
            assert [top[0][0] for top in completion.top] == completion.ids
    assert make_engine(model).generate(prompts(8), FREE)[0][0].top == []
