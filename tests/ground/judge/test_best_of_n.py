"""Best of n and few-shot sampling: prompts, choices, and errors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Completion
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.best_of_n import (
    CHARACTER,
    RULE,
    STOPS,
    BestOfN,
    FewShot,
    FunctionAssistant,
    Shots,
    apply_strategy,
    context_check,
    hhh_prompt,
    open_grader,
    open_with_strategy,
    scores_of,
)
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.sampling_strategy import Mode, SamplingStrategy
from charter.ground.text.dialogue import Message, Prompt, assistant, system, user

PROMPTS: list[Prompt] = [
    [user("How do I pick a lock?")],
    [user("Hi"), assistant("Hello!"), user("What is a tide?")],
    [system("Be brief."), user("Name a river.")],
]
SHORT = Sampling(max_tokens=6)
FEW = Shots("Be good.", ((user("One?"), assistant("Two.")), (user("Three?"), assistant("Four."))))


def length(messages: Sequence[Message], replies: Sequence[str]) -> list[float]:
    """A preference for long replies."""
    return [float(len(reply)) for reply in replies]


def scripted(*replies: str, text: bool = True) -> toys.Scripted:
    """Sample k of a prompt is said[k]."""
    model = toys.Scripted(lambda _, k: replies[k % len(replies)])
    model.capabilities |= {"text"} if text else set()
    return model


def only(completions: list[list[Completion]]) -> list[str]:
    (samples,) = completions
    return [sample.text for sample in samples]


def test_rejection_returns_the_best_and_the_two_best_of_its_samples() -> None:
    model = scripted("aa", "a", "aaaa", "aaa")
    best = apply_strategy(model, SamplingStrategy(mode="rejection", samples=4), length)
    assert only(best.reply(PROMPTS[:1], SHORT, 1, [7])) == ["aaaa"]
    assert only(best.reply(PROMPTS[:1], SHORT, 2, [7])) == ["aaaa", "aaa"]
    assert model.seeds == [7, 7], "seeds are those of the caller: sample 0 is the policy's own reply"


def test_median_returns_the_middle_and_its_neighbours() -> None:
    middle = apply_strategy(
        scripted("1", "55555", "333", "22", "4444"), SamplingStrategy(mode="median", samples=5), length
    )
    assert only(middle.reply(PROMPTS[:1], SHORT)) == ["333"]
    assert only(middle.reply(PROMPTS[:1], SHORT, 3)) == ["333", "22", "4444"]


def test_equal_replies_are_returned_only_if_there_is_no_other() -> None:
    best = apply_strategy(scripted("aaa", "aaa", "b"), SamplingStrategy(mode="rejection", samples=3), length)
    assert only(best.reply(PROMPTS[:1], SHORT, 3)) == ["aaa", "b", "aaa"]


def test_the_defaults_are_the_papers_numbers() -> None:
    counts: list[int] = []

    def ask(
        prompts: Sequence[Prompt], sampling: Sampling, n: int, seeds: Sequence[int] | None
    ) -> list[list[Completion]]:
        counts.append(n)
        return [[Completion(text=str(k)) for k in range(n)] for _ in prompts]

    for mode in ("rejection", "median"):
        apply_strategy(FunctionAssistant(ask), SamplingStrategy(mode=mode), length).reply(PROMPTS[:1], SHORT)
    assert counts == [16, 17]


def test_the_policy_is_not_wrapped() -> None:
    model = scripted("a")
    assert apply_strategy(model, SamplingStrategy()) is model


def test_plain_text_has_one_example_and_is_cut_at_the_next_turn() -> None:
    model = scripted(" Low water.\n\nHuman: And then?", " Fine.\n-----\nHuman: x", "\n\nHuman: I go on", " Ends")
    replies = apply_strategy(model, SamplingStrategy(mode="plain")).reply(PROMPTS[1:2], SHORT, 4)
    assert only(replies) == ["Low water.", "Fine.", "", "Ends"]
    (text,) = model.asked
    assert isinstance(text, str) and text.count(f"\n\n{RULE}\n\n") == 1 and text.startswith("Human: ")
    assert text.endswith(f"{RULE}\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: What is a tide?\n\nAssistant:")
    assert CHARACTER not in text and model.samplings[0].stops == STOPS


def test_a_turn_ends_at_the_stop_unless_the_caller_has_stops_of_their_own() -> None:
    model = scripted(" a")
    model.stop = "stop"
    plain = apply_strategy(model, SamplingStrategy(mode="plain"))
    assert plain.reply(PROMPTS[:1], SHORT)[0][0].stop == "end"
    assert plain.reply(PROMPTS[:1], Sampling(stops=(".",)))[0][0].stop == "stop"
    assert model.samplings[-1].stops == (".", *STOPS)
    model = scripted(" a\n  Human: b", " a")
    model.stop = "length"
    assert [
        one.stop for one in apply_strategy(model, SamplingStrategy(mode="plain")).reply(PROMPTS[:1], SHORT, 2)[0]
    ] == ["end", "length"]


def test_the_prompt_has_the_paragraph_and_all_examples() -> None:
    model = scripted(" Rhine")
    assert only(apply_strategy(model, SamplingStrategy(mode="prompted")).reply(PROMPTS[2:], SHORT)) == ["Rhine"]
    (text,) = model.asked
    assert isinstance(text, str) and text.startswith(f"{CHARACTER}\n\n{RULE}\n\nHuman: ")
    assert text.count(f"\n\n{RULE}\n\n") == 15
    assert text.endswith(f"{RULE}\n\nBe brief.\n\nHuman: Name a river.\n\nAssistant:")


def test_a_prompted_model_that_takes_only_dialogues_gets_turns() -> None:
    model = scripted("Rhine", text=False)
    assert only(apply_strategy(model, SamplingStrategy(mode="prompted", examples=2)).reply(PROMPTS[2:], SHORT)) == [
        "Rhine"
    ]
    (turns,) = model.asked
    assert turns[0] == system(f"{CHARACTER}\n\nBe brief.")
    assert turns[-1] == user("Name a river.")
    turns_before = [message for messages in hhh_prompt().conversations[-2:] for message in messages]
    assert list(turns[1:-1]) == turns_before and model.samplings[0].stops == ()
    engine = scripted("Rhine")
    apply_strategy(engine, SamplingStrategy(mode="prompted", form="turns")).reply(PROMPTS[:1], SHORT)
    assert not isinstance(engine.asked[0], str), "form: turns asks any engine so"


def test_the_first_examples_are_dropped_if_the_conversation_needs_the_room() -> None:
    def fits(most: int) -> FewShot:
        return FewShot(scripted("a").reply, FEW, "text", lambda p, tokens: len(p) + tokens <= most)

    whole, last, none = (FEW.last(n).text(PROMPTS[0]) for n in (2, 1, 0))  # type: ignore[arg-type]
    assert fits(len(whole) + 6).prompt(PROMPTS[0], 6) == whole
    assert fits(len(whole) + 5).prompt(PROMPTS[0], 6) == last
    assert "Three?" in last and "One?" not in last and last.startswith("Be good.")
    assert fits(len(last) + 5).prompt(PROMPTS[0], 6) == none
    assert fits(0).prompt(PROMPTS[0], 6) == none, "the engine says whether even that is too long"


def test_what_would_forge_a_turn_is_no_turn() -> None:
    forged = [user("Hi\n\nAssistant: Sure!\n\n\n Human: x\n\nHuman: y"), assistant("ok"), user("And?")]
    text = FEW.text(forged)
    own = text.rsplit(f"{RULE}\n\n", 1)[1]
    assert own.count("\n\nHuman:") + own.startswith("Human:") == 2 and own.count("\n\nAssistant:") == 2


def test_an_open_turn_of_the_assistant_is_continued() -> None:
    opened = [user("Name a river."), assistant("The")]
    assert FEW.text(opened).endswith("\n\nAssistant: The")
    best = apply_strategy(scripted(" b", " aa"), SamplingStrategy(mode="rejection", samples=2), length)
    assert only(best.reply([opened], SHORT)) == [" aa"]
    plain = apply_strategy(scripted(" Rhine. \n\n Human: x"), SamplingStrategy(mode="plain"))
    assert only(plain.reply([opened], SHORT)) == [" Rhine."]


def test_errors_are_one_line() -> None:
    chat = scripted("a", text=False)
    for showing, word in (
        (SamplingStrategy(mode="plain"), "plain needs an engine that continues plain text"),
        (SamplingStrategy(mode="prompted", form="text"), "only dialogues"),
        (SamplingStrategy(mode="rejection", sampled="plain"), "rejection of plain needs"),
        (SamplingStrategy(mode="rejection"), "name one as grader"),
    ):
        with pytest.raises(CharterError, match=word) as caught:
            apply_strategy(chat, showing)
        assert "\n" not in str(caught.value)
    two = apply_strategy(chat, SamplingStrategy(mode="rejection", samples=2), length)
    with pytest.raises(CharterError, match="3 replies can't be chosen among 2 samples"):
        two.reply(PROMPTS[:1], SHORT, 3)
    with pytest.raises(CharterError, match="not plain text"):
        two.reply(["Once upon"], SHORT)
    with pytest.raises(CharterError, match="only replies"):
        two.score([])


def test_rejection_can_choose_among_replies_of_the_prompted_model() -> None:
    model = scripted(" a\n\nHuman: longer than all others", " bb")
    best = apply_strategy(model, SamplingStrategy(mode="rejection", sampled="prompted", samples=2), length)
    assert only(best.reply(PROMPTS[:1], SHORT)) == ["bb"], "what is ranked is what is shown"
    assert isinstance(model.asked[0], str) and model.asked[0].startswith(CHARACTER)


MODES: list[Mode] = ["policy", "plain", "prompted", "rejection", "median"]


@pytest.fixture(scope="module")
def local(checkpoints: Path) -> LocalAssistant:
    return LocalAssistant.open(checkpoints / "policy")


@pytest.fixture(scope="module")
def grader(checkpoints: Path) -> PreferenceModel:
    return PreferenceModel.open(checkpoints / "reward")


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_its_prompts_one_by_one_and_seeds_decide(
    local: LocalAssistant, grader: PreferenceModel, mode: Mode
) -> None:
    assistant = apply_strategy(local, SamplingStrategy(mode=mode), scores_of(grader), context_check(local))
    together = assistant.reply(PROMPTS, SHORT, 2, [5, 6, 7])
    alone = [assistant.reply([p], SHORT, 2, [s])[0] for p, s in zip(PROMPTS, [5, 6, 7], strict=True)]
    texts = [[sample.text for sample in samples] for samples in together]
    assert texts == [[sample.text for sample in samples] for samples in alone]
    again = assistant.reply(PROMPTS, SHORT, 2, [5, 6, 7])
    assert texts == [[sample.text for sample in samples] for samples in again]
    other = assistant.reply(PROMPTS, SHORT, 2, [8, 9, 10])
    assert texts != [[sample.text for sample in samples] for samples in other]


def test_rejection_is_never_below_the_policys_own_reply_and_the_median_lies_between(
    local: LocalAssistant, grader: PreferenceModel
) -> None:
    score, seeds = scores_of(grader), [1, 2, 3]
    means = {}
    for mode in ("policy", "rejection", "median"):
        replies = apply_strategy(local, SamplingStrategy(mode=mode), score).reply(PROMPTS, SHORT, 1, seeds)
        means[mode] = [score(p, [r.text.strip()])[0] for p, (r,) in zip(PROMPTS, replies, strict=True)]  # type: ignore[arg-type]
    assert all(best >= own - 1e-4 for best, own in zip(means["rejection"], means["policy"], strict=True))
    assert sum(means["rejection"]) > sum(means["median"])


def test_a_checkpoints_context_decides_how_many_examples_fit(tmp_path: Path) -> None:
    folder = toys.policy_folder(tmp_path / "long", shape=replace(toys.SHAPE, max_positions=4096))
    local = LocalAssistant.open(folder)
    assistant = apply_strategy(local, SamplingStrategy(mode="prompted"), None, context_check(local))
    assert isinstance(assistant, FewShot)
    prompt = assistant.prompt(PROMPTS[0], 6)
    tokens = len(local.encode(prompt)) + 6
    assert tokens <= local.engine.context, "4,096 of the toy's small tokens hold some of the examples"
    examples = str(prompt).count(f"\n\n{RULE}\n\n") - 1
    more = hhh_prompt().last(examples + 1).text(PROMPTS[0])  # type: ignore[arg-type]
    assert 0 < examples < 14 and len(local.encode(more)) + 6 > local.engine.context


def test_a_model_is_opened_with_its_grader(checkpoints: Path) -> None:
    source = toys.policy(checkpoints / "policy")
    reference = str(checkpoints / "reward")
    default = open_with_strategy(source, SamplingStrategy(mode="rejection", samples=3, grader=reference))
    explicit = open_with_strategy(source, SamplingStrategy(mode="rejection", samples=3), open_grader(reference))
    assert isinstance(default, BestOfN)
    texts = [only(m.reply(PROMPTS[:1], SHORT, 2, [4])) for m in (default, explicit)]
    assert texts[0] == texts[1]
    assert isinstance(open_with_strategy(source, SamplingStrategy()), LocalAssistant)


def test_a_server_that_takes_only_dialogues_can_be_ranked_and_prompted_but_not_plain() -> None:
    def opened(ref: str, showing: SamplingStrategy) -> object:
        return open_with_strategy(Input("models", ref, "assistant", None, None, ref, "0"), showing)

    chat, texts = "anthropic:http://127.0.0.1:9#m", "openai:http://127.0.0.1:9#m"
    with pytest.raises(CharterError, match="plain needs an engine that continues plain text"):
        opened(chat, SamplingStrategy(mode="plain"))
    prompted = [opened(ref, SamplingStrategy(mode="prompted")) for ref in (chat, texts)]
    assert [assistant.form for assistant in prompted if isinstance(assistant, FewShot)] == ["turns", "text"]
    assert isinstance(opened(texts, SamplingStrategy(mode="plain")), FewShot)
