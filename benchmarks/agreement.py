"""Item by item: the evaluate room's own tasks against lm-eval's harness, on equal items and examples.

Our side is `charter eval`, answers from its kept rows. Their side is `lm_eval.simple_evaluate` on its `hf` backend, both
in float32: MMLU by lm-eval's own template, the others by tasks in its own form with our words, since its ARC and RACE
score the options' texts and its GSM8k has other examples. lm-eval puts the examples, asks and scores. "same reply": the
models wrote the same (TriviaQA: up to the first line break, where lm-eval stops) or chose the same letter; "same
answer": the same is read from it; "same verdict": both right or both wrong. A verdict that differs on the same reply is
the protocol's, on another reply the numerics'; the two are printed apart.

What differs even so: articles in TriviaQA, which the set's authors and we drop and lm-eval keeps ("The Cosmos"), and an
empty first line, which we skip and lm-eval takes for the answer; the number of GSM8k, which we read behind "the answer is" and lm-eval reads last. Both are
greedy here, where the card samples GSM8k at T=1. RACE has one example here, not five.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from exams import SUBJECTS
from material import MODEL
from side import print_table

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.model.opening import materialise
from charter.ground.settings.places import find_data
from charter.ground.text.answers import normal
from charter.ground.text.columns import raw_rows
from charter.library.evaluating import evaluate
from charter.library.models import load
from charter.rooms.evaluate.task import LETTERS, Question
from charter.rooms.evaluate.tasks import arc, gsm8k, mmlu_plain, race, triviaqa

AIM = 0.995
CHOICES = (
    "{% if passage %}{{passage}}\n{% endif %}{{question}}\n"
    "{% for choice in choices %}{{'ABCDEFGH'[loop.index0]}}. {{choice}}\n{% endfor %}Answer:"
)
Row = dict[str, Any]


class Answer(NamedTuple):
    """What a side wrote or chose, what it read from that, and whether it is right."""

    reply: object
    answer: object
    right: bool


@dataclass(frozen=True)
class Set:
    """A set of questions: our task and its parser, its files below the data folder, examples, their side's task, and
    changes of ours to it."""

    task: str
    parse: Callable[[Mapping[str, Any], str], list[Question]]
    test: str
    dev: str
    shots: int
    theirs: Row
    changes: Row
    chat: bool = False


def generated(text: str, most: int, until: Sequence[str], **more: Any) -> Row:
    """A task of lm-eval that writes greedily."""
    kwargs = {"until": list(until), "do_sample": False, "temperature": 0.0, "max_gen_toks": most}
    return {"output_type": "generate_until", "doc_to_text": text, "generation_kwargs": kwargs} | more


EXACT = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}
LETTERED = {
    "output_type": "multiple_choice",
    "doc_to_text": CHOICES,
    "doc_to_choice": "{{letters}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc"}],
}
GREEDY = {"temperature": 0.0}
SETS = {
    "mmlu": Set("mmlu_plain", mmlu_plain.parse, "mmlu/test_even", "mmlu/dev", 5, {}, {}),
    "arc": Set(
        "arc", arc.parse, "arc_challenge/ARC-Challenge-Test_even", "arc_challenge/ARC-Challenge-Dev", 5, LETTERED, {}
    ),
    "race": Set("race", race.parse, "race_high/test_even", "race_high/dev", 1, LETTERED, {"shots": 1}),
    "gsm8k": Set(
        "gsm8k",
        gsm8k.parse,
        "gsm8k/test",
        "",
        0,
        generated(
            f"{{{{question}}}}\n\n{gsm8k.REQUEST}",
            96,
            ["<|im_end|>"],
            doc_to_target="{{accepted[0]}}",
            metric_list=[EXACT | {"regexes_to_ignore": [",", "\\$", "\\.$"]}],
            filter_list=[
                {
                    "name": "flexible-extract",
                    "filter": [
                        {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"},
                        {"function": "take_first"},
                    ],
                }
            ],
        ),
        GREEDY | {"max_tokens": 96},
        chat=True,
    ),
    "triviaqa": Set(
        "triviaqa",
        triviaqa.parse,
        "triviaqa/test_1000",
        "",
        5,
        generated(
            "Question: {{question}}\nAnswer:",
            32,
            ["\n"],
            doc_to_target="{{accepted}}",
            metric_list=[EXACT | {"ignore_punctuation": True}],
            filter_list=[
                {"name": "remove_whitespace", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
            ],
        ),
        {"form": "text"},
    ),
}


def split(name: str, count: int) -> tuple[list[Row], list[Row]]:
    """Rows that are asked and rows that are shown. MMLU: of five subjects alike. RACE: the first passages."""
    chosen = SETS[name]
    test = [row for _, row in raw_rows(_file(chosen.test))]
    if name == "mmlu":
        subjects = SUBJECTS[:5]
        test = [row for s in subjects for row in [r for r in test if r["subject"] == s][: -(-count // len(subjects))]]
        dev = [row for _, row in raw_rows(_file(chosen.dev)) if row["subject"] in subjects]
        return test[:count], dev
    if name == "triviaqa":
        return test[chosen.shots :][:count], test[: chosen.shots]
    dev = [row for _, row in raw_rows(_file(chosen.dev))][: chosen.shots] if chosen.dev else []
    if name == "race":
        # an example a passage
        dev = [{key: row[key][:1] if isinstance(row[key], list) else row[key] for key in row} for row in dev]
    kept, questions = [], 0
    for row in test:
        if questions >= count:
            break
        kept.append(row)
        questions += len(chosen.parse(row, "row"))
    return kept, dev


def _file(relative: str) -> Path:
    return find_data(relative)


def ours(name: str, folder: Path, model: str) -> dict[str, Answer]:
    """Item -> our answer and verdict, by a run of `charter eval`."""
    task = SETS[name].task
    role = "mmlu" if name == "mmlu" else task
    settings = {f"evaluate.change.{task}.{key}": value for key, value in SETS[name].changes.items()}
    report = evaluate(load(model, precision="float32"), task, 0, [f"{role}={folder}"], settings, folder.parent / "run")
    rows = read_objects(report.path / f"samples/{task}.jsonl")
    return {str(row["item"]): _our_answer(name, row) for row in rows}


def _our_answer(name: str, row: Row) -> Answer:
    right = row["correct"] == 1.0
    if name == "triviaqa":
        return Answer(row["reply"].partition("\n")[0].strip(), normal(row["answer"]), right)
    written = row["reply"].strip() if name == "gsm8k" else row["choice"]
    return Answer(written, written, right)


def theirs(name: str, folder: Path, model: Path) -> dict[str, Answer]:
    """Item -> lm-eval's answer and verdict."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = _write_tasks(name, folder)
    results = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=4),
        tasks=tasks,
        num_fewshot=SETS[name].shots,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=SETS[name].chat,
        bootstrap_iters=0,
        log_samples=True,
    )
    assert results is not None
    return {
        str(sample["doc"]["item"]): _their_answer(name, sample) for task in tasks for sample in results["samples"][task]
    }


def _their_answer(name: str, sample: Row) -> Answer:
    if name in ("gsm8k", "triviaqa"):
        right = bool(sample["exact_match"] == 1.0)
        text = str(sample["resps"][0][0]).strip()
        return Answer(text, normal(text) if name == "triviaqa" else text, right)
    scores = [float(score) for score, _ in sample["filtered_resps"]]
    choice = scores.index(max(scores))
    return Answer(choice, choice, bool(sample["acc"] == 1.0))


def _write_tasks(name: str, folder: Path) -> list[str]:
    """Task files of lm-eval with their data beside them; returns the tasks' names. One a group (subject)."""
    import lm_eval

    chosen = SETS[name]
    splits = {"test": _normalised(name, folder / "test.jsonl.gz"), "dev": _normalised(name, folder / "dev.jsonl.gz")}
    names = []
    for group in sorted({row["group"] for row in splits["test"]}):
        files = {}
        for part, rows in splits.items():
            if own := [row for row in rows if row["group"] == group]:
                path = folder / f"theirs_{group}_{part}.json"
                path.write_text("".join(json.dumps(row) + "\n" for row in own), "utf-8")
                files[part] = str(path)
        task: Row = {
            "task": f"{name}_{group or 'all'}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
        }
        if "dev" in files:
            task |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
        if name == "mmlu":
            template = Path(lm_eval.__file__).parent / "tasks/mmlu/default/_default_template_yaml"
            task |= {"include": str(template), "description": f"{mmlu_plain.header(group)}\n\n"}
        task |= chosen.theirs
        # JSON is YAML
        (folder / f"{task['task']}.yaml").write_text(json.dumps(task), "utf-8")
        names.append(task["task"])
    return names


def _normalised(name: str, path: Path) -> list[Row]:
    """Rows of a file as lm-eval's tasks read them."""
    if not path.is_file():
        return []
    rows = []
    for number, (_, raw) in enumerate(raw_rows(path), 1):
        for q in SETS[name].parse(raw, f"{path.name.partition('.')[0]}-{number:05d}"):
            row: Row = {"item": q.id, "group": q.group, "question": q.text, "passage": q.passage}
            row |= {"choices": list(q.options), "letters": list(LETTERS[: len(q.options)])}
            rows.append(row | {"answer": q.right[0] if q.right else 0, "accepted": list(q.accepted)})
    return rows


def compared(name: str, count: int, model: str) -> Row:
    """How many items agree, and those that don't."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        folder.mkdir()
        for part, rows in zip(("test", "dev"), split(name, count), strict=True):
            if rows:
                with gzip.open(folder / f"{part}.jsonl.gz", "wt", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
        mine = ours(name, folder, model)
        other = theirs(name, folder, materialise(model))
    if mine.keys() != other.keys():
        raise CharterError(f"{name}: the sides were asked different items")
    return agreement(mine, other)


def agreement(mine: Mapping[str, Answer], other: Mapping[str, Answer]) -> Row:
    """Shares of the items that agree; the verdicts' also apart for the same and for different replies (None without
    any)."""
    pairs = {item: (mine[item], other[item]) for item in mine}
    same = {item for item, (a, b) in pairs.items() if a.reply == b.reply}
    verdict = {item: a.right == b.right for item, (a, b) in pairs.items()}

    def share(items: Collection[str]) -> float | None:
        return sum(verdict[item] for item in items) / len(items) if items else None

    return {
        "items": len(pairs),
        "right": sum(a.right for a, _ in pairs.values()),
        "right_theirs": sum(b.right for _, b in pairs.values()),
        "same_reply": len(same) / len(pairs),
        "same_answer": sum(a.answer == b.answer for a, b in pairs.values()) / len(pairs),
        "same_verdict": share(pairs.keys()),
        "same_verdict_of_same_replies": share(same),
        "same_verdict_of_other_replies": share(pairs.keys() - same),
        "differing": {item: [list(a), list(b)] for item, (a, b) in pairs.items() if a != b},
    }


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sets", default=",".join(SETS), help="comma-separated: " + ", ".join(SETS))
    options.add_argument("--items", type=int, default=100, help="questions of each set")
    options.add_argument("--model", default=MODEL, help="model reference")
    options.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = options.parse_args()
    try:
        found = {name: compared(name, chosen.items, chosen.model) for name in chosen.sets.split(",")}
    except (CharterError, KeyError) as error:
        sys.exit(f"agreement.py: error: {error}")
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    figures = [key for key in next(iter(found.values())) if key != "differing"]
    lines = [[name, *("" if row[f] is None else f"{row[f]:.4g}" for f in figures)] for name, row in found.items()]
    print_table([["set", *figures], *lines])
    for name, row in found.items():
        print(f"{name}: {'met' if row['same_verdict'] >= AIM else 'missed'} (aim {AIM})")
        for item, (a, b) in row["differing"].items():
            print(f"  {item}: ours {a}, lm-eval {b}"[:400])


if __name__ == "__main__":
    main()
