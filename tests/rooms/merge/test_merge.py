"""The line through two checkpoints, by hand; the place that is taken; replies of each place; resuming."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import Kept, count_problems
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import sampling_at
from charter.ground.judge.detect import is_refusal
from charter.ground.model.checkpoint import load_policy, named_tensors, save_policy
from charter.ground.settings.room import Sizes
from charter.ground.settings.seed import derive_seed
from charter.rooms.card.verify import source_problems
from charter.rooms.merge import run as room
from charter.rooms.merge.line import Line, Place, choose
from charter.rooms.merge.settings import Settings, estimate
from charter.rooms.merge.verify import COUNTS
from toys import SHAPE, dialogue

SETTINGS = Settings(shares=(1.0, 0.5, 0.0, 1.5), max_tokens=6, chunk=3)


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    def prompts_of(role: str, count: int) -> Any:
        rows = [dialogue(f"{role}{n}", f"Question {n} of {role}?") for n in range(count)]
        return toys.given(role, toys.rows_file(tmp_path / f"{role}.jsonl", rows))

    start, policy = (toys.policy(checkpoints / name, role) for name, role in (("policy", "start"), ("other", "policy")))
    return Inputs([start, policy, prompts_of("prompts", 5), prompts_of("harmless", 4)])


def run_room(settings: Settings, inputs: Inputs, folder: Path) -> Path:
    out = toys.workspace(folder)
    room.run(settings, inputs, out)
    return out.path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return named_tensors(load_policy(folder)[0])


def test_weights_move_on_the_line_and_its_ends_are_the_two_checkpoints(checkpoints: Path) -> None:
    start, policy = weights(checkpoints / "policy"), weights(checkpoints / "other")
    line = Line(checkpoints / "policy", checkpoints / "other", "cpu", "float32")
    for share in (1.5, 0.0, 0.25, 1.0):
        line.move(share)
        for name, tensor in named_tensors(line.model).items():
            a, b = start[name].double(), policy[name].double()
            torch.testing.assert_close(tensor.double(), a + share * (b - a), atol=1e-6, rtol=1e-6)
            if share in (0, 1):
                assert torch.equal(tensor, policy[name] if share else start[name])


@pytest.mark.parametrize(("bound", "taken"), [(0.05, 1.0), (0.02, 0.5), (0.1, 1.5), (0.3, 1.5), (0.001, 0.5)])
def test_the_place_that_refuses_most_within_the_bound_is_taken(bound: float, taken: float) -> None:
    places = [
        Place(0.2, 0.1, 0.02),
        Place(0.5, 0.5, 0.01),
        Place(1.0, 0.8, 0.04),
        Place(1.5, 0.9, 0.1),
        Place(2.0, 0.9, 0.3),
    ]
    assert choose(places, bound).share == taken


def test_of_equal_places_the_one_nearest_to_the_start_is_taken() -> None:
    assert choose([Place(share, 0.5, 0.0) for share in (0.6, 1.4, 2.0)], 0.0).share == 0.6


def test_the_product_is_the_model_at_the_share_that_its_replies_choose(
    inputs: Inputs, checkpoints: Path, tmp_path: Path
) -> None:
    path = run_room(SETTINGS, inputs, tmp_path / "out")
    rows = [json.loads(line) for line in (path / "samples" / "replies.jsonl").read_text().splitlines()]
    log = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    counts = json.loads((path / "counts.json").read_text())
    assert [line["share"] for line in log] == [0.0, 0.5, 1.0, 1.5] and len(rows) == 4 * 9
    for line in log:
        for group in ("prompts", "harmless"):
            flags = [is_refusal(row["reply"]) for row in rows if (row["asked"], row["share"]) == (group, line["share"])]
            assert line[f"refused_{group}"] == sum(flags) / len(flags)
    expected = choose(
        [Place(*(line[k] for k in ("share", "refused_prompts", "refused_harmless"))) for line in log], 0.04
    )
    assert counts["share"] == expected.share
    line = Line(checkpoints / "policy", checkpoints / "other", "cpu", "float32")
    line.move(expected.share)
    product = weights(path)
    assert all(torch.equal(product[name], tensor) for name, tensor in named_tensors(line.model).items())
    kept = Kept({"samples/replies.jsonl": rows}, counts, {})
    assert list(count_problems(COUNTS, kept)) == []
    for name in ("refused_harmless", "refused_harmless_rate"):
        flipped = Kept(kept.files, counts | {name: counts[name] + 1}, {})
        assert len(list(count_problems(COUNTS, flipped))) == 1


def test_every_number_of_the_step_has_a_source_that_verify_finds(inputs: Inputs, tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    said = Manifest(
        kind="checkpoint", id="0" * 64, status="done", step="threshold", room="merge", recipe="", metrics=out.metrics
    )
    assert {"refused_prompts_rate", "refused_harmless_rate"} <= {m.name for m in said.metrics}
    assert list(source_problems(out.path, said)) == []
    odd = [m.model_copy(update={"value": 0.7}) if m.name == "refused_prompts_rate" else m for m in said.metrics]
    wrong = said.model_copy(update={"metrics": odd})
    assert [problem.startswith("refused_prompts_rate is 0.7") for problem in source_problems(out.path, wrong)] == [True]


def test_replies_are_those_of_a_checkpoint_at_that_place_at_its_own_decoding(
    inputs: Inputs, checkpoints: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_policy(checkpoints / "other")
    model.generation = {"temperature": 0.6, "top_p": 0.8, "do_sample": True}
    save_policy(model, tokenizer, tmp_path / "policy")
    sources = [one for one in inputs if one.role != "policy"] + [toys.policy(tmp_path / "policy")]
    path = run_room(SETTINGS, Inputs(sources), tmp_path / "out")
    rows = [json.loads(line) for line in (path / "samples" / "replies.jsonl").read_text().splitlines()]
    line = Line(checkpoints / "policy", tmp_path / "policy", "cpu", "float32")
    line.move(0.5)
    save_policy(line.model, line.tokenizer, tmp_path / "half")
    half = LocalAssistant.open(tmp_path / "half")
    assert half.decoding.temperature == 0.6
    half_rows = [row for row in rows if row["share"] == 0.5]
    prompts = [[{"role": "user", "content": f"Question {row['id'][-1]} of {row['asked']}?"}] for row in half_rows]
    seeds = [derive_seed(5, "reply", row["id"]) for row in half_rows]
    replies = half.reply(prompts, sampling_at(half.decoding, 6), seeds=seeds)
    assert [row["reply"] for row in half_rows] == [reply.text.strip() for (reply,) in replies]


def test_a_killed_step_goes_on_and_comes_to_the_same(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_room(SETTINGS, inputs, tmp_path / "whole")
    answered, calls = LocalAssistant.reply, []

    def dies(self: LocalAssistant, *args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return answered(self, *args, **more)

    monkeypatch.setattr(LocalAssistant, "reply", dies)
    with pytest.raises(KeyboardInterrupt):
        run_room(SETTINGS, inputs, tmp_path / "killed")
    before = len(calls)
    again = run_room(SETTINGS, inputs, tmp_path / "killed")
    assert len(calls) - before == 4 * 3 - 4, "chunks that were saved are not answered again"
    assert toys.files_of(again) == toys.files_of(whole)


def test_checkpoints_of_other_shapes_have_no_line(checkpoints: Path, tmp_path: Path) -> None:
    toys.policy_folder(tmp_path / "wide", 1, replace(SHAPE, intermediate_size=64))
    with pytest.raises(CharterError, match="different shapes"):
        Line(checkpoints / "policy", tmp_path / "wide", "cpu", "float32")


def test_a_bound_that_no_place_keeps_is_said(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "is_refusal", lambda text: True)
    notes: list[str] = []
    out = toys.workspace(tmp_path)
    monkeypatch.setattr(out, "note", notes.append)
    room.run(SETTINGS, inputs, out)
    assert len(notes) == 1 and "no place refuses at most 0.04 of the harmless prompts" in notes[0]


@pytest.mark.parametrize("shares", [(), (-0.1,), (5.0,)])
def test_shares_outside_their_range_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        Settings(shares=shares)


def test_the_forecast_grows_with_prompts_and_places() -> None:
    sizes = Sizes({"prompts": (100,), "harmless": (200,)}, {"policy": 134_500_000}, threads=2)
    few, many = (estimate(Settings(shares=shares), sizes).minutes for shares in ((1.0,), (0.5, 1.0, 1.5)))
    assert few and many == pytest.approx(3 * few)
    assert estimate(Settings(), Sizes()).minutes is None
