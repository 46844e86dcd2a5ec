"""What a model knows by its own answers: known questions are answered, unknown ones declined, those between left out.

A question is known if at least `known` of k sampled answers are right, unknown if at most `unknown` are (R-Tuning:
Zhang 2023, 2311.09677, refusal-aware data; Cheng 2024, 2401.13275, known and unknown by samples). Nothing can be known
of an invented thing. Lessons that decline are at most a share of all, or the model learns to decline everything.
"""

from __future__ import annotations

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import open_assistant
from charter.ground.text.records import read_texts
from charter.rooms.honesty.answers import QUESTIONS, read_questions, sample
from charter.rooms.honesty.lessons import balance, compare, count, lesson
from charter.rooms.honesty.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (lessons), comparisons.jsonl (right over declined over wrong), samples/questions.jsonl,
    counts.json."""
    questions = read_questions(settings, inputs)
    declines = [text for _, text in read_texts(inputs.one("declines").folder)]
    rows = sample(settings, questions, open_assistant(inputs.one("policy"), out.device, precision=out.precision), out)
    kept = balance(settings, rows)
    lessons = [lesson(row, declines, settings.draw_seed) for row in rows if row["id"] in kept]
    comparisons = [pair for row in rows for pair in compare(row, declines, settings.draw_seed)]
    out.write_jsonl("dialogues.jsonl", lessons)
    out.write_jsonl("comparisons.jsonl", comparisons)
    out.write_jsonl(f"samples/{QUESTIONS}", [{**row, "kept": row["id"] in kept} for row in rows])
    out.counts(count(rows, lessons, comparisons))
