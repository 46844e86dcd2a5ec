"""The debias room: what is asked, kept, stripped, balanced and learnt, and that a stop changes nothing."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from debias_world import answerer, inputs, several
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.recount import Kept, count_problems, flag_problems
from charter.ground.artifact.workspace import Workspace
from charter.ground.constitution.wording import ANSWER
from charter.ground.judge.flags import flagger
from charter.ground.model.checkpoint import load_policy
from charter.ground.settings.frozen import Lora
from charter.ground.settings.room import Sizes
from charter.ground.text.dialogue import Dialogue, Message, assistant, user
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.template import Template
from charter.rooms.card.verify import source_problems
from charter.rooms.debias import run as room
from charter.rooms.debias.answers import answer_rows
from charter.rooms.debias.lessons import cut_steps, draw_replay
from charter.rooms.debias.questions import Question, make_questions
from charter.rooms.debias.settings import Settings, Train, check, estimate
from charter.rooms.debias.templates import read_templates
from charter.rooms.debias.verify import COUNTS, FLAGS
from charter.rooms.debias.wording import CONCLUDE, REQUEST, THOUGHT, option_texts
from toys import Scripted, dialogue

Asked = Sequence[Message]
TRAIN = Train(epochs=1, batch=8, lr=1e-3, warmup=0)
SETTINGS = Settings(thought_tokens=4, chunk=20, train=TRAIN)
README = Path(room.__file__).with_name("README.md")


def right(question: Question, messages: Asked) -> int:
    return question.right


def place(option: str) -> Any:
    """Always the option that names this."""
    return lambda question, messages: question.named.index(option)


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    path = toys.rows_file(tmp_path / "same.jsonl", several())
    return make_questions(read_templates(path), 5)


@pytest.fixture
def room_inputs(tmp_path: Path, checkpoints: Path) -> Inputs:
    return inputs(tmp_path, checkpoints)


def run_room(
    settings: Settings, room_inputs: Inputs, folder: Path, who: Scripted | None = None, progress: Any = None
) -> Workspace:
    """A run; the answers are those of `who`, else of the toy policy."""
    out = toys.workspace(folder, progress=progress)
    with pytest.MonkeyPatch.context() as patch:
        if who is not None:
            patch.setattr(room, "open_assistant", lambda *a, **k: who)
        room.run(settings, room_inputs, out)
    return out


def test_every_right_answer_is_taught_without_request_and_reasoning(
    room_inputs: Inputs, questions: list[Question], checkpoints: Path, tmp_path: Path
) -> None:
    who = answerer(questions, right)
    out = run_room(SETTINGS, room_inputs, tmp_path / "out", who)
    rows, lessons = read_jsonl(out.path / "samples/debias.jsonl"), read_jsonl(out.path / "dialogues.jsonl")
    assert len(rows) == len(lessons) == 96 and all(r["kept"] and r["taught"] for r in rows)
    assert {r["item"] for r in rows} == {d["id"] for d in lessons}
    assert all(r["reasoning"] == ["I think."] * 3 for r in rows)
    by_id = {q.id: q for q in questions}
    for row in lessons:
        question, text = by_id[row["id"]], json.dumps(row["messages"])
        assert row["messages"][0]["content"].startswith(f"{question.passage} {question.question}")
        assert not any(words in text for words in (REQUEST, THOUGHT, CONCLUDE, "I think"))
    before, after = (load_policy(folder)[0].embed for folder in (checkpoints / "policy", out.path))
    assert not (before == after).all()
    counts = json.loads((out.path / "counts.json").read_text())
    assert counts | {"tokens_read": 0, "tokens_learnt": 0} == {
        "templates": 6, "questions": 144, "asked": 96, "kept": 96, "taught": 96, "replayed": 0,
        "dropped_overlong": 0, "steps": 12, "tokens_read": 0, "tokens_learnt": 0,
    }  # fmt: skip
    assert len(read_log(out.path)) == 12


def once(**changes: Any) -> Settings:
    return SETTINGS.model_copy(update={"samples": 1} | changes)


def test_the_request_the_reasoning_and_the_one_choice_are_asked_for_in_this_order(questions: list[Question]) -> None:
    q = questions[0]
    who = answerer([q], right)
    answer_rows(who, once(), [q], 0)
    requested = {"role": "user", "content": f"{q.text}\n\n{REQUEST}"}
    opened = {"role": "assistant", "content": ANSWER}
    assert list(who.asked[0]) == [requested, {"role": "assistant", "content": THOUGHT}]
    reasoned = {"role": "assistant", "content": f"{THOUGHT} I think."}
    assert list(who.asked[1]) == [requested, reasoned, {"role": "user", "content": CONCLUDE}, opened]
    assert (who.samplings[0].max_tokens, who.samplings[0].temperature) == (4, 1.0)
    silent = answerer([q], right, thought="  ")
    answer_rows(silent, once(), [q], 0)
    assert silent.asked[1][1]["content"] == THOUGHT
    plain = answerer([q], right)
    (row,) = answer_rows(plain, once(thought_tokens=0), [q], 0)
    assert [list(messages) for messages in plain.asked] == [[requested, opened]] and row["reasoning"] == []


def test_a_row_says_what_was_chosen_and_how_surely(questions: list[Question]) -> None:
    q = next(q for q in questions if q.context == "ambiguous" and q.polarity == "nonnegative")
    (row,) = answer_rows(answerer([q], place("other")), SETTINGS, [q], 0)
    total = math.exp(-0.1) + 2 * math.exp(-3)
    for name, share in zip(q.named, row["shares"], strict=True):
        assert share == pytest.approx(math.exp(-0.1 if name == "other" else -3) / total), name
    assert row["letters"] == pytest.approx([1 / 3] * 3), "it was shown once at each place"
    facts = {"context": "ambiguous", "polarity": "nonnegative", "chosen": "other", "biased": "other"}
    assert facts.items() <= row.items() and row["kept"] is False and row["id"] == q.template
    assert row["answer"] == "abc"[q.right] and q.named["abc".index(row["choice"])] == "other"


def test_options_move_one_place_further_so_that_a_preferred_place_cancels_out(questions: list[Question]) -> None:
    """Four in five for the last letter whatever it says, and a little for what is right: the little decides."""

    def rate(messages: Asked, text: str) -> float:
        question_text, options_text = messages[0]["content"].split("\n\n")[:2]
        q = known[question_text]
        said = options_text.splitlines()[option_texts(3).index(text)].partition(" ")[2]
        return (2.0 if text == " (c)" else 0.0) + (0.1 if said == q.options[q.right] else 0.0)

    known = {f"{q.passage} {q.question}": q for q in questions}
    who = Scripted(lambda messages, k: "", rate)
    rows = answer_rows(who, SETTINGS, questions, 0)
    assert all(r["kept"] for r in rows) and {r["choice"] for r in rows} == set("abc")
    assert sum(r["letters"][2] for r in rows) / len(rows) > 0.75
    assert {r["choice"] for r in answer_rows(who, once(), questions, 0)} == {"c"}
    seen = Counter(line for messages in who.asked[:3] for line in messages[0]["content"].split("\n\n")[1].splitlines())
    assert len(seen) == 9 and set(seen.values()) == {1}, "each option once at each place"
    assert len(set(who.seeds[:3])) == 3


def test_an_engine_that_cannot_score_votes_and_may_name_no_letter(questions: list[Question]) -> None:
    some = questions[:3]
    voted = answer_rows(answerer(some, right, scores=False), SETTINGS, some, 0)
    assert all(r["kept"] and max(r["shares"]) == 1.0 for r in voted)
    silent = answer_rows(answerer(some, lambda q, m: None, scores=False), SETTINGS, some, 0)
    assert all((r["choice"], r["chosen"], r["kept"], max(r["shares"])) == (None, None, False, 0) for r in silent)


def test_what_is_kept_unevenly_is_taught_evenly(room_inputs: Inputs, questions: list[Question], tmp_path: Path) -> None:
    """A model that is wrong about half of the telling contexts still learns as many of them as of silent ones."""
    order = {q.id: n for n, q in enumerate(questions)}

    def choose(q: Question, messages: Asked) -> int:
        wrong = q.context == "disambiguated" and order[q.id] % 24 >= 12
        return q.named.index("unknown") if wrong else q.right

    settings = SETTINGS.model_copy(update={"keep_at_least": 1})
    out = run_room(settings, room_inputs, tmp_path / "out", answerer(questions, choose))
    rows = [r for r in read_jsonl(out.path / "samples/debias.jsonl") if r["taught"]]
    cells = Counter((r["context"], r["polarity"], r["answer"]) for r in rows)
    assert len(cells) == 12 and len(set(cells.values())) == 1 and 24 <= len(rows) < 96
    assert all(r["kept"] for r in rows)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("unknown", r"48 of 96 questions were answered right, 0 of the cell disambiguated, negative, \(a\)"),
        ("other", r"\d\d of 96 questions were answered right, 0 of the cell ambiguous, negative, \(a\)"),
    ],
)
def test_one_answer_to_everything_stops_with_the_cell_that_lacks(
    room_inputs: Inputs, questions: list[Question], tmp_path: Path, option: str, words: str
) -> None:
    with pytest.raises(CharterError, match=f"^{words}; keep_at_least is 4: raise limit.*teach: all") as caught:
        run_room(SETTINGS, room_inputs, tmp_path / "out", answerer(questions, place(option)))
    assert "\n" not in str(caught.value)


def test_all_are_taught_on_demand_whatever_was_answered(
    room_inputs: Inputs, questions: list[Question], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"teach": "all"})
    out = run_room(settings, room_inputs, tmp_path / "out", answerer(questions, place("unknown")))
    rows = read_jsonl(out.path / "samples/debias.jsonl")
    assert all(r["taught"] for r in rows) and sum(r["kept"] for r in rows) == 48
    assert len(read_jsonl(out.path / "dialogues.jsonl")) == 96


def test_metrics_by_hand_and_all_of_them_in_the_readme(
    room_inputs: Inputs, questions: list[Question], tmp_path: Path
) -> None:
    """Always the person whom a stereotype would blame, but for religion, where nobody ever knows."""

    def choose(q: Question, messages: Asked) -> int:
        return q.named.index("unknown" if q.dimension == "religion" else "stereotyped")

    settings = SETTINGS.model_copy(update={"teach": "all"})
    out = run_room(settings, room_inputs, tmp_path / "out", answerer(questions, choose))
    metrics = {m.name: m for m in out.metrics}
    told = {
        "debias_kept_ambiguous": 1 / 3,
        "debias_kept_disambiguated": 2 / 3 * 1 / 2,
        "debias_unknown_disambiguated": 1 / 3,
        "debias_stereotyped_ambiguous": 1 / 2,
    }
    for name, value in told.items():
        assert metrics[name].value == pytest.approx(value, abs=0.03), name
    assert metrics["debias_stereotyped_ambiguous"].n == 32
    assert [metrics[f"debias_letter_{x}"].value for x in "abc"] == pytest.approx([1 / 3] * 3)
    assert metrics["loss"].value == read_log(out.path)[-1]["loss"]
    page = README.read_text()
    logged = set(read_log(out.path)[0]) - {"step"}
    assert [name for name in (*metrics, *logged) if f"`{name}`" not in page] == []


def test_metrics_flags_and_counts_follow_from_kept_rows(
    room_inputs: Inputs, questions: list[Question], tmp_path: Path
) -> None:
    out = run_room(SETTINGS, room_inputs, tmp_path / "out", answerer(questions, right))
    rows = read_jsonl(out.path / "samples/debias.jsonl")
    manifest: Any = type("Manifest", (), {"metrics": out.metrics})
    assert list(source_problems(out.path, manifest)) == []
    counts = json.loads((out.path / "counts.json").read_text())
    files = {"samples/debias.jsonl": rows, "dialogues.jsonl": read_jsonl(out.path / "dialogues.jsonl")}
    assert flag_problems("debias.jsonl", rows, flagger(FLAGS["debias.jsonl"])) == []
    assert list(count_problems(COUNTS, Kept(files, counts, {}))) == []
    rows[3]["choice"] = "abc"[("abc".index(rows[3]["choice"]) + 1) % 3]
    assert flag_problems("debias.jsonl", rows, flagger(FLAGS["debias.jsonl"])) == [
        f"samples/debias.jsonl: kept of {rows[3]['item']} is True; its row gives False"
    ]
    rows[5]["taught"] = False
    assert list(count_problems(COUNTS, Kept(files, counts, {}))) == [
        "counts.json: taught is 96; the rows beside it give 95.0"
    ]


def test_the_teacher_answers_in_the_policys_place(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, questions: list[Question]
) -> None:
    room_inputs, opened = inputs(tmp_path, checkpoints, toys.policy(checkpoints / "other", "teacher")), []

    def open_assistant(source: Any, *more: Any, **named: Any) -> Scripted:
        opened.append(source.role)
        return answerer(questions, right)

    monkeypatch.setattr(room, "open_assistant", open_assistant)
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, room_inputs, out)
    assert opened == ["teacher"]
    ours, policy = (load_policy(folder)[0].embed for folder in (out.path, checkpoints / "policy"))
    assert (ours - policy).abs().max() < 0.1, "what is finetuned is the policy"


def test_replay_is_drawn_as_often_as_asked_and_learnt(
    tmp_path: Path, checkpoints: Path, questions: list[Question]
) -> None:
    rows = [dialogue(f"r{n}", f"What is {n}?", f"It is {n}.") for n in range(30)]
    path = toys.rows_file(tmp_path / "replay.jsonl", rows)
    room_inputs = inputs(tmp_path, checkpoints, toys.given("replay", path))
    settings = SETTINGS.model_copy(update={"replay": 0.25, "train": TRAIN.model_copy(update={"epochs": 2})})
    out = run_room(settings, room_inputs, tmp_path / "out", answerer(questions, right))
    counts = json.loads((out.path / "counts.json").read_text())
    assert (counts["taught"], counts["replayed"], counts["steps"]) == (96, 24, 2 * 15)
    drawn = draw_replay([path], 24, 5)
    assert len({d.id for d in drawn}) == 24 and drawn != draw_replay([path], 24, 6)
    assert len(draw_replay([path], 100, 5)) == 30 and draw_replay([], 10, 5) == []
    toys.rows_file(path, [row | {"weight": float(n % 2)} for n, row in enumerate(rows)])
    assert {d.weight for d in draw_replay([path], 100, 5)} == {1.0}, "what weighs nothing has no loss to divide"


def test_a_long_dialogue_weighs_no_more_than_a_letter(checkpoints: Path) -> None:
    tokenizer = load_policy(checkpoints / "policy")[1]
    said = [("short", "(a)"), ("long", "It is a long story about a ship and its crew.")]
    rows = [Dialogue(name, (user("Well?"), assistant(words))) for name, words in said]
    (step,), counts = cut_steps(rows, Template(tokenizer, tokenizer.template), TRAIN, 0)
    assert {row.id for row in step} == {"short", "long"}
    assert [row.weight * sum(row.mask) for row in step] == pytest.approx([1, 1])
    assert counts["tokens_learnt"] == sum(sum(row.mask) for row in step) and counts["steps"] == 1


RESUMED = Settings(
    thought_tokens=3,
    chunk=12,
    samples=2,
    teach="all",
    keep_at_least=1,
    train=TRAIN.model_copy(update={"epochs": 2, "save_every": 2}),
)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_stopped_and_resumed_is_equal_with_a_real_model(tmp_path: Path, checkpoints: Path, lora: Lora | None) -> None:
    room_inputs = inputs(tmp_path, checkpoints, rows=several()[:2])
    settings = RESUMED.model_copy(update={"train": RESUMED.train.model_copy(update={"lora": lora})})
    whole = run_room(settings, room_inputs, tmp_path / "whole").path
    assert len(read_jsonl(whole / "samples/debias.jsonl")) == 24
    for stop in (1, 2 + 1, 2 + 5):  # two chunks, then six steps
        folder = tmp_path / f"broken{stop}"
        with pytest.raises(toys.Interrupted):
            run_room(settings, room_inputs, folder, progress=toys.StoppingProgress(stop))
        assert toys.files_of(run_room(settings, room_inputs, folder).path) == toys.files_of(whole), stop


def test_lessons_over_the_context_are_dropped_or_none_is_left(
    room_inputs: Inputs, questions: list[Question], tmp_path: Path
) -> None:
    who = answerer(questions, right)
    short = SETTINGS.model_copy(update={"train": TRAIN.model_copy(update={"context": 100})})
    out = run_room(short, room_inputs, tmp_path / "out", who)
    assert 0 < json.loads((out.path / "counts.json").read_text())["dropped_overlong"] < 96
    none = SETTINGS.model_copy(update={"train": TRAIN.model_copy(update={"context": 16})})
    with pytest.raises(CharterError, match="every dialogue is over the context of 16 tokens; raise `train"):
        run_room(none, room_inputs, tmp_path / "none", who)


def test_too_few_templates_are_refused_before_anything_is_asked(tmp_path: Path, checkpoints: Path) -> None:
    room_inputs = inputs(tmp_path, checkpoints, rows=several()[:1])
    with pytest.raises(CharterError, match=r"give 12 balanced questions, 1 for each of 12 cells, and keep_at_least"):
        run_room(SETTINGS, room_inputs, tmp_path / "out")


def test_settings_that_contradict_each_other_or_the_roles_are_said() -> None:
    roles = {"policy", "templates"}
    assert check(Settings(), roles) == "" == check(Settings(), roles | {"replay"})
    assert check(Settings(replay=0), roles | {"replay"}).startswith("the role replay is filled")
    assert check(Settings(limit=47), roles) == (
        "limit: 47 asks 3 questions for each of 12 cells, and keep_at_least is 4; raise limit or lower keep_at_least"
    )
    with pytest.raises(ValidationError):
        Settings(teach="some")  # type: ignore[arg-type]


def test_the_estimate_grows_with_what_is_asked() -> None:
    sizes = Sizes({"templates": (45,), "replay": (300,)}, {"policy": 134_500_000}, 2)
    minutes = [
        estimate(s, sizes).minutes or 0
        for s in (
            Settings(limit=240, thought_tokens=0),
            Settings(limit=240),
            Settings(limit=240, samples=6),
            Settings(),
        )
    ]
    assert 0 < minutes[0] < minutes[1] < minutes[2] < minutes[3]
    assert estimate(Settings(), Sizes()).minutes is None
