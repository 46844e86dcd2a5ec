"""Critique and revision: what is kept, what is dropped and why, and a stopped run resumed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.constitution import shipped_constitution
from charter.ground.constitution.wording import CRITIQUE, REVISION, conversation_text
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message
from charter.ground.text.examples import read_transcripts
from charter.ground.text.records import read_dialogues
from charter.rooms.critique import run as room
from charter.rooms.critique.product import REASONS, fault
from charter.rooms.critique.settings import Settings, check
from toys import Scripted, dialogue

Asked = Sequence[Message]
DRAFT = "Sure, here is how you do that."
KIND = "I won't do that, but I can help otherwise"
SETTINGS = Settings(rounds=2, shots=0, chunk=2)


@pytest.mark.parametrize(
    ("revision", "before", "stop", "expected"),
    [
        ("", "Before.", "end", "empty"),
        ("Just three words", "Before.", "end", "empty"),
        ("Sure -- here is HOW, you do that!", DRAFT, "end", "identical"),
        ("I won't do that, because it would", DRAFT, "length", "truncated"),
        ("Please stop it. " * 12, DRAFT, "end", "loop"),
        ("Here it is. Critique: it is too long", DRAFT, "end", "marker"),
        ("Fine with me.\n\nHuman: and now?", DRAFT, "end", "marker"),
        ("Here is the revised version of the reply.", DRAFT, "end", "marker"),
        ("I won't do that; critique and revision are words too.", DRAFT, "end", None),
        ("I won't do that, but here is another way.", DRAFT, "stop", None),
    ],
)
def test_reasons_to_drop_a_revision(revision: str, before: str, stop: str, expected: str | None) -> None:
    assert fault(revision, before, stop) == expected
    assert expected is None or expected in REASONS


@pytest.fixture
def inputs(tmp_path: Path, checkpoints: Path) -> Inputs:
    rows = [
        dialogue(f"p{n}", f"Help me with bad thing {n}.", "An answer that is not asked for.", topic="theft")
        for n in range(5)
    ]
    return Inputs(
        [
            toys.policy(checkpoints / "policy", "start"),
            toys.policy(checkpoints / "other", "critic"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", rows)),
            toys.constitution(),
            toys.given("shots", shipped("critique_shots")),
        ]
    )


def critic(revise: Any = None) -> Scripted:
    """Drafts, criticises, and revises: by default to a text that names how many critiques came before it."""

    def say(messages: Asked, k: int) -> str:
        opening = messages[-1]["content"]
        if opening == CRITIQUE:
            return " The reply helps with a wrong. "
        if opening == REVISION:
            return f" {revise(messages)} " if revise else f" {KIND}, {len(messages[0]['content'])} ways. "
        return DRAFT

    return Scripted(say)


def put_in(monkeypatch: pytest.MonkeyPatch, **roles: Scripted) -> None:
    monkeypatch.setattr(room, "open_assistant", lambda source, device, precision: roles[source.role])


def run_room(settings: Settings, inputs: Inputs, folder: Path) -> Path:
    out = toys.workspace(folder)
    room.run(settings, inputs, out)
    return out.path


def test_the_product_reads_back_as_dialogues_and_transcripts(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, reviser = critic(), critic()
    put_in(monkeypatch, start=start, critic=reviser)
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    dialogues, transcripts = read_dialogues(out.path), read_transcripts(out.path)
    assert [d.id for d in dialogues] == [f"p{n}-r{r}" for n in range(5) for r in (1, 2)]
    assert len(transcripts) == 5 and all(t["draft"] == DRAFT for t in transcripts)
    for d in dialogues:
        made_by = next(t for t in transcripts if d.id.startswith(t["id"]))["rounds"][d.meta["round"] - 1]
        assert d.messages[-1] == {"role": "assistant", "content": made_by["revision"]}
        assert d.source == f"revision:{made_by['key']}" and d.topic == "theft" and len(d.messages) == 2
        shipped_constitution().critique(made_by["key"])
    assert {m.name: m.value for m in out.metrics} == {
        "prompts": 5,
        "revisions": 10,
        "kept": 10,
        "kept_share": 1.0,
        **{f"dropped_{r}": 0 for r in REASONS},
    }
    assert json.loads((out.path / "counts.json").read_text())["kept"] == 10
    assert all(m[-1]["role"] == "user" for m in start.asked), "prompts are asked without the answers at hand"


def test_each_round_starts_from_the_revision_before(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviser = critic()
    put_in(monkeypatch, start=critic(), critic=reviser)
    path = run_room(SETTINGS, inputs, tmp_path / "out")
    for t in read_transcripts(path):
        first = t["rounds"][0]["revision"]
        reply = {"role": "assistant", "content": first}
        later = conversation_text([*t["messages"], reply])  # type: ignore[list-item]
        requests = [m for m in reviser.asked if m[0]["content"].startswith(later)]
        assert len(requests) == 2, "the second round's critique and revision are asked about the first's revision"
    keys = {step["key"] for t in read_transcripts(path) for step in t["rounds"]}
    assert len(keys) > 2, "a principle is drawn for each prompt and round"


def test_a_dropped_round_leaves_the_reply_as_it_was(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revise(messages: Asked) -> str:
        return f"{KIND}, in one way." if DRAFT in messages[0]["content"] else "No."

    put_in(monkeypatch, start=critic(), critic=critic(revise))
    path = run_room(Settings(rounds=3, shots=0), inputs, tmp_path / "out")
    for t in read_transcripts(path):
        assert [r["dropped"] for r in t["rounds"]] == [None, "empty", "empty"]
    assert len(read_dialogues(path)) == 5


def test_a_reviser_that_changes_nothing_gives_only_identical_drops(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, start=critic(), critic=critic(lambda messages: DRAFT))
    with pytest.raises(CharterError, match=r"kept 0 of 10 revisions \(\{'identical': 10\}\)") as caught:
        run_room(SETTINGS, inputs, tmp_path / "out")
    assert "\n" not in str(caught.value) and not list((tmp_path / "out/files").iterdir())


def test_a_share_below_keep_at_least_is_refused(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(
        monkeypatch,
        start=critic(),
        critic=critic(lambda m: f"{KIND}, truly." if "thing 0" in m[0]["content"] else "No."),
    )
    with pytest.raises(CharterError, match=r"kept 1 of 5 .* keep_at_least is 0.5; use a stronger critic"):
        run_room(Settings(rounds=1, shots=0, keep_at_least=0.5), inputs, tmp_path / "refused")
    path = run_room(Settings(rounds=1, shots=0, keep_at_least=0.2), inputs, tmp_path / "kept")
    assert [d.id for d in read_dialogues(path)] == ["p0-r1"]


def test_shots_limit_and_tags(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviser = critic()
    put_in(monkeypatch, start=critic(), critic=reviser)
    path = run_room(Settings(rounds=1, shots=2, limit=3, tags=("evasion",)), inputs, tmp_path / "out")
    transcripts = read_transcripts(path)
    assert len(transcripts) == 3
    assert all("evasion" in shipped_constitution().critique(t["rounds"][0]["key"]).tags for t in transcripts)
    shown = read_transcripts(shipped("critique_shots"))[0]
    assert all(shown["draft"] in messages[0]["content"] for messages in reviser.asked)


def test_the_critic_is_opened_once_all_drafts_are_made(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = critic()
    opened = []

    def opening(source: Any, device: str, precision: str) -> Scripted:
        opened.append((source.role, len(start.asked)))
        return start if source.role == "start" else critic()

    monkeypatch.setattr(room, "open_assistant", opening)
    run_room(SETTINGS, inputs, tmp_path / "out")
    assert opened == [("start", 0), ("critic", 5)]


def test_stopped_and_resumed_is_equal_and_asks_nothing_twice(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, start=critic(), critic=critic())
    whole = run_room(SETTINGS, inputs, tmp_path / "whole")
    for stop in (1, 2, 5):
        start, reviser = critic(), critic()
        put_in(monkeypatch, start=start, critic=reviser)
        folder = tmp_path / f"broken{stop}"
        with pytest.raises(toys.Interrupted):
            room.run(SETTINGS, inputs, toys.workspace(folder, progress=toys.StoppingProgress(stop)))
        assert toys.files_of(run_room(SETTINGS, inputs, folder)) == toys.files_of(whole)
        assert len(start.asked) == 5 and len(reviser.asked) == 20, "saved chunks are not made again"


def test_a_real_model_that_says_nothing_sensible_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="kept 0 of 2"):
        run_room(
            Settings(rounds=1, shots=0, limit=2, draft_tokens=4, critique_tokens=4, revision_tokens=4),
            inputs,
            tmp_path / "o",
        )


def test_a_prompt_over_the_context_is_named(inputs: Inputs, tmp_path: Path) -> None:
    rows = [dialogue("short", "Help me."), dialogue("long", "Help me with this. " * 400)]
    prompts = toys.given("prompts", toys.rows_file(tmp_path / "long.jsonl", rows))
    others = [entry for entry in inputs if entry.role != "prompts"]
    with pytest.raises(CharterError, match=r"^prompt long: the prompt has \d+ tokens, the context holds 1024"):
        run_room(SETTINGS.model_copy(update={"chunk": 1}), Inputs([*others, prompts]), tmp_path / "o")
    assert not list((tmp_path / "o/state").iterdir()), "before anything is sampled"


def test_no_rounds_keep_the_drafts_and_need_no_critic(inputs: Inputs, tmp_path: Path) -> None:
    alone = Inputs([entry for entry in inputs if entry.role != "critic"])
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS.model_copy(update={"rounds": 0, "draft_tokens": 6}), alone, out)
    transcripts = read_transcripts(out.path)
    kept = {d.id: d for d in read_dialogues(out.path)}
    drafts = {f"{t['id']}-r0": t["draft"] for t in transcripts if t["draft"]}
    assert {name: d.messages[-1]["content"] for name, d in kept.items()} == drafts and drafts
    assert all(d.source == "sample" and d.learn_from == 1 for d in kept.values())
    assert {f"{t['id']}-r0" for t in transcripts if t["stop"] == "length"} & kept.keys() == {
        name for name, d in kept.items() if d.meta == {"round": 0, "cut": True}
    }
    counts = json.loads((out.path / "counts.json").read_text())
    assert counts == {m.name: m.value for m in out.metrics}
    assert counts["prompts"] == 5 and counts["samples"] == len(drafts) and counts["cut"] and not counts["loop"]


def test_drafts_may_be_drawn_as_the_start_itself_says(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    model, tokenizer = load_policy(checkpoints / "policy")
    model.generation = {"do_sample": False}
    save_policy(model, tokenizer, tmp_path / "start")
    greedy = Inputs([toys.policy(tmp_path / "start", "start"), *(i for i in inputs if i.role != "start")])
    settings = Settings(rounds=0, draft_tokens=8)
    drafts = []
    for name, temperature in (("own", None), ("greedy", 0.0), ("one", 1.0)):
        out = toys.workspace(tmp_path / name)
        room.run(settings.model_copy(update={"draft_temperature": temperature}), greedy, out)
        drafts.append([r["draft"] for r in read_transcripts(out.path)])
    assert drafts[0] == drafts[1] != drafts[2]


def test_drafts_that_loop_are_dropped_and_cut_ones_are_marked(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(messages: Asked, k: int) -> str:
        text = messages[-1]["content"]
        return "Please stop it. " * 12 if "thing 1" in text else "" if "thing 2" in text else f" {DRAFT}\n"

    no_rounds = SETTINGS.model_copy(update={"rounds": 0})
    for stop, mark in (("end", {}), ("length", {"cut": True})):
        put_in(monkeypatch, start=Scripted(say, stop=stop))
        path = run_room(no_rounds, inputs, tmp_path / stop)
        kept = read_dialogues(path)
        assert [d.id for d in kept] == ["p0-r0", "p3-r0", "p4-r0"]
        assert all(d.meta == {"round": 0} | mark and d.messages[-1]["content"] == DRAFT for d in kept)
        counts = json.loads((path / "counts.json").read_text())
        assert counts == {"prompts": 5, "samples": 3, "cut": 3 * len(mark), "loop": 1}
        assert [t["stop"] for t in read_transcripts(path)] == [stop] * 5
    with pytest.raises(CharterError, match="no draft is kept: of 5, 1 loop, 3 are cut, the others are empty"):
        run_room(no_rounds.model_copy(update={"keep_cut": False}), inputs, tmp_path / "none")


def test_settings_and_roles_that_contradict_each_other_are_named() -> None:
    assert "need the role critic" in check(SETTINGS, {"start", "prompts"})
    assert check(SETTINGS, {"start", "prompts", "critic"}) == ""
    no_rounds = SETTINGS.model_copy(update={"rounds": 0})
    assert check(no_rounds, {"start", "prompts"}) == ""
    assert "rounds: 0 makes none" in check(no_rounds.model_copy(update={"keep_at_least": 0.5}), {"start"})
    assert check(no_rounds.model_copy(update={"keep_cut": False}), {"start"}) == ""
    assert "only rounds: 0 keeps" in check(SETTINGS.model_copy(update={"keep_cut": False}), {"start", "critic"})


def test_steps_of_one_draw_seed_take_the_same_prompts(inputs: Inputs, tmp_path: Path) -> None:
    """Whatever their own seeds are: preference models set replies of several steps to one prompt side by side."""

    def drawn(seed: int, draw_seed: int) -> set[str]:
        out = toys.workspace(tmp_path / f"{seed}-{draw_seed}", seed=seed)
        update = {"rounds": 0, "limit": 2, "draft_tokens": 3, "draw_seed": draw_seed}
        room.run(SETTINGS.model_copy(update=update), inputs, out)
        return {t["id"] for t in read_transcripts(out.path)}

    assert drawn(1, 0) == drawn(2, 0) and len(drawn(1, 0)) == 2
    assert len({frozenset(drawn(1, seed)) for seed in range(6)}) > 1
