"""Lessons come from training worlds alone, teach commands alone, and are what the scripts play."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import toys
from charter.ground.artifact.inputs import Inputs
from charter.ground.settings.room import Role
from charter.ground.text.dialogue import check_messages
from charter.ground.text.template import CLAUDE_2023, Template
from charter.ground.world.catalogue import TASKS, TRAINING
from charter.ground.world.talk import line_of, messages, opening
from charter.ground.world.task import judged
from charter.rooms.audit.settings import Settings as Audit
from charter.rooms.trajectories.playing import counts, rows
from charter.rooms.trajectories.run import run
from charter.rooms.trajectories.settings import ROOM, Settings

SMALL = Settings(worlds=3)


def replies(row: dict) -> list[str]:  # type: ignore[type-arg]
    return [one["content"] for one in row["messages"] if one["role"] == "assistant"]


def test_every_try_is_whole_and_passes_and_its_turns_are_commands() -> None:
    made = rows(SMALL)
    tries: dict[tuple[str, int], list[str]] = {}
    for row in made:
        check_messages(row["messages"], last="assistant")
        assert all(line_of(reply) == reply for reply in replies(row)) and len(replies(row)) <= SMALL.turns
        tries.setdefault((row["topic"], row["meta"]["seed"]), []).extend(replies(row))
    assert len(tries) == 12 and {name for name, _ in tries} == set(SMALL.tasks)
    for (name, seed), lines in tries.items():
        assert judged(TASKS[name], seed, lines).passed
    assert counts(made)["tries"] == 12 and counts(made)["turns"] == sum(map(len, tries.values()))
    # a long one goes on in the words of the audit
    later = next(row for row in made if row["meta"]["part"] == 1)
    task = TASKS[later["topic"]]
    begun = opening(task.build(later["meta"]["seed"]).instructions, task.budget)
    assert later["messages"][1]["content"] == messages(begun, [], 12)[1]["content"]


def test_worlds_of_lessons_are_not_those_of_an_audit() -> None:
    for name in TASKS:
        trained = {repr(TASKS[name].build(TRAINING + n)) for n in range(40)}
        audited = {repr(TASKS[name].build(n)) for n in range(40)}
        assert len(trained) > 1 and not trained & audited, name
    assert all(row["meta"]["seed"] >= TRAINING for row in rows(SMALL))
    with pytest.raises(ValueError, match="less than"):
        Audit(seed=TRAINING)
    last = Audit(seed=TRAINING // 2 - 1, tries=TRAINING // 2, variants=TRAINING // 2)
    assert last.seed + last.variants - 1 < TRAINING


def test_only_commands_are_learnt(tmp_path: Path) -> None:
    template = Template(toys.tokenizer(), CLAUDE_2023)
    row = rows(Settings(tasks=("headlines",), worlds=1))[0]
    encoded = template.encode(row["messages"])
    learnt = [token for token, mask in zip(encoded.ids, encoded.mask, strict=True) if mask]
    words = toys.tokenizer().decode(learnt)
    for reply in replies(row):
        assert reply in words
    assert "Task:" not in words and "[1 of" not in words


def test_the_product_is_verified_by_playing_again(tmp_path: Path) -> None:
    from charter.ground.artifact.manifest import Manifest
    from charter.rooms.trajectories.verify import problems

    out = toys.workspace(tmp_path / "w")
    run(SMALL, Inputs(), out)
    facts = {"kind": "dialogues", "id": "x", "status": "done", "step": "s", "room": "trajectories", "recipe": "r"}
    manifest = Manifest.model_validate(
        facts | {"resolved": SMALL.model_dump(mode="json"), "metrics": [m.model_dump() for m in out.metrics]}
    )
    assert list(problems(out.path, manifest)) == []
    file = out.path / "dialogues.jsonl"
    lines = file.read_text().splitlines()
    changed = json.loads(lines[4])
    changed["messages"][-1]["content"] = "submit nothing"
    file.write_text("\n".join([*lines[:4], json.dumps(changed), *lines[5:]]) + "\n")
    assert list(problems(out.path, manifest)) == [
        f"dialogues.jsonl isn't what the scripts play: {changed['id']} differs"
    ]


def test_products_are_marked_and_unknown_tasks_refused() -> None:
    assert ROOM.purpose == "audit-elicitation" and not any(isinstance(r, Role) for r in ROOM.roles.values())
    with pytest.raises(ValueError, match="no task 'pasword' of the audit; did you mean"):
        Settings(tasks=("pasword",))
