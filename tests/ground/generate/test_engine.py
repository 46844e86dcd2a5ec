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


def engine(model: Transformer, slots: int = 8, **more: object) -> Engine:
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
    found = engine(model, slots=3).generate(prompts(30), FREE, n=7)
    assert prefilled == [30]
    assert len({tuple(c.ids) for c in found[0]}) > 1, "samples of one prompt must differ"


def test_prompts_that_begin_alike_are_read_together_once(model: Transformer, prefilled: list[int]) -> None:
    start, *ends = prompts(40, 3, 5, 9)
    together = engine(model).generate([start + end for end in ends], FREE)
    assert prefilled == [40, 3 + 5 + 9]
    for number, end in enumerate(ends):
        alone = engine(model).generate([start + end], FREE, seeds=[number])
        assert alone[0][0].ids == together[number][0].ids


@pytest.mark.parametrize("slots", [1, 2, 7, 32])
def test_a_shared_beginning_is_kept_from_one_admission_to_the_next(
    model: Transformer, prefilled: list[int], slots: int
) -> None:
    one, two, *ends = prompts(60, 90, 3, 5, 9, 4, 6, 8, 2)
    asked = [one + end for end in ends[:4]] + [two + end for end in ends[4:]]
    how = [Sampling(max_tokens=t) for t in (3, 9)] + [Sampling(temperature=0, max_tokens=6)]
    for sampling in how:
        prefilled.clear()
        made = engine(model, slots)
        found = made.generate(asked, sampling, seeds=range(50, 57))
        assert sum(prefilled) == 60 + 90 + sum(map(len, ends)), "each beginning is read once"
        for prompt, seed, samples in zip(asked, range(50, 57), found, strict=True):
            alone = engine(model).generate([prompt], sampling, seeds=[seed])[0]
            assert [c.ids for c in samples] == [c.ids for c in alone]
            assert samples[0].logprobs == pytest.approx(alone[0].logprobs, abs=1e-4)


def test_nothing_is_kept_for_what_is_sampled_next(model: Transformer, prefilled: list[int]) -> None:
    start, a, b = prompts(60, 3, 5)
    made = engine(model)
    for _ in range(2):
        made.generate([start + a, start + b], FREE)
    assert prefilled == [60, 8, 60, 8], "weights may change between calls"


def test_a_finished_slot_is_refilled_at_once(model: Transformer) -> None:
    made = engine(model, slots=2)
    numbers = [
        made.submit(p, Sampling(max_tokens=t), seed=t)
        for p, t in zip(prompts(5, 6, 7, 8), (2, 5, 3, 1), strict=True)
    ]
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    step = 0
    while not made.idle:
        events = made.step()
        assert len({e.request for e in events if not e.done}) <= 2
        for event in events:
            begun.setdefault(event.request, step)
            if event.done:
                ended[event.request] = step
        step += 1
    assert list(ended) == [numbers[0], numbers[2], numbers[3], numbers[1]]
    assert begun[numbers[2]] == ended[numbers[0]], (
        "the third takes the slot in the step in which the first ends"
    )
    assert begun[numbers[3]] == ended[numbers[2]] < ended[numbers[1]]


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_a_sample_is_the_same_alone_in_any_batch_and_with_any_number_of_slots(
    model: Transformer, slots: int
) -> None:
    asked = prompts(4, 31, 17, 31, 9)
    seeds = [3, 1, 4, 1, 5]
    found = engine(model, slots).generate(asked, FREE, n=2, seeds=seeds)
    for prompt, seed, samples in zip(asked, seeds, found, strict=True):
        alone = engine(model, 2).generate([prompt], FREE, n=2, seeds=[seed])[0]
        assert [c.ids for c in alone] == [c.ids for c in samples]
        for a, b in zip(alone, samples, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_sample_k_of_a_seed_draws_from_its_own_stream(model: Transformer) -> None:
    (prompt,) = prompts(9)
    three = engine(model).generate([prompt], FREE, n=3, seeds=[21])[0]
    two = engine(model).generate([prompt], FREE, n=2, seeds=[21])[0]
    assert [c.ids for c in three[:2]] == [c.ids for c in two]
    assert derive_seed(21, 0) != derive_seed(21, 1)


def test_greedy_decoding_is_the_argmax_of_the_forward_pass(model: Transformer) -> None:
    asked = prompts(1, 26, 40)
    for prompt, (completion,) in zip(
        asked, engine(model).generate(asked, Sampling(temperature=0, max_tokens=20)), strict=True
    ):
        logits = model.logits(uncached(model, prompt, completion.ids))
        assert completion.ids == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    "how", [FREE, Sampling(temperature=0.6, max_tokens=12), Sampling(top_k=4, top_p=0.9, max_tokens=12)]
)
def test_log_probabilities_are_those_of_training(model: Transformer, how: Sampling) -> None:
    asked = prompts(3, 28, 15)
    for prompt, samples in zip(asked, engine(model, 4).generate(asked, how, n=2), strict=True):
        for completion in samples:
            states = uncached(model, prompt, completion.ids)
            with torch.no_grad():
                expected, _ = token_logprobs(
                    states, model.head_weight(), torch.tensor(completion.ids), how.temperature
                )
            assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_top_k_one_is_greedy(model: Transformer) -> None:
    asked = prompts(12)
    cut = engine(model).generate(asked, Sampling(top_k=1, max_tokens=9))[0][0]
    assert cut.ids == engine(model).generate(asked, Sampling(temperature=0, max_tokens=9))[0][0].ids


def test_a_stop_ends_the_reply_and_is_cut_from_its_text(model: Transformer) -> None:
    asked = prompts(8)
    free = engine(model).generate(asked, Sampling(max_tokens=30), seeds=[2])[0][0]
    assert free.stop == "length" and len(free.ids) == 30 and free.text == toys.tokenizer().decode(free.ids)
    stop = toys.tokenizer().decode(free.ids[10:12])
    stopped = engine(model).generate(asked, Sampling(max_tokens=30, stops=("never this", stop)), seeds=[2])[
        0
    ][0]
    assert stopped.stop == "stop"
    assert stopped.text == free.text[: free.text.find(stop)]
    assert stopped.ids == free.ids[: len(stopped.ids)] and len(stopped.ids) <= 12
    assert len(stopped.logprobs) == len(stopped.ids)


def test_the_end_of_turn_token_ends_a_reply_and_stays_among_its_ids(model: Transformer) -> None:
    asked = prompts(8)
    free = engine(model).generate(asked, FREE, seeds=[2])[0][0]
    made = engine(model)
    made.ends |= {free.ids[5]}
    ended = made.generate(asked, FREE, seeds=[2])[0][0]
    place = free.ids.index(free.ids[5])
    assert ended.ids == free.ids[: place + 1] and ended.stop == "end"
    assert ended.text == toys.tokenizer().decode(free.ids[:place])
    assert len(ended.logprobs) == place + 1


def test_the_tokenizers_ends_are_the_engines(model: Transformer) -> None:
    assert (
        engine(model).ends == toys.tokenizer().ends
        and toys.tokenizer().special["<|im_end|>"] in engine(model).ends
    )


def test_a_reply_ends_where_the_context_does(model: Transformer) -> None:
    (prompt,) = prompts(10)
    completion = engine(model, context=14).generate([prompt], FREE)[0][0]
    assert len(completion.ids) == 4 and completion.stop == "length"
    assert completion.ids == engine(model).generate([prompt], FREE)[0][0].ids[:4]


def test_the_prompt_that_is_too_long_is_named(model: Transformer) -> None:
    made = engine(model, context=14)
    message = r"^prompt third: the prompt has 20 tokens, the context holds 14 with the reply; shorten it$"
    with pytest.raises(CharterError, match=message), naming_prompts(["first", "second", "third"]):
        made.generate(prompts(3, 4, 20), FREE)
    assert made.idle


def test_a_prompt_over_the_context_and_an_empty_one_are_refused(model: Transformer) -> None:
    made = engine(model, context=14)
    with pytest.raises(CharterError, match=r"14 tokens, the context holds 14.*shorten"):
        made.submit(prompts(14)[0], FREE)
    with pytest.raises(CharterError, match="empty prompt"):
        made.submit([], FREE)
    assert made.idle and made.step() == []
    assert len(made.generate(prompts(13), FREE)[0][0].ids) == 1


def test_a_refused_prompt_leaves_nothing_of_its_batch_behind(model: Transformer) -> None:
    made = engine(model, context=14)
    with pytest.raises(CharterError, match="shorten"):
        made.generate(prompts(5, 20), FREE)
    assert made.idle
    assert made.generate(prompts(5), FREE)[0][0].ids


def test_generate_needs_an_idle_engine(model: Transformer) -> None:
    made = engine(model)
    number = made.submit(prompts(5)[0], FREE)
    with pytest.raises(CharterError, match="idle"):
        made.generate(prompts(4), FREE)
    made.cancel(number)
    assert made.idle


def test_cancelling_frees_the_slots_and_leaves_the_others_alone(model: Transformer) -> None:
    asked = prompts(5, 9, 7)
    made = engine(model, slots=4)
    first, second, third = (made.submit(p, FREE, n=2, seed=i) for i, p in enumerate(asked))
    events = made.step() + made.step()
    assert {e.request for e in events} == {first, second}, "four slots are taken, the third request waits"
    made.cancel(first)
    made.cancel(999)
    done = {(e.request, e.sample): e.completion for e in drain(made) if e.done}
    assert set(done) == {(second, 0), (second, 1), (third, 0), (third, 1)}
    for number, i in ((second, 1), (third, 2)):
        alone = engine(model).generate([asked[i]], FREE, n=2, seeds=[i])[0]
        assert [done[(number, k)].ids for k in range(2)] == [c.ids for c in alone]


def test_a_waiting_request_can_be_cancelled(model: Transformer) -> None:
    made = engine(model, slots=1)
    first, second = (made.submit(p, Sampling(max_tokens=3)) for p in prompts(5, 6))
    made.step()
    made.cancel(second)
    assert {e.request for e in drain(made)} == {first}


def test_probe_values_are_the_heads_on_the_state_before_each_token(model: Transformer) -> None:
    head = ScoreHead(toys.SHAPE.hidden_size, 4)
    asked = prompts(6, 25)
    found = engine(model, probe=head).generate(asked, FREE, n=2)
    for prompt, samples in zip(asked, found, strict=True):
        for completion in samples:
            with torch.no_grad():
                expected = head(uncached(model, prompt, completion.ids)).tolist()
            assert completion.probes == pytest.approx(expected, abs=1e-4)


def test_without_a_probe_there_are_no_values(model: Transformer) -> None:
    completion = engine(model).generate(prompts(6), FREE)[0][0]
    assert completion.probes == [] and isinstance(completion, Completion)


def test_no_prompts_give_no_completions(model: Transformer) -> None:
    assert engine(model).generate([], FREE) == []


def test_memory_bounds_the_slots_and_changes_no_sample(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [p for pair in zip(prompts(*[20] * 6), prompts(*range(300, 306)), strict=True) for p in pair]
    sizes: list[tuple[int, int]] = []
    real = Cache.resize

    def spy(self: Cache, slots: int, tokens: int) -> None:
        real(self, slots, tokens)
        sizes.append((self.slots, self.kv.nbytes))

    free = engine(model, slots=8).generate(asked, FREE, n=2)
    monkeypatch.setattr(Cache, "resize", spy)
    memory = 2 * 320 * engine(model).cache.token_bytes
    made = engine(model, slots=8, bounds=Bounds(memory=memory))
    found = made.generate(asked, FREE, n=2)
    assert [[c.ids for c in samples] for samples in found] == [[c.ids for c in samples] for samples in free]
    for ours, theirs in zip(found, free, strict=True):
        assert [c.logprobs for c in ours] == [pytest.approx(c.logprobs, abs=1e-4) for c in theirs]
    assert {slots for slots, _ in sizes} == {2}, "two long texts fit"
    made.generate(prompts(*[20] * 8), FREE)
    assert made.cache.slots == 8, "eight short ones"
    assert all(taken <= memory for _, taken in sizes)


def test_one_long_text_takes_room_for_itself_alone(model: Transformer) -> None:
    made = engine(model, slots=8)
    made.generate(prompts(300), FREE)
    assert made.cache.slots == 1 and made.cache.capacity >= 300
    made.generate(prompts(300, 20, 20), FREE)
    assert made.cache.slots == 4
    made.generate(prompts(*[20] * 9), FREE)
    assert made.cache.slots == 8 and made.cache.capacity < 300


def test_one_text_is_sampled_whatever_it_takes(model: Transformer) -> None:
    made = engine(model, bounds=Bounds(memory=1))
    asked = prompts(300, 8)
    found = made.generate(asked, FREE)
    assert made.cache.slots == 1
    assert [c[0].ids for c in found] == [c[0].ids for c in engine(model).generate(asked, FREE)]


class _Spelled:
    """Holds a reply to some tokens and then its end, and notes how many were left before each."""

    def __init__(self, tokens: list[int], end: int) -> None:
        self.rest, self.left = [*tokens, end], list[int]()

    def restrict(self, logits_V: Tensor, left: int) -> None:
        self.left.append(left)
        keep = logits_V[self.rest[0]].item()
        logits_V.fill_(float("-inf"))[self.rest[0]] = keep

    def accept(self, token: int) -> bool:
        assert token == self.rest.pop(0)
        return True


def test_a_constraint_holds_each_sample_to_its_form_and_no_neighbour() -> None:
    tokenizer = toys.tokenizer()
    served = Engine(toys.model(), tokenizer, slots=4)
    free = served.generate([[5, 6]], Sampling(max_tokens=7), 2)
    made: list[_Spelled] = []

    def spelled() -> _Spelled:
        made.append(_Spelled(tokenizer.encode("ok"), tokenizer.eos_id))
        return made[-1]

    held = served.submit([7, 8], Sampling(max_tokens=5), 2, constraint=spelled)
    beside = served.submit([5, 6], Sampling(max_tokens=7), 2)
    found: dict[tuple[int, int], Completion] = {}
    while not served.idle:
        found |= {(e.request, e.sample): e.completion for e in served.step() if e.done}
    assert [found[held, k].text for k in (0, 1)] == ["ok", "ok"]
    assert [found[held, k].stop for k in (0, 1)] == ["end", "end"]
    assert all(one.left == list(range(5, 5 - len(one.left), -1)) for one in made) and len(made) == 2
    assert [found[beside, k].ids for k in (0, 1)] == [c.ids for c in free[0]]


def test_the_stop_that_ended_a_reply_is_named(model: Transformer) -> None:
    asked = prompts(8)
    free = engine(model).generate(asked, Sampling(max_tokens=30), seeds=[2])[0][0]
    assert free.done and free.stopped_by is None
    stop = toys.tokenizer().decode(free.ids[10:12])
    how = Sampling(max_tokens=30, stops=("never this", stop))
    assert engine(model).generate(asked, how, seeds=[2])[0][0].stopped_by == stop


def test_the_likeliest_tokens_hold_the_drawn_ones_log_probability(model: Transformer) -> None:
    how = [Sampling(max_tokens=9, top_logprobs=20), Sampling(temperature=0, max_tokens=9, top_logprobs=3)]
    for sampling in how:
        (found,) = engine(model).generate(prompts(8), sampling)[0]
        assert [len(top) for top in found.top] == [sampling.top_logprobs] * 9
        for token, logprob, top in zip(found.ids, found.logprobs, found.top, strict=True):
            if token in dict(top):
                assert dict(top)[token] == pytest.approx(logprob, abs=1e-5)
            assert top == sorted(top, key=lambda pair: -pair[1])
        if sampling.temperature == 0:
            assert [top[0][0] for top in found.top] == found.ids
    assert engine(model).generate(prompts(8), FREE)[0][0].top == []
