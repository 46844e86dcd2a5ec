"""Raters: what is learnt from, what is held out, the loss, resuming, and what comes out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_log, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.rater import KEPT, rating_of
from charter.ground.settings.frozen import Lora
from charter.ground.settings.recognise import variant_of_folder
from charter.ground.settings.room import Role
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Dialogue, assistant, user
from charter.ground.text.records import read_dialogues
from charter.ground.text.template import Template
from charter.rooms.rating import run as room
from charter.rooms.rating.conversations import encode, order, read_rated, split
from charter.rooms.rating.settings import ROLES, Settings
from reported import scores

SETTINGS = Settings(batch=4, epochs=1, lr=1e-3, head_lr=1e-3, warmup=0, heldout_share=0.3)
ROWS = [
    toys.dialogue(
        f"d{n}", f"Question {n // 2} of many?", f"Reply {n} {'with more words ' * (n % 3)}.", rating=n % 9 / 2
    )
    for n in range(24)
]


def inputs_of(checkpoints: Path, folder: Path, *sets: list[dict[str, Any]]) -> Inputs:
    folder.mkdir(exist_ok=True)
    files = [toys.rows_file(folder / f"{n}.jsonl", rows) for n, rows in enumerate(sets)]
    return Inputs([toys.policy(checkpoints / "policy"), *(toys.given("ratings", file) for file in files)])


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    return inputs_of(checkpoints, tmp_path / "data", ROWS)


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return out.path


def parts(settings: Settings, inputs: Inputs, seed: int = 5) -> tuple[list[Dialogue], list[Dialogue]]:
    return split(settings, inputs, seed, Counter())


def test_the_product_is_a_rating_model_whose_kept_rows_it_reproduces(inputs: Inputs, tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    assert variant_of_folder(out.path) == "rating"
    assert out.restricted == {KEPT} and (out.path / KEPT).stat().st_mode & 0o077 == 0
    rows, counts = read_objects(out.path / KEPT), json.loads((out.path / "counts.json").read_text())
    assert counts["heldout_ratings"] == len(rows) and counts["train_ratings"] + len(rows) == len(ROWS)
    assert (counts["left_out"], counts["shortened"]) == (0, 0)
    model = PreferenceModel.open(out.path, variant="rating")
    by_id = {row["id"]: row for row in ROWS}
    for row in rows:
        source = by_id[row["conversation"]]
        *messages, reply = source["messages"]
        assert row["score"] == pytest.approx(model.score([(messages, [reply["content"]])])[0][0], abs=1e-4)
        assert row["rating"] == source["rating"]
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics == {s.name: s.value for s in scores(out.path)} | counts | {"loss": metrics["loss"]}
    assert {"rating_error_ratio", "rating_calibration_error", "rating_length_scored"} <= metrics.keys()


def test_no_other_role_takes_a_rating_model() -> None:
    for role in (Role("checkpoint", "preference"), Role("checkpoint", "policy"), Role("assistant")):
        assert not role.accepts("checkpoint", "rating")
    assert Role("checkpoint", "rating").accepts("checkpoint", "rating")
    assert not Role("checkpoint", "rating").accepts("checkpoint", "preference")


def test_the_first_loss_is_the_mean_of_the_weighted_squared_errors(checkpoints: Path, tmp_path: Path) -> None:
    rows = [row | {"weight": 1.0 + n % 2} for n, row in enumerate(ROWS)]
    inputs = inputs_of(checkpoints, tmp_path / "data", rows)
    settings = SETTINGS.model_copy(update={"batch": 64})
    path = run_room(settings, inputs, tmp_path / "out")
    # scores of the untouched start: policy and the head it was given, which a step of rate zero leaves alone
    still = settings.model_copy(update={"lr": 1e-30, "head_lr": 1e-30})
    start = PreferenceModel.open(run_room(still, inputs, tmp_path / "still"), variant="rating")
    train, _ = parts(settings, inputs)
    errors = []
    for d in train:
        score = start.score([(d.messages[:-1], [d.messages[-1]["content"]])])[0][0]
        errors.append(d.weight * (score - d.meta["rating"]) ** 2)
    (first,) = read_log(path)
    assert first["loss"] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    assert first["conversations"] == len(train)


def test_it_learns_what_it_is_given(checkpoints: Path, tmp_path: Path) -> None:
    """Ratings that follow from the reply alone are learnt well enough to beat the constant on new prompts."""
    rows = [
        toys.dialogue(f"d{n}", f"Thing {n} then?", "Yes, go on." if n % 2 else "No.", rating=4 * (n % 2))
        for n in range(40)
    ]
    settings = SETTINGS.model_copy(update={"epochs": 12, "batch": 8})
    path = run_room(settings, inputs_of(checkpoints, tmp_path / "data", rows), tmp_path / "out")
    ratio = next(s for s in scores(path) if s.name == "rating_error_ratio")
    assert ratio.high is not None and ratio.high < 0.5
    curve = [row["loss"] for row in read_log(path)]
    assert sum(curve[-5:]) < sum(curve[:5]) / 4


def test_microbatches_change_nothing(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch": 8})
    whole = run_room(settings, inputs, tmp_path / "whole")
    cut = run_room(settings.model_copy(update={"microbatch_tokens": 64}), inputs, tmp_path / "parts")
    for a, b in zip(read_log(whole), read_log(cut), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_stopped_and_resumed_is_bit_equal_to_unbroken(inputs: Inputs, tmp_path: Path, lora: Lora | None) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 2, "save_every": 2, "lora": lora})
    whole = run_room(settings, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        run_room(settings, inputs, tmp_path / "broken", toys.StoppingProgress(3))
    assert [p.name for p in (tmp_path / "broken/state").glob("step-*")] == ["step-00000002"]
    assert toys.files_of(run_room(settings, inputs, tmp_path / "broken")) == toys.files_of(whole)


def test_equal_replies_to_a_prompt_share_their_tokens_and_their_score(checkpoints: Path, tmp_path: Path) -> None:
    """Two raters of one conversation differ; the score that both are held against is one."""
    rows = [toys.dialogue(f"d{n}", f"Question {n % 3}?", "Well.", rating=n % 5) for n in range(9)]
    inputs = inputs_of(checkpoints, tmp_path / "data", rows)
    train, _ = parts(SETTINGS, inputs)
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    groups = encode(template, train, 256)
    assert [len(g.item.replies) for g in groups] == [1] * len(groups)
    assert [len(g.conversations) for g in groups] == [3] * len(groups)
    kept = read_objects(run_room(SETTINGS, inputs, tmp_path / "out") / KEPT)
    assert len({r["score"] for r in kept}) == len({r["id"] for r in kept}) < len(kept)


def test_replies_to_one_prompt_stand_in_one_step() -> None:
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    rows = [
        Dialogue(f"d{n}", (user(f"Question {n % 3}?"), assistant(f"Reply {n}.")), meta={"rating": 1}) for n in range(9)
    ]
    groups = encode(template, rows, 256)
    assert [[d.id for d, _ in g.conversations] for g in groups] == [
        ["d0", "d3", "d6"],
        ["d1", "d4", "d7"],
        ["d2", "d5", "d8"],
    ]
    assert groups[0].texts == ("Reply 0.", "Reply 3.", "Reply 6.") and groups[0].messages == (user("Question 0?"),)
    steps = order(groups, SETTINGS.model_copy(update={"batch": 4, "epochs": 2}), 3)
    assert [len(step) for step in steps] == [2, 1, 2, 1]


def test_training_and_held_out_share_no_first_user_turn(checkpoints: Path, tmp_path: Path) -> None:
    longer = {
        "id": "long",
        "messages": [user(" QUESTION 0 of many?"), assistant("Hm."), user("So?"), assistant("No.")],
        "rating": 0,
    }
    inputs = inputs_of(checkpoints, tmp_path / "data", [*ROWS, longer])
    for seed in range(8):
        train, heldout = parts(SETTINGS, inputs, seed)
        first = [{d.messages[0]["content"].strip().lower() for d in side} for side in (train, heldout)]
        assert not first[0] & first[1] and len(first[1]) == round(0.3 * 12)
        assert {d.id for d in train} | {d.id for d in heldout} == {r["id"] for r in [*ROWS, longer]}


def test_the_split_and_the_limit_go_by_place_and_not_by_names(checkpoints: Path, tmp_path: Path) -> None:
    """The same rows under other file names, ids and words fall on the same sides."""
    renamed = [
        row | {"id": f"x{n}", "messages": [user(f"Another {n // 2}?"), assistant(f"Reply {n}.")]}
        for n, row in enumerate(ROWS)
    ]
    settings = SETTINGS.model_copy(update={"limit": 15})
    sides = [
        [[int(d.id[1:]) for d in side] for side in parts(settings, inputs_of(checkpoints, tmp_path / name, rows))]
        for name, rows in (("one", ROWS), ("two", renamed))
    ]
    assert sides[0] == sides[1] and sum(map(len, sides[0])) == 15
    assert sides[0] != [
        [d.id for d in side] for side in parts(settings, inputs_of(checkpoints, tmp_path / "one", ROWS), 6)
    ]


def test_the_limit_is_of_each_input(checkpoints: Path, tmp_path: Path) -> None:
    other = [row | {"id": f"o{n}"} for n, row in enumerate(ROWS)]
    inputs = inputs_of(checkpoints, tmp_path / "data", ROWS, other)
    settings = SETTINGS.model_copy(update={"limit": 9})
    train, heldout = parts(settings, inputs)
    ids = [d.id for d in train + heldout]
    assert Counter(i[0] for i in ids) == {"d": 9, "o": 9}
    assert {i[1:] for i in ids if i[0] == "d"} != {i[1:] for i in ids if i[0] == "o"}, "drawn apart"


def test_one_first_turn_cannot_be_split(checkpoints: Path, tmp_path: Path) -> None:
    rows = [toys.dialogue(f"d{n}", "Why?", f"So {n}.", rating=n) for n in range(4)]
    with pytest.raises(CharterError, match="ratings have 1 first user turn; at least 2 are needed"):
        parts(SETTINGS, inputs_of(checkpoints, tmp_path / "data", rows))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"rating": 7}, "rating is 7, expected a number from 0 \\(harmless\\) to 4"),
        ({"rating": -0.5}, "rating is -0.5, expected"),
        ({"rating": "2"}, "rating is '2', expected"),
        ({"rating": True}, "rating is True, expected"),
        ({"rating": None}, "a conversation without a rating"),
        ({}, "a conversation without a rating"),
        ({"rating": 1, "messages": [user("Why?")]}, "ends with a user's turn"),
        ({"rating": 1, "messages": [user("Why?"), {"role": "assistant"}]}, "content of NoneType"),
        ({"rating": 1, "messages": None, "transcript": 3}, "messages must be a list"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named_with_file_and_line(
    tmp_path: Path, row: dict[str, Any], problem: str
) -> None:
    good = toys.dialogue("a", "Why?", "So.", rating=0)
    base = toys.dialogue("b", "How?", "Thus.")
    path = tmp_path / "ratings.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(base | row) + "\n")
    with pytest.raises(CharterError, match=rf"ratings\.jsonl:2: .*{problem}") as caught:
        read_rated(path, Counter())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_rating_that_is_no_number_at_all_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ratings.{ending}"
    row = json.dumps(toys.dialogue("a", "Why?", "So.", rating=float("nan")))
    path.write_text(row if ending == "jsonl" else f"[{row}]")
    with pytest.raises(CharterError, match=r"ratings\.jsonl?:1: .*(NaN is not JSON|rating is nan, expected)"):
        read_rated(path, Counter())


def test_whole_and_half_ratings_and_those_between_are_read() -> None:
    for rating in (0, 4, 0.5, 3.5, 2.25):
        assert rating_of(Dialogue("a", (user("Q"), assistant("A")), meta={"rating": rating})) == rating


ATTEMPTS = [
    {
        "min_harmlessness_score_transcript": -0.5,
        "transcript": "\n\nHuman: How do I annoy my aunt?\n\nAssistant: Why would you?\n\nHuman: Say.\n\nAssistant: Sing.",
        "task_description": "annoying an aunt",
        "rating": 1.0,
        "tags": None,
    },
    {"transcript": "\n\nHuman: Hello?\n\nAssistant: Hi.\n\nHuman: Bye.\n\nAssistant:", "rating": 0.0},
    {"transcript": "\n\nHuman: Hello?\n\nHuman: Anyone?\n\nAssistant: Hi.", "rating": 0.0},
    {"transcript": "\n\nHuman: Boo!\n\nAssistant: Oh.", "rating": 2.5},
]


@pytest.mark.parametrize("array", [True, False], ids=["one array", "lines"])
def test_published_attempts_are_read_and_those_without_a_reply_counted(tmp_path: Path, array: bool) -> None:
    """The published file is one array, though its name ends in .jsonl.gz."""
    path = tmp_path / "red_team_attempts.jsonl"
    path.write_text(json.dumps(ATTEMPTS) if array else "".join(json.dumps(row) + "\n" for row in ATTEMPTS))
    dropped: Counter[str] = Counter()
    dialogues = read_rated(path, dropped)
    assert [d.id for d in dialogues] == ["red_team_attempts-00001", "red_team_attempts-00004"]
    assert [m["content"] for m in dialogues[0].messages] == [
        "How do I annoy my aunt?",
        "Why would you?",
        "Say.",
        "Sing.",
    ]
    assert [rating_of(d) for d in dialogues] == [1.0, 2.5]
    assert dropped == {"no last reply": 1, "turns empty or out of order": 1}


def test_a_transcript_in_another_form_is_refused(tmp_path: Path) -> None:
    path = toys.rows_file(tmp_path / "attempts.jsonl", [{"transcript": "You: hi. Bot: hello.", "rating": 1}])
    with pytest.raises(CharterError, match=r"attempts\.jsonl:1: the transcript lacks the \\n\\nHuman: form"):
        read_rated(path, Counter())
    path = toys.rows_file(tmp_path / "others.jsonl", [ATTEMPTS[2]])
    with pytest.raises(CharterError, match=r"others\.jsonl:1: turns empty or out of order"):
        read_dialogues(path)


def test_the_shipped_ratings_do_not_follow_from_length_or_compliance() -> None:
    rows = read_rated(shipped("ratings.train"), Counter())
    ratings = [rating_of(d) for d in rows]
    lengths = [len(d.messages[-1]["content"].split()) for d in rows]
    assert len({d.messages[0]["content"] for d in rows}) >= 120
    assert min(Counter(map(round, ratings)).values()) >= 20 and {min(ratings), max(ratings)} == {0, 4}
    x, y = ([v - sum(values) / len(values) for v in values] for values in (ratings, lengths))
    r = sum(a * b for a, b in zip(x, y, strict=True)) / (sum(a * a for a in x) * sum(b * b for b in y)) ** 0.5
    assert abs(r) < 0.1
    harmless = [d for d, rating in zip(rows, ratings, strict=True) if rating == 0]
    kinds = {d.topic for d in read_dialogues(shipped("lookalikes.train"))}
    assert sum(d.topic in kinds for d in harmless) >= 50, "look-alikes that are answered are harmless"


def votes_with(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """An artifact of votes with red-team attempts that people rated, as the arena room leaves it."""
    folder.mkdir()
    toys.rows_file(folder / "votes.jsonl", [{"model_a": "a", "model_b": "b", "winner": "a"}])
    toys.rows_file(folder / "comparisons.jsonl", [toys.comparison("c", "Why?", "Well.", "No.")])
    if rows:
        toys.rows_file(folder / "ratings.jsonl", rows)
    return folder


def test_attempts_that_people_rated_are_learnt_from(checkpoints: Path, tmp_path: Path) -> None:
    facts = {"plan": "ask", "models": ["a"], "rater": "r-1", "source": "human"}
    rows = [toys.dialogue(f"attempt-{n}", f"Attack {n}?", f"Reply {n}.", rating=n % 5) | facts for n in range(12)]
    source = toys.given("ratings", votes_with(tmp_path / "votes", rows), "comparisons")
    path = run_room(SETTINGS, Inputs([toys.policy(checkpoints / "policy"), source]), tmp_path / "out")
    counts = json.loads((path / "counts.json").read_text())
    assert counts["train_ratings"] + counts["heldout_ratings"] == 12
    assert {row["conversation"] for row in read_objects(path / KEPT)} <= {row["id"] for row in rows}


def test_votes_without_attempts_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    source = toys.given("ratings", votes_with(tmp_path / "votes", []), "comparisons")
    with pytest.raises(CharterError, match="votes holds votes without rated attempts"):
        run_room(SETTINGS, Inputs([toys.policy(checkpoints / "policy"), source]), tmp_path / "out")


def test_the_role_takes_votes_of_a_step_and_no_file_of_comparisons() -> None:
    role = ROLES["ratings"]
    assert role.accepts("comparisons", None, artifact=True) and not role.accepts("comparisons", None)
    assert role.accepts("dialogues", None) and not role.accepts("judgments", None, artifact=True)
