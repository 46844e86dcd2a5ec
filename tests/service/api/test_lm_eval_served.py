"""lm-evaluation-harness through the server (`local-completions`): every request scores as our own adapter scores it, and a
task comes to the same number.
"""

# ruff: noqa: E402 (what follows needs the extra)
from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

for package in ("lm_eval", "aiohttp", "transformers"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[lm-eval]'", allow_module_level=True)

import lm_eval
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager
from lobby import MODEL, Hall, open_hall

from charter.interop.lm_eval_model import CharterLM

WORDS = ("green", "red", "white", "black", "blue", "yellow")
COLOURS = [
    {"question": f"Which colour is {thing}?", "choices": [right, *(w for w in WORDS if w != right)][:4], "gold": 0}
    for thing, right in (
        ("grass", "green"),
        ("coal", "black"),
        ("a ripe banana", "yellow"),
        ("the sky", "blue"),
        ("fresh snow", "white"),
        ("blood", "red"),
    )
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hall")


@pytest.fixture(scope="module")
def hall(folder: Path) -> Iterator[Hall]:
    with open_hall(folder) as made:
        yield made


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks in the harness's own form: a choice by log-probabilities, and a greedy answer."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "colours.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in COLOURS))
    shared: dict[str, Any] = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
    }
    choice = {
        "task": "colour_choice",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    written = {
        "task": "colour_written",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[gold]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    for task in (choice, written):  # JSON is YAML
        (tmp_path / f"{task['task']}.yaml").write_text(json.dumps(shared | task))
    return tmp_path


@pytest.mark.parametrize("batch", [1, 4])
def test_a_task_scores_through_the_server_as_our_adapter_scores_it(
    hall: Hall, folder: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", hall.key())
    checkpoint = str(folder / "policy")
    served = LocalCompletionsAPI(
        base_url=f"{hall.url}/v1/completions",
        model=MODEL,
        tokenizer=checkpoint,
        tokenizer_backend="huggingface",
        max_length=1024,
        batch_size=batch,
        num_concurrent=1,
    )
    found = [
        lm_eval.simple_evaluate(
            model=lm,
            tasks=["colour_choice", "colour_written"],
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            bootstrap_iters=0,
        )
        for lm in (served, CharterLM(checkpoint))
    ]
    mine, other = found
    assert mine["results"] == other["results"]
    assert 0 <= mine["results"]["colour_choice"]["acc,none"] <= 1
    for a, b in zip(mine["samples"]["colour_choice"], other["samples"]["colour_choice"], strict=True):
        logprobs, greedy = ([[x[0][n] for x in s["resps"]] for s in (a, b)] for n in (0, 1))
        assert logprobs[0] == pytest.approx(logprobs[1], rel=1e-5) and greedy[0] == greedy[1]
    written = [[s["resps"] for s in one["samples"]["colour_written"]] for one in found]
    assert written[0] == written[1] and any(text for ((text,),) in written[0])
