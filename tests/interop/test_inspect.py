"""Inspect: a checkpoint is one of its models by name, runs its tasks, and says what our engine says."""

# ruff: noqa: E402 (what follows needs the extra)
from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings(  # its own, of what it depends on
    "ignore:The 'initial' parameter:DeprecationWarning", "ignore:Unclosed <MemoryObject:ResourceWarning"
)
if find_spec("inspect_ai") is None:
    pytest.skip("inspect_ai is not installed: pip install -e '.[inspect]'", allow_module_level=True)

from inspect_ai import Task
from inspect_ai import eval as run_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import choice, includes
from inspect_ai.solver import generate, multiple_choice, system_message
from inspect_ai.tool import ToolInfo

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import system, user

ASKED: list[ChatMessage] = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Where is the cat?")]
SAID = [system("Be brief."), user("Where is the cat?")]


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Streams that Inspect leaves open are collected here, where their warning is known."""
    yield
    gc.collect()


@pytest.fixture
def name(checkpoints: Path) -> str:
    return f"charter/{checkpoints / 'policy'}"


@pytest.fixture(scope="module")
def assistant(checkpoints: Path) -> LocalAssistant:
    return LocalAssistant.open(checkpoints / "policy")


def opened(name: str) -> Model:
    return get_model(name, memoize=False, precision="float32", device="cpu")


def ask(name: str, *configs: GenerateConfig, messages: list[ChatMessage] = ASKED) -> list[ModelOutput]:
    """One request for each config, all at once, of a model opened anew."""

    async def together() -> list[ModelOutput]:
        async with opened(name) as model:
            return await asyncio.gather(*(model.generate(list(messages), config=c) for c in configs))

    return asyncio.run(together())


def test_a_reply_is_the_engines(name: str, assistant: LocalAssistant) -> None:
    config = GenerateConfig(
        temperature=0.8, top_p=0.95, top_k=50, max_tokens=12, seed=7, num_choices=3, stop_seqs=["zz"],
        logprobs=True,
    )  # fmt: skip
    (output,) = ask(name, config)
    sampling = Sampling(temperature=0.8, top_p=0.95, top_k=50, max_tokens=12, stops=("zz",))
    (expected,) = assistant.reply([SAID], sampling, 3, seeds=[7])
    assert [c.message.text for c in output.choices] == [c.text for c in expected]
    for output_choice, completion in zip(output.choices, expected, strict=True):
        assert output_choice.logprobs is not None
        assert [t.logprob for t in output_choice.logprobs.content] == pytest.approx(completion.logprobs, abs=1e-4)
        assert output_choice.stop_reason == {"end": "stop", "stop": "stop", "length": "max_tokens"}[completion.stop]
    assert output.usage is not None
    assert output.usage.input_tokens == len(assistant.template.encode_prompt(SAID))
    assert output.usage.output_tokens == sum(len(c.ids) for c in expected)


def test_a_stop_sequence_ends_the_text(name: str) -> None:
    (whole,) = ask(name, GenerateConfig(temperature=0, max_tokens=16))
    text = whole.choices[0].message.text
    stop = text[3:5]
    (cut,) = ask(name, GenerateConfig(temperature=0, max_tokens=16, stop_seqs=[stop]))
    assert cut.choices[0].message.text == text[: text.index(stop)] and cut.stop_reason == "stop"
    assert whole.stop_reason == "max_tokens" and whole.choices[0].logprobs is None


def test_many_at_once_are_as_one_alone(name: str, assistant: LocalAssistant) -> None:
    configs = [GenerateConfig(max_tokens=6 + n % 5, seed=n) for n in range(12)]
    for n, output in enumerate(ask(name, *configs)):
        (expected,) = assistant.reply([SAID], Sampling(max_tokens=6 + n % 5), seeds=[n])
        assert output.choices[0].message.text == expected[0].text


def test_without_a_seed_samples_differ_and_a_new_process_repeats_them(name: str) -> None:
    first = [out.choices[0].message.text for out in ask(name, *[GenerateConfig(max_tokens=8)] * 5)]
    assert len(set(first)) > 1
    assert [out.choices[0].message.text for out in ask(name, *[GenerateConfig(max_tokens=8)] * 5)] == first
    seeded = [out.choices[0].message.text for out in ask(name, *[GenerateConfig(max_tokens=8, seed=3)] * 3)]
    assert len(set(seeded)) == 1


def test_an_open_assistant_turn_is_continued(name: str, assistant: LocalAssistant) -> None:
    messages = [*ASKED, ChatMessageAssistant(content="It sits on")]
    (output,) = ask(name, GenerateConfig(temperature=0, max_tokens=8), messages=messages)
    said = [*SAID, {"role": "assistant", "content": "It sits on"}]
    (expected,) = assistant.reply([said], Sampling(temperature=0, max_tokens=8))  # type: ignore[list-item]
    assert output.choices[0].message.text == expected[0].text


@pytest.mark.parametrize(
    ("messages", "config", "problem"),
    [
        (ASKED, {"presence_penalty": 0.5}, "does not support presence_penalty; leave it out"),
        (ASKED, {"logprobs": True, "top_logprobs": 3}, "does not support top_logprobs"),
        (ASKED, {"temperature": -1.0}, "sampling needs temperature >= 0"),
        ([ChatMessageUser(content="word " * 1200)], {}, "the context holds 1024 with the reply"),
        ([ChatMessageUser(content=[ContentImage(image="data:image/png;base64,")])], {}, "more than text"),
        ([*ASKED, ChatMessageTool(content="4")], {}, "the dialogue has a tool's result"),
        ([ChatMessageSystem(content="Alone")], {}, "there is only a system message"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(
    name: str, messages: list[ChatMessage], config: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CharterError, match=problem):
        ask(name, GenerateConfig(max_tokens=4, **config), messages=messages)


def test_tools_are_refused(name: str) -> None:
    async def call() -> None:
        async with opened(name) as model:
            tool = ToolInfo(name="add", description="adds")
            await model.api.generate(list(ASKED), [tool], "auto", GenerateConfig())

    with pytest.raises(CharterError, match="can't call tools"):
        asyncio.run(call())


def test_a_model_that_is_none_is_refused_in_a_line(name: str, checkpoints: Path) -> None:
    for ref, problem in (
        ("charter/nowhere", "there is no run or model nowhere"),
        (f"charter/{checkpoints / 'reward'}", "Inspect needs checkpoint"),
    ):
        with pytest.raises(Exception, match=problem) as caught:
            get_model(ref, memoize=False)
        assert type(caught.value).__name__ == "PrerequisiteError", "Inspect prints it without a traceback"
    with pytest.raises(Exception, match="takes no model argument 'speed'; use device, precision or slots"):
        get_model(name, memoize=False, speed=3)


def test_its_own_tasks_run_by_the_models_name(name: str, assistant: LocalAssistant, tmp_path: Path) -> None:
    questions = ("Say a word.", "Name a colour.", "Count to three.")
    (replies,) = zip(
        *assistant.reply([[user(q)] for q in questions], Sampling(temperature=0, max_tokens=10)), strict=True
    )
    targets = [replies[0].text[:4], "never said", replies[2].text[-3:]]
    written = Task(
        dataset=MemoryDataset([Sample(input=q, target=t) for q, t in zip(questions, targets, strict=True)]),
        solver=generate(),
        scorer=includes(),
        name="written",
    )
    picked = Task(
        dataset=MemoryDataset([Sample(input="Which is green?", choices=["grass", "coal"], target="A")]),
        solver=[system_message("Be brief."), multiple_choice()],
        scorer=choice(),
        name="picked",
    )
    logs = run_eval(
        [written, picked], model=name, model_args={"precision": "float32"}, log_dir=str(tmp_path),
        display="none", temperature=0, max_tokens=10,
    )  # fmt: skip
    assert [log.status for log in logs] == ["success", "success"], [log.error for log in logs]
    samples = logs[0].samples
    assert samples is not None
    assert [s.output.completion for s in samples] == [r.text for r in replies]
    assert [s.scores["includes"].value for s in samples if s.scores] == ["C", "I", "C"]
    assert logs[0].results is not None
    assert logs[0].results.scores[0].metrics["accuracy"].value == pytest.approx(2 / 3)
    assert logs[1].samples is not None and logs[1].samples[0].scores
