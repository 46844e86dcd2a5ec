"""Which task of the benchmark room a metric or a file of kept rows is of, by its name."""

from collections.abc import Collection


def task_of(name: str, tasks: Collection[str]) -> str:
    """The task that a metric or a file of kept rows is of, by its name: `mmlu` of mmlu.jsonl, and of mmlu_hard.jsonl
    unless there is a task of that name; empty where there is none."""
    stem = name.removesuffix(".jsonl")
    return max((t for t in tasks if f"{stem}_".startswith(f"{t}_")), key=len, default="")
