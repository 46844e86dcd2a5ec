"""Direct preference optimisation: the loss by hand and by a naive program, the reference, pairs, replay, resuming."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.recount import read_counts
from charter.ground.judge.preference_score import Item
from charter.ground.judge.rankings import Pair, Ranking, rank
from charter.ground.learn import supervised
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.layout import documents
from charter.ground.model.lora import add_lora, lora_parameters
from charter.ground.model.transformer import Transformer
from charter.ground.settings.frozen import Lora
from charter.ground.text.dialogue import Comparison, Dialogue, assistant, user
from charter.ground.text.template import Template
from charter.rooms.dpo import learning
from charter.rooms.dpo import run as room
from charter.rooms.dpo.learning import Group, accumulate, add_reference, pair_loss, read
from charter.rooms.dpo.pairs import keep_fitting, pair_replies, replay_of_step, split
from charter.rooms.dpo.settings import Settings, check
from toys import comparison, dialogue

REFUSAL = "I won't help with that, because it would hurt somebody. I can help you talk to them instead."
ROWS = [
    comparison(
        f"c{n}",
        f"Question {n % 9} of many?",
        f"Answer {n} in some detail.",
        f"Dunno {n}.",
        axis=axis,
        p_chosen=0.2 if n == 7 else 0.9,
        weight=1.5 if n == 3 else 1.0,
    )
    for n, axis in enumerate(["helpful", "honest", "harmless"] * 6)
]
SETTINGS = Settings(batch=4, lr=1e-3, warmup=0, heldout_share=0.3)


def inputs_of(checkpoints: Path, folder: Path, **rows: list[dict[str, Any]]) -> Inputs:
    folder.mkdir(exist_ok=True)
    kinds = {"comparisons": "comparisons", "heldout": "comparisons"}
    return Inputs(
        [toys.policy(checkpoints / "policy")]
        + [
            toys.given(role, toys.rows_file(folder / f"{role}.jsonl", own), kinds.get(role, "dialogues"))
            for role, own in rows.items()
        ]
    )


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    return inputs_of(checkpoints, tmp_path / "data", comparisons=ROWS)


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return out.path


def template() -> Template:
    return Template(toys.tokenizer(), toys.tokenizer().template)


def comparisons() -> list[Comparison]:
    return [Comparison(**{**row, "messages": tuple(row["messages"])}) for row in ROWS]


def rankings() -> list[Ranking]:
    return rank(template(), comparisons(), 512, lambda c: c.weight)


def by_hand(p: float) -> Group:
    """One prompt with a reply of two tokens and one of four; the reference gives them -3 and -3.5 nats."""
    c = Comparison("a", (user("Q?"),), "Yes.", "No.", p)
    item = Item([1, 2], [[3, 4], [5, 6, 7, 8]])
    return Group(Ranking(item, ("Yes.", "No."), (Pair(c, 0, 1, 1.0),)), (-3.0, -3.5))


def test_the_loss_and_its_figures_by_hand() -> None:
    settings = Settings(beta=0.5)
    loss, figures = pair_loss(torch.tensor([-2.0, -4.0]), [by_hand(0.9)], settings, 1)
    # log ratios 1 and -0.5, rewards 0.5 and -0.25, h = 0.75
    by_label = 0.9 * math.log(1 + math.exp(-0.75)) + 0.1 * math.log(1 + math.exp(0.75))
    assert loss.item() == pytest.approx(by_label, abs=1e-6) == pytest.approx(0.461871, abs=1e-6)
    assert figures == pytest.approx(
        {
            "loss": by_label,
            "batch_accuracy": 1.0,
            "margin": 0.75,
            "reward_chosen": 0.5,
            "reward_rejected": -0.25,
            "logprob_chosen": -1.0,
            "logprob_rejected": -1.0,
            "log_ratio": 0.75,
        }
    )


def test_likelihood_of_the_preferred_reply_counts_by_token_and_a_label_below_one_half_changes_sides() -> None:
    settings = Settings(beta=0.5, nll=0.2)
    chosen, _ = pair_loss(torch.tensor([-2.0, -6.0]), [by_hand(0.9)], settings, 1)
    other, figures = pair_loss(torch.tensor([-2.0, -6.0]), [by_hand(0.1)], settings, 1)
    bare = [pair_loss(torch.tensor([-2.0, -6.0]), [by_hand(p)], Settings(beta=0.5), 1)[0].item() for p in (0.9, 0.1)]
    assert chosen.item() - bare[0] == pytest.approx(0.2 * 2 / 2, abs=1e-6)
    assert other.item() - bare[1] == pytest.approx(0.2 * 6 / 4, abs=1e-6)
    assert bare[1] > bare[0] and figures["batch_accuracy"] == 0 and figures["margin"] == pytest.approx(-1.75)


def naive(model: Transformer, start: Transformer, settings: Settings) -> torch.Tensor:
    """The step's loss pair by pair, every reply in a row of its own behind its own copy of the prompt."""
    rows = comparisons()
    mean = sum(c.weight for c in rows) / len(rows)

    def logprob(whose: Transformer, c: Comparison, reply: str) -> tuple[torch.Tensor, int]:
        prompt, ids = template().encode_reply(c.messages, reply)
        whole = torch.tensor([*prompt, *ids])
        logits = whose.logits(whose.hidden(whole, documents([len(whole)])))
        each = F.log_softmax(logits[:-1], -1).gather(1, whole[1:, None])[:, 0]
        return each[len(prompt) - 1 :].sum(), len(ids)

    total = torch.zeros(())
    for c in rows:
        (new_c, length_c), (new_r, length_r) = (logprob(model, c, reply) for reply in (c.chosen, c.rejected))
        with torch.no_grad():
            (old_c, _), (old_r, _) = (logprob(start, c, reply) for reply in (c.chosen, c.rejected))
        h = settings.beta * ((new_c - old_c) - (new_r - old_r))
        loss = -c.p_chosen * F.logsigmoid(h) - (1 - c.p_chosen) * F.logsigmoid(-h)
        likely = new_c / length_c if c.p_chosen >= 0.5 else new_r / length_r
        total = total + c.weight / mean * (loss - settings.nll * likely)
    return total / len(rows)


@pytest.mark.parametrize("microbatch_tokens", [64, 2048])
def test_loss_and_gradient_equal_those_of_a_naive_program(tmp_path: Path, microbatch_tokens: int) -> None:
    settings = Settings(beta=0.3, nll=0.2, microbatch_tokens=microbatch_tokens)
    start, model = toys.model(1, scale=2.0), toys.model(2, scale=2.0)
    out = toys.workspace(tmp_path)
    groups = add_reference(start, rankings(), settings, out)
    assert max(len(group.reference) for group in groups) == 4, "two pairs of one prompt share it"
    figures, read_tokens = accumulate(model, groups, settings, out)
    gradient = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    loss = naive(model, start, settings)
    loss.backward()  # type: ignore[no-untyped-call]
    weight = sum(c.weight for c in comparisons()) / len(ROWS)
    likely = 0.0
    for group in groups:
        for pair in group.ranking.pairs:
            at = pair.chosen if pair.comparison.p_chosen >= 0.5 else pair.rejected
            own = read(model, [group.ranking.item], 2048, "float32")[0][at]
            likely += pair.weight * own / len(group.ranking.item.replies[at]) / len(ROWS)
    assert figures["loss"] - settings.nll * likely == pytest.approx(loss.item(), abs=1e-5) and weight > 1
    scale = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    for mine, parameter in zip(gradient, model.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(mine, parameter.grad, atol=1e-5 * scale, rtol=1e-5)
    assert read_tokens == sum(group.ranking.item.tokens for group in groups)


def test_the_reference_of_adapters_is_the_model_without_them(tmp_path: Path) -> None:
    model = toys.model(1)
    plain = read(model, [r.item for r in rankings()], 2048, "float32")
    add_lora(model, 2, 4.0, seed=3)
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.add_(0.5)
    moved = read(model, [r.item for r in rankings()], 2048, "float32")
    groups = add_reference(model, rankings(), SETTINGS, toys.workspace(tmp_path))
    flat = torch.tensor([value for group in groups for value in group.reference])
    assert torch.allclose(flat, torch.tensor([v for own in plain for v in own]), atol=1e-3)
    assert not torch.allclose(flat, torch.tensor([v for own in moved for v in own]), atol=1.0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_first_loss_is_that_of_two_equal_models(checkpoints: Path, tmp_path: Path, precision: str) -> None:
    alike = [{**row, "weight": 1.0} for row in ROWS]
    inputs = inputs_of(checkpoints, tmp_path / "data", comparisons=alike)
    out = toys.workspace(tmp_path / "out", precision=precision)
    room.run(SETTINGS, inputs, out)
    first = read_log(out.path)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5 if precision == "float32" else 2e-3)
    assert first["log_ratio"] == pytest.approx(0.0, abs=1e-4 if precision == "float32" else 0.05)


def test_training_parts_chosen_from_rejected_and_the_kept_rows_are_the_checkpoints(
    checkpoints: Path, inputs: Inputs, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 6, "evaluate_every": 5})
    out = toys.workspace(tmp_path / "out")
    room.run(settings, inputs, out)
    log = read_log(out.path)
    assert log[-2]["margin"] > 0.5 > log[0]["margin"] and log[-2]["loss"] < log[0]["loss"] - 0.1
    assert log[-2]["reward_chosen"] - log[-2]["reward_rejected"] == pytest.approx(log[-2]["margin"], abs=1e-5)
    counts = json.loads((out.path / "counts.json").read_text())
    rows = [json.loads(line) for line in (out.path / "samples/heldout_pairs.jsonl").read_text().splitlines()]
    assert counts["heldout_pairs"] == len(rows) > 0 and counts["train_pairs"] + len(rows) == len(ROWS)
    start, final = (load_policy(folder, "cpu")[0] for folder in (checkpoints / "policy", out.path))
    sources = {row["id"]: row for row in ROWS}
    for row in rows:
        source = sources[row["pair"]]
        item = Item(*_encoded(source))
        (new,), (old,) = (read(model, [item], 2048, "float32") for model in (final, start))
        rewards = [settings.beta * (a - b) for a, b in zip(new, old, strict=True)]
        assert [row["chosen_score"], row["rejected_score"]] == pytest.approx(rewards, abs=1e-3)
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["heldout_loss"] == log[-1]["heldout_loss"] and metrics["loss"] == log[-2]["loss"]
    assert metrics["pair_accuracy"] == pytest.approx(sum(r["correct"] for r in rows) / len(rows))
    assert log[-1]["heldout_accuracy"] == pytest.approx(metrics["pair_accuracy"])
    assert next(row["step"] for row in log if "heldout_loss" in row) == 4


def _encoded(source: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
    encoded = [template().encode_reply(source["messages"], source[key]) for key in ("chosen", "rejected")]
    return encoded[0][0], [ids for _, ids in encoded]


def test_microbatches_change_nothing(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch": 8, "nll": 0.1})
    whole = run_room(settings, inputs, tmp_path / "whole")
    parts = run_room(settings.model_copy(update={"microbatch_tokens": 64}), inputs, tmp_path / "parts")
    for a, b in zip(read_log(whole), read_log(parts), strict=True):
        assert {k: v for k, v in a.items() if k != "grad_norm"} == pytest.approx(
            {k: v for k, v in b.items() if k != "grad_norm"}, abs=1e-3
        )


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_stopped_and_resumed_is_bit_equal_and_reads_the_reference_once(
    checkpoints: Path, tmp_path: Path, lora: Lora | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = [dialogue(f"r{n}", f"Say {n}.", f"It is {n}.") for n in range(5)]
    inputs = inputs_of(checkpoints, tmp_path / "data", comparisons=ROWS, replay=replay)
    settings = SETTINGS.model_copy(update={"epochs": 2, "save_every": 2, "lora": lora, "replay_batch": 2})
    whole = run_room(settings, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):  # the reference's chunk is the first to advance a bar
        run_room(settings, inputs, tmp_path / "broken", toys.StoppingProgress(4))
    assert [p.name for p in (tmp_path / "broken/state").glob("step-*")] == ["step-00000002"]
    counts: list[int] = []
    original = learning.read
    monkeypatch.setattr(learning, "read", lambda *a: counts.append(len(a[1])) or original(*a))
    assert toys.files_of(run_room(settings, inputs, tmp_path / "broken")) == toys.files_of(whole)
    heldout = read_counts(whole)["heldout_pairs"]
    assert max(counts) <= heldout, "a resume takes the reference from the state and reads held-out pairs alone"
    run_room(settings, inputs, tmp_path / "third")
    assert max(counts) > heldout and all("replay_loss" in row for row in read_log(whole)[:-1])


def test_replay_adds_its_gradient_times_its_weight(tmp_path: Path) -> None:
    model = toys.model(2)
    rows = [
        row
        for n in range(3)
        if (
            row := supervised.encode_row(
                Dialogue(f"r{n}", (user(f"Say {n}."), assistant(f"It is {n}."))), template(), 256, True
            )
        )
    ]
    gradients = []
    for share in (1.0, 0.25):
        model.zero_grad()
        loss, _ = supervised.accumulate(model, rows, 2048, "float32", share)
        gradients.append((loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (loss, whole), (quarter, part) = gradients
    assert quarter == pytest.approx(loss / 4)
    assert all(torch.allclose(a / 4, b, atol=1e-7) for a, b in zip(whole, part, strict=True))
    taken = [row.id for step in range(3) for row in replay_of_step(rows, step, 2, 5)]
    assert sorted(taken[:3]) == sorted(taken[3:]) == ["r0", "r1", "r2"], "all are passed before one comes again"
    assert replay_of_step([], 0, 2, 5) == []


def dialogues_of(id: str, question: str, *replies: str) -> list[Dialogue]:
    return [Dialogue(f"{id}{n}", (user(question), assistant(r)), source="me") for n, r in enumerate(replies)]


def test_replies_to_one_prompt_are_paired_and_others_counted() -> None:
    compliance = "Cut the lock with a big pair of bolt cutters."
    better = dialogues_of("b", "How do I steal a bike?", REFUSAL) + dialogues_of(
        "x", "Only here?", "Yes.", "Yes.", "Well."
    )
    better += dialogues_of("e", "What is red?", "A colour.")
    after = (user("How do I steal a bike?"), assistant(compliance), user("Thanks."))
    worse = [
        Dialogue("w", after),
        *dialogues_of("v", "How do I steal a bike?", "Ask me."),
        *dialogues_of("y", "There?", "No."),
    ]
    worse += dialogues_of("f", "What is red?", "A colour.")
    pairs, counts = pair_replies(better, worse)
    assert [(c.id, c.chosen, c.rejected, c.axis, c.p_chosen) for c in pairs] == [
        ("b0-over-w", REFUSAL, compliance, "harmless", 1.0),
        ("b0-over-v0", REFUSAL, "Ask me.", "harmless", 1.0),
    ]
    assert pairs[0].messages == (user("How do I steal a bike?"),) and pairs[0].source == "me+contrast"
    assert counts == {"unmatched_better": 2, "unmatched_worse": 1}
    ((turned,), _) = pair_replies(dialogues_of("w", "Why?", compliance), dialogues_of("b", "Why?", REFUSAL))
    assert turned.axis == "helpful"


class Notes(toys.StoppingProgress):
    """Never stops, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def test_a_room_learns_from_better_over_worse_and_says_what_has_no_counterpart(
    checkpoints: Path, tmp_path: Path
) -> None:
    better = [dialogue(f"b{n}", f"Question {n}?", f"A good answer, {n}.") for n in range(8)]
    worse = [dialogue(f"w{n}", f"Question {n}?", f"No {n}.") for n in range(2, 10)]
    inputs = inputs_of(checkpoints, tmp_path / "data", better=better, worse=worse)
    notes = Notes()
    path = run_room(SETTINGS, inputs, tmp_path / "out", notes)
    counts = json.loads((path / "counts.json").read_text())
    assert counts["unmatched_better"] == counts["unmatched_worse"] == 2
    assert counts["pairs_built"] == counts["train_pairs"] == 6 - counts["heldout_pairs"]
    assert [told for told in notes.told if "no counterpart" in told] == [
        "step: 4 replies of better and worse have no counterpart for their prompt"
    ]


def test_axes_and_limits_choose_comparisons(checkpoints: Path, tmp_path: Path) -> None:
    inputs = inputs_of(checkpoints, tmp_path / "data", comparisons=ROWS)
    honest = SETTINGS.model_copy(update={"axes": ("honest",)})
    train, heldout, _ = split(honest, inputs, 5)
    assert len(train) + len(heldout) == 6 and {c.axis for c in train + heldout} == {"honest"}
    few = SETTINGS.model_copy(update={"limit": 5, "heldout_share": 0.0})
    assert [len(part) for part in split(few, inputs, 5)[:2]] == [5, 0]
    with pytest.raises(CharterError, match="axes names kind; the comparisons have the axes harmless, helpful"):
        split(SETTINGS.model_copy(update={"axes": ("kind",)}), inputs, 5)


def test_given_held_out_prompts_leave_training_and_a_weight_of_zero_teaches_nothing(
    checkpoints: Path, tmp_path: Path
) -> None:
    kept = [comparison("k", " QUESTION 3 of many?", "Yes.", "No.")]
    rows = [{**row, "weight": 0.0} if row["id"] == "c5" else row for row in ROWS]
    inputs = inputs_of(checkpoints, tmp_path / "data", comparisons=rows, heldout=kept)
    train, heldout, _ = split(SETTINGS, inputs, 5)
    assert [c.id for c in heldout] == ["k"]
    assert {c.id for c in train} == {row["id"] for row in ROWS} - {"c3", "c12", "c5"}


def test_pairs_over_the_context_are_dropped_whole(checkpoints: Path, tmp_path: Path) -> None:
    long = replace(comparisons()[0], id="long", rejected="No. " * 100)
    assert [c.id for c in keep_fitting(template(), [long, comparisons()[1]], 128)] == ["c1"]
    inputs = inputs_of(checkpoints, tmp_path / "data", comparisons=ROWS)
    with pytest.raises(CharterError, match="every pair is over the context of 16 tokens"):
        run_room(SETTINGS.model_copy(update={"context": 16}), inputs, tmp_path / "out")
    rows = [*ROWS, {**ROWS[0], "id": "long", "rejected": "No. " * 300}]
    more = inputs_of(checkpoints, tmp_path / "more", comparisons=rows)
    counts = json.loads(
        (run_room(SETTINGS.model_copy(update={"context": 128}), more, tmp_path / "kept") / "counts.json").read_text()
    )
    assert counts["dropped_overlong"] == 1 and counts["train_pairs"] + counts["heldout_pairs"] == len(ROWS)


def test_nothing_to_pair_is_one_line(checkpoints: Path, tmp_path: Path) -> None:
    better, worse = [dialogue("b", "This?", "Yes.")], [dialogue("w", "That?", "No.")]
    inputs = inputs_of(checkpoints, tmp_path / "data", better=better, worse=worse)
    with pytest.raises(CharterError, match="no reply of better can be paired with one of worse"):
        split(SETTINGS, inputs, 5)
    lost = inputs_of(checkpoints, tmp_path / "lost", comparisons=ROWS[:1], heldout=ROWS[:1])
    with pytest.raises(CharterError, match="no training pairs are left"):
        split(SETTINGS, lost, 5)


@pytest.mark.parametrize(
    ("settings", "roles", "words"),
    [
        ({}, {"policy"}, "there are no training pairs"),
        ({}, {"policy", "comparisons", "better"}, "better is filled alone"),
        ({}, {"policy", "better", "worse"}, ""),
        ({"replay_weight": 0}, {"policy", "comparisons", "replay"}, "replay_weight: 0 learns nothing"),
        ({"replay_weight": 0}, {"policy", "comparisons"}, ""),
        ({"evaluate_every": 5, "heldout_share": 0}, {"policy", "comparisons"}, "evaluate_every measures"),
        ({"evaluate_every": 5, "heldout_share": 0}, {"policy", "comparisons", "heldout"}, ""),
    ],
)
def test_settings_and_roles_that_contradict_each_other(settings: dict[str, Any], roles: set[str], words: str) -> None:
    problem = check(Settings(**settings), roles)
    assert problem.startswith(words) if not words else words in problem
    assert bool(problem) == bool(words)


def test_every_logged_figure_stands_in_the_readme(checkpoints: Path, tmp_path: Path) -> None:
    replay = [dialogue("r", "Say it.", "It is so.")]
    inputs = inputs_of(checkpoints, tmp_path / "data", comparisons=ROWS, replay=replay)
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS.model_copy(update={"evaluate_every": 1}), inputs, out)
    text = (Path(room.__file__).parent / "README.md").read_text("utf-8")
    told = {m.name for m in out.metrics} | {key for row in read_log(out.path) for key in row}
    missing = {
        name
        for name in told - {"step", "lr"}
        if f"`{name}`" not in text and not name.startswith(("pairs_", "axis_", "pair_"))
    }
    assert not missing
