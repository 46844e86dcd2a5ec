"""Supervised finetuning: what is learnt from, that cutting and stopping change nothing, what comes out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.lessons import read_lessons
from charter.ground.constitution.wording import ANSWER, CRITIQUE, REVISION, under_principle
from charter.ground.learn import checkpoint as states
from charter.ground.learn.loss import token_logprobs
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.model.generation import read_generation
from charter.ground.model.layout import documents
from charter.ground.settings.frozen import Lora
from charter.ground.settings.room import Given
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue, assistant, user
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.template import CLAUDE_2023, Encoded, Template
from charter.rooms.finetune import run as room
from charter.rooms.finetune.gather import epoch_rows, gather, principle_lessons, weigh
from charter.rooms.finetune.settings import Settings, check
from toys import comparison, dialogue

ROWS = [
    dialogue(
        f"d{n}", f"What is number {n}, and why does anybody want to know?", "It follows the one before. " * (1 + n % 3)
    )
    for n in range(8)
]
SETTINGS = Settings(batch=8, lr=1e-3, warmup=0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return toys.rows_file(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def inputs(checkpoints: Path, data: Path) -> Inputs:
    return Inputs([toys.policy(checkpoints / "policy"), toys.given("dialogues", data), toys.constitution()])


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return out.path


def test_only_the_turns_from_learn_from_on_are_learnt() -> None:
    tokenizer = toys.tokenizer()
    form = Template(tokenizer, tokenizer.template)
    turns = [user("Hi"), assistant("old answer"), user("And now?"), assistant("new answer")]
    whole, last = form.encode(turns), form.encode(turns, learn_from=3)
    assert whole.ids == last.ids

    def learnt(encoded: Encoded) -> str:
        return tokenizer.decode([i for i, m in zip(encoded.ids, encoded.mask, strict=True) if m])

    assert "old answer" in learnt(whole) and learnt(last).strip() == "new answer"


def test_the_model_keeps_how_it_is_sampled(checkpoints: Path, data: Path, tmp_path: Path) -> None:
    model, tokenizer = load_policy(checkpoints / "policy")
    model.generation = {"do_sample": True, "temperature": 0.3, "top_p": 0.8, "penalty_alpha": 0.6}
    save_policy(model, tokenizer, tmp_path / "start")
    inputs = Inputs([toys.policy(tmp_path / "start"), toys.given("dialogues", data), toys.constitution()])
    for name, lora in (("whole", None), ("lora", Lora(rank=2))):
        path = run_room(SETTINGS.model_copy(update={"lora": lora}), inputs, tmp_path / name)
        assert read_generation(path) == read_generation(tmp_path / "start")
        assert model.generation.items() <= read_generation(path).items()


def template(checkpoints: Path) -> Template:
    tokenizer = load_policy(checkpoints / "policy")[1]
    return Template(tokenizer, tokenizer.template)


def test_the_product_is_a_checkpoint_that_reads_back_with_its_curve_and_counts(
    inputs: Inputs, checkpoints: Path, tmp_path: Path
) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(Settings(batch=4, lr=1e-3), inputs, out)
    before = load_policy(checkpoints / "policy")[0].embed
    model, tokenizer = load_policy(out.path)
    assert not torch.equal(model.embed, before) and tokenizer.template == toys.tokenizer().template
    log = read_log(out.path)
    assert [row["step"] for row in log] == [0, 1]
    counts = json.loads((out.path / "counts.json").read_text())
    assert counts["dialogues"] == 8 and counts["steps"] == 2 and counts["dropped_overlong"] == 0
    assert {m.name: m.value for m in out.metrics} == {**counts, "loss": log[-1]["loss"]}


def test_the_loss_falls_on_the_assistants_tokens_alone_by_weight(checkpoints: Path, tmp_path: Path) -> None:
    rows = [dialogue(f"w{n}", f"Question {n}?", f"Answer {n}.", weight=w) for n, w in enumerate((1.0, 3.0, 0.5))]
    rows[1]["messages"] += [user("And then?"), assistant("Nothing more.")]
    inputs = Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.given("dialogues", toys.rows_file(tmp_path / "w.jsonl", rows)),
            toys.constitution(),
        ]
    )
    path = run_room(Settings(warmup=0), inputs, tmp_path / "out")
    model, _ = load_policy(checkpoints / "policy")
    words, total, weights = template(checkpoints), 0.0, 0.0
    for row in rows:
        messages = row["messages"]
        for at in range(1, len(messages), 2):
            prompt, reply = words.encode_reply(messages[:at], messages[at]["content"])
            ids = torch.tensor(prompt + reply)
            with torch.no_grad():
                hidden = model.hidden(ids, documents([len(ids)]))[len(prompt) - 1 : -1]
                logs = token_logprobs(hidden, model.head_weight(), ids[len(prompt) :])[0]
            total -= row["weight"] * logs.sum().item()
            weights += row["weight"] * len(reply)
    assert read_log(path)[0]["loss"] == pytest.approx(total / weights, abs=1e-5)


def test_equal_words_keep_their_own_weights(checkpoints: Path, tmp_path: Path) -> None:
    rows = [dialogue("a", "Hi?", "Hello.", weight=1.0), dialogue("b", "Hi?", "Hello.", weight=5.0)]
    inputs = Inputs([toys.given("dialogues", toys.rows_file(tmp_path / "r.jsonl", rows)), toys.constitution()])
    ((*step,),), _ = gather(SETTINGS, inputs, template(checkpoints), 0)
    assert sorted(row.weight for row in step) == [1.0, 5.0]


def test_anchored_dialogues_keep_the_model_near_its_start_while_it_learns(
    checkpoints: Path, data: Path, tmp_path: Path
) -> None:
    """The same lesson with and without an anchor: as well learnt, and the start's words to other prompts kept."""
    lesson = toys.rows_file(tmp_path / "lesson.jsonl", [dialogue("l", "Is this wise?", "I can't help with that.")])
    prompts = [{"id": row["id"], "messages": row["messages"][:1]} for row in ROWS]
    anchored = toys.rows_file(tmp_path / "anchor.jsonl", prompts)
    settings = Settings(lr=1e-2, warmup=0, epochs=10, batch=9, mixture=(1.0,))
    learnt = [toys.policy(checkpoints / "policy"), toys.given("dialogues", lesson), toys.constitution()]
    both = [*learnt, toys.given("anchor", anchored)]
    free = run_room(settings, Inputs(learnt), tmp_path / "free")
    held = run_room(settings.model_copy(update={"mixture": (1.0, 1.0)}), Inputs(both), tmp_path / "held")
    start, tokenizer = load_policy(checkpoints / "policy")
    form = Template(tokenizer, tokenizer.template)

    def apart(path: Path) -> float:
        model, total = load_policy(path)[0], 0.0
        for row in prompts:
            ids = form.encode_prompt(row["messages"])
            of = [m.logits(m.hidden(torch.tensor(ids), documents([len(ids)])))[-1] for m in (model, start)]
            q, p = (torch.log_softmax(logits, -1) for logits in of)
            total += float((p.exp() * (p - q)).sum().detach())
        return total / len(prompts)

    assert apart(held) < 0.3 * apart(free)
    assert read_log(held)[-1]["loss"] < read_log(held)[0]["loss"]
    counts = json.loads((held / "counts.json").read_text())
    assert counts["tokens_anchored"] > 0 and counts["tokens_learnt"] < counts["tokens_anchored"]


def test_one_microbatch_of_eight_is_eight_of_one(inputs: Inputs, tmp_path: Path) -> None:
    whole = run_room(SETTINGS, inputs, tmp_path / "whole")
    parts = run_room(SETTINGS.model_copy(update={"microbatch_tokens": 64}), inputs, tmp_path / "parts")
    lengths = [row["tokens"] for row in read_log(whole)]
    assert lengths[0] < 2048 and lengths[0] / 8 > 33, "one row holds all, and none holds two"
    a, b = load_policy(whole)[0], load_policy(parts)[0]
    for (name, x), y in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.allclose(x, y, atol=1e-6), name
    assert read_log(whole)[0]["loss"] == pytest.approx(read_log(parts)[0]["loss"], abs=1e-6)
    assert read_log(whole)[0]["grad_norm"] == pytest.approx(read_log(parts)[0]["grad_norm"], rel=1e-5)


RESUMED = Settings(batch=2, epochs=2, lr=1e-3, save_every=2)


WAYS = [{}, {"lora": Lora(rank=2, alpha=4.0)}, {"frozen_layers": 1}]


@pytest.mark.parametrize("changes", WAYS, ids=["full", "lora", "frozen"])
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_stopped_and_resumed_is_bit_equal_to_unbroken(
    inputs: Inputs, tmp_path: Path, stop: int, changes: dict[str, Any]
) -> None:
    settings = RESUMED.model_copy(update=changes)
    whole = run_room(settings, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        run_room(settings, inputs, tmp_path / "broken", toys.StoppingProgress(stop))
    assert len(list((tmp_path / "broken/state").glob("step-*"))) == (1 if stop > 1 else 0)
    assert toys.files_of(run_room(settings, inputs, tmp_path / "broken")) == toys.files_of(whole)


def test_stopped_while_a_state_is_written_the_one_before_is_resumed(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_room(RESUMED, inputs, tmp_path / "whole")
    real, saved = states.save_file, []

    def stopping(tensors: Any, path: Path) -> None:
        real(tensors, path)
        saved.append(path)
        if len(saved) == 2:
            raise toys.Interrupted

    monkeypatch.setattr(states, "save_file", stopping)
    with pytest.raises(toys.Interrupted):
        run_room(RESUMED, inputs, tmp_path / "broken")
    assert [p.name for p in (tmp_path / "broken/state").glob("step-*")] == ["step-00000002"]
    assert toys.files_of(run_room(RESUMED, inputs, tmp_path / "broken")) == toys.files_of(whole)


def test_another_seed_shuffles_otherwise(inputs: Inputs, tmp_path: Path) -> None:
    first = run_room(RESUMED, inputs, tmp_path / "a")
    out = toys.workspace(tmp_path / "b", seed=6)
    room.run(RESUMED, inputs, out)
    assert toys.files_of(first)["model.safetensors"] != toys.files_of(out.path)["model.safetensors"]


def test_a_loss_that_is_no_number_stops_with_step_and_documents(inputs: Inputs, tmp_path: Path) -> None:
    wild = Settings(batch=8, epochs=9, lr=1e30, warmup=0, clip=0)
    with pytest.raises(
        CharterError, match=r"(loss|gradient norm) became (nan|inf) at step \d on documents \[d\d"
    ) as caught:
        run_room(wild, inputs, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/files/model.safetensors").exists()


def test_a_template_can_be_put_on(inputs: Inputs, tmp_path: Path) -> None:
    path = run_room(Settings(template="claude-2023"), inputs, tmp_path / "out")
    assert load_policy(path)[1].template == CLAUDE_2023


def test_dialogues_over_the_context_are_refused_or_dropped(inputs: Inputs, checkpoints: Path) -> None:
    words = template(checkpoints)
    lengths = {row["id"]: len(words.encode(row["messages"]).ids) for row in ROWS}
    context = sorted(lengths.values())[5]
    with pytest.raises(CharterError, match=rf"has \d+ tokens, the context is {context}; shorten it"):
        gather(Settings(context=context), inputs, words, 0)
    steps, counts = gather(Settings(context=context, overlong="drop"), inputs, words, 0)
    kept = {row.id for step in steps for row in step}
    assert kept == {id for id, n in lengths.items() if n <= context}
    assert counts["dropped_overlong"] == len(ROWS) - len(kept) > 0
    with pytest.raises(CharterError, match="every dialogue is over the context"):
        gather(Settings(context=16, overlong="drop"), inputs, words, 0)


def test_a_prompt_without_an_answer_and_no_input_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    words = template(checkpoints)
    file = toys.rows_file(tmp_path / "p.jsonl", [dialogue("p", "Anyone?")])
    with pytest.raises(CharterError, match="dialogue p has no assistant turn"):
        gather(SETTINGS, Inputs([toys.given("dialogues", file), toys.constitution()]), words, 0)
    with pytest.raises(CharterError, match="has no dialogues"):
        gather(SETTINGS, Inputs([toys.constitution()]), words, 0)


def test_transcripts_and_comparisons_become_lessons_of_the_trade(checkpoints: Path, tmp_path: Path) -> None:
    transcripts = read_jsonl(shipped("critiques.train"))[:2]
    pairs = read_jsonl(shipped("comparisons.train"))[:3]
    inputs = Inputs(
        [
            toys.given("transcripts", toys.rows_file(tmp_path / "t.jsonl", transcripts)),
            toys.given("comparisons", toys.rows_file(tmp_path / "c.jsonl", pairs)),
            toys.constitution(),
        ]
    )
    words = template(checkpoints)
    steps, counts = gather(Settings(context=1024), inputs, words, 0)
    rounds = sum(len(t["rounds"]) for t in transcripts)
    assert counts["dialogues"] == rounds + 2 * 3
    learnt = ""
    for row in (row for step in steps for row in step):
        learnt += words.tokenizer.decode([t for t, m in zip(row.ids, row.mask, strict=True) if m]) + "\n"
    assert learnt.count(CRITIQUE) == learnt.count(REVISION) == rounds
    assert learnt.count(f"{ANSWER} (A)") == learnt.count(f"{ANSWER} (B)") == 3
    for text in (t["rounds"][0]["revision"] for t in transcripts):
        assert text in learnt


def test_a_pair_under_a_principle_teaches_an_answer_and_a_revision(checkpoints: Path, tmp_path: Path) -> None:
    pair = {"id": "w", "principle": "Prefer the calm one.", "prompt": "May I?", "replies": ["NO!", "Yes."], "better": 1}
    measured = comparison("m", "May I go?", "Go on.", "GO!")
    measured["messages"] = under_principle(measured["messages"], "Prefer the quiet one.")
    (tmp_path / "step").mkdir()
    cut = measured | {"id": "cut", "chosen": "Go on, if you"}
    toys.rows_file(tmp_path / "step/comparisons.jsonl", [measured, cut])
    lessons = [
        lesson
        for path in (toys.rows_file(tmp_path / "written.jsonl", [pair]), tmp_path / "step")
        for lesson in principle_lessons(read_lessons(path))
    ]
    assert [lesson.id for lesson in lessons] == ["w-answer", "w-revision", "m-answer", "m-revision"]
    answer, revision, of_step, _ = lessons
    assert answer.messages == (user("May I?\n\nPrefer the calm one."), assistant("Yes."))
    assert of_step.messages == (user("May I go?\n\nPrefer the quiet one."), assistant("Go on."))
    request, reply = revision.messages
    assert request["content"] == "Human: May I?\n\nAssistant: NO!\n\nRevisionRequest: Prefer the calm one."
    assert reply == assistant("Revision: Yes.")
    assert (answer.learn_from, revision.learn_from) == (1, 1), "only the better reply is learnt"
    source = toys.given("principles", tmp_path / "written.jsonl")
    _, counts = gather(SETTINGS, Inputs([source, toys.constitution()]), template(checkpoints), 0)
    assert counts["dialogues"] == 2


def test_what_weighs_nothing_or_is_a_coins_toss_is_not_learnt(checkpoints: Path, tmp_path: Path) -> None:
    """One row of weight 0 alone in a step would have no loss to divide."""
    rows = [dialogue(f"d{n}", f"What is {n}?", "A number.") | {"weight": float(n % 2)} for n in range(6)]
    pairs = [
        comparison(f"x{n}", f"Which {n}?", f"This {n}.", "No idea.") | change
        for n, change in enumerate(({"weight": 0.0}, {"p_chosen": 0.5}, {"weight": 0.5, "p_chosen": 0.3}))
    ]
    sources = [
        toys.given("dialogues", toys.rows_file(tmp_path / "d.jsonl", rows)),
        toys.given("comparisons", toys.rows_file(tmp_path / "c.jsonl", pairs)),
        toys.constitution(),
    ]
    steps, _ = gather(Settings(context=1024, batch=1), Inputs(sources), template(checkpoints), 0)
    weights = sorted((row.id, row.weight) for step in steps for row in step)
    assert weights == [("d1", 1.0), ("d3", 1.0), ("d5", 1.0), ("x2-choice-A", 0.5), ("x2-choice-B", 0.5)]
    nothing = toys.given("dialogues", toys.rows_file(tmp_path / "n.jsonl", rows[:1]))
    with pytest.raises(CharterError, match=r"has no dialogues, .* of a weight above 0"):
        gather(SETTINGS, Inputs([nothing, toys.constitution()]), template(checkpoints), 0)


@pytest.mark.parametrize("passes", [-0.5, float("nan"), float("inf")])
def test_a_mixture_of_no_share_is_refused(passes: float) -> None:
    with pytest.raises(ValidationError):
        Settings(mixture=(passes,))


def numbered(name: str, count: int) -> list[Dialogue]:
    return [Dialogue(f"{name}{i}", (user("q"), assistant("a"))) for i in range(count)]


def test_the_mixture_passes_each_source_as_often_as_asked() -> None:
    rows = [d.id for d in epoch_rows([numbered("a", 4), numbered("b", 10)], (2.0, 0.5), 1, 0)]
    assert sorted(i for i in rows if i[0] == "a") == sorted([f"a{i}" for i in range(4)] * 2)
    drawn = [i for i in rows if i[0] == "b"]
    assert len(drawn) == len(set(drawn)) == 5
    assert rows != [d.id for d in epoch_rows([numbered("a", 4), numbered("b", 10)], (2.0, 0.5), 1, 1)]
    filled = {"dialogues": [Given("a"), Given("b")]}
    assert "mixture has 1 numbers for 2 sources" in check(Settings(mixture=(1.0,)), filled)
    assert "weights has 3 numbers for 2 sources" in check(Settings(weights=(1.0, 1.0, 1.0)), filled)
    assert check(Settings(mixture=(1.0, 0.2)), filled) == check(Settings(), filled) == ""
    with pytest.raises(CharterError, match="mixture has 1 numbers for 2 sources"):
        epoch_rows([numbered("a", 1), numbered("b", 1)], (1.0,), 0, 0)


def test_weights_scale_the_loss_of_an_inputs_rows() -> None:
    first, second = (Dialogue("a", (user("Hi."), assistant("Hello."))), Dialogue("b", (user("Hi."), assistant("Yes."))))
    half = Dialogue("c", first.messages, weight=0.5)
    assert [[d.weight for d in rows] for rows in weigh([[first, half], [second]], (0.5, 2))] == [[0.5, 0.25], [2.0]]
    assert weigh([[first, half], [second]], ()) == [[first, half], [second]]
    assert weigh([[first], [second]], (0, 1)) == [[], [second]]
    with pytest.raises(CharterError, match="weights has 1 numbers for 2 sources"):
        weigh([[first], [second]], (1,))
