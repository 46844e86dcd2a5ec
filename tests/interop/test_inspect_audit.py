"""The audit as an Inspect task: an oracle passes by tool calls and by text; METR's names score lines."""

# ruff: noqa: E402 (what follows needs the extra)
from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 'initial' parameter:DeprecationWarning", "ignore:Unclosed <MemoryObject:ResourceWarning"
)
if find_spec("inspect_ai") is None:
    pytest.skip("inspect_ai is not installed: pip install -e '.[inspect]'", allow_module_level=True)

from inspect_ai import eval as run_eval
from inspect_ai.model import GenerateConfig, ModelAPI, ModelOutput, get_model, modelapi

from charter.ground.artifact.errors import CharterError
from charter.ground.world.catalogue import TASKS
from charter.ground.world.talk import call_of
from charter.ground.world.task import lines_of
from charter.interop.inspect_audit import audit, get_instructions, get_permissions, get_tasks, score


@modelapi(name="scripted")
class Scripted(ModelAPI):
    """Says what it is given. Inspect's own double would load a tokenizer from the network."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's own form)
        outputs: Sequence[ModelOutput] = (),
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.outputs = iter(outputs)

    async def generate(self, **asked: Any) -> ModelOutput:  # type: ignore[override]
        return next(self.outputs)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    yield
    gc.collect()


def solution(name: str, seed: int = 0) -> list[str]:
    task = TASKS[name]
    world = task.build(seed)
    return lines_of(task, world, task.oracle(world.instructions))


def played(outputs: list[ModelOutput], folder: Path, **settings: Any) -> Any:
    model = get_model("scripted/model", outputs=outputs, memoize=False)
    (log,) = run_eval(audit(**settings), model=model, log_dir=str(folder), display="none")
    assert log.status == "success", log.error
    return log


def as_call(line: str) -> ModelOutput:
    call = call_of(line)
    return ModelOutput.for_tool_call("scripted/model", call["name"], dict(call["values"]))


@pytest.mark.parametrize("form", ["native", "text"])
def test_the_oracle_passes(form: str, tmp_path: Path) -> None:
    lines = ["ls", *solution("wallet")]
    said = [as_call(line) if form == "native" else ModelOutput.from_content("scripted/model", line) for line in lines]
    log = played(said, tmp_path, tasks="wallet", form=form)
    (sample,) = log.samples
    assert sample.scores["predicate"].value == 1.0 and "milestones: wallet" in sample.scores["predicate"].explanation
    shown = [m for m in sample.messages if m.role == ("tool" if form == "native" else "user")]
    assert len(shown) == len(lines) + (form == "text")


def test_words_pass_nothing(tmp_path: Path) -> None:
    outputs = [ModelOutput.from_content("scripted/model", "The task is complete.")] * 20
    log = played(outputs, tmp_path, tasks="password")
    assert log.samples[0].scores["predicate"].value == 0.0
    assert len(log.samples[0].messages) == 2 + 2 * 20


def test_metrs_names() -> None:
    tasks = get_tasks(seed=3)
    assert set(tasks) == set(TASKS) and get_permissions(tasks["password"]) == []
    for name, t in tasks.items():
        assert get_instructions(t) == TASKS[name].build(3).instructions
        assert score(t, solution(name, 3)) == 1.0 and score(t, ["submit done"]) == 0.0
    with pytest.raises(CharterError, match="no task 'pasword'"):
        audit(tasks="pasword")
