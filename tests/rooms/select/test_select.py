"""Best-of-k sampling: the reply that is taken, what each filter drops, and a stopped run resumed."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.recount import Kept, count_problems, flag_problems
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.engine import Completion
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.judge.flags import flagger
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.reports.artifact import read_counts
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.records import read_dialogues
from charter.rooms.select import grading, replies
from charter.rooms.select import run as room
from charter.rooms.select.settings import Filters, Settings
from charter.rooms.select.verify import COUNTS, FLAGS
from reported import scores as measured
from toys import Scripted, dialogue

README = Path(room.__file__).with_name("README.md")
Score = Callable[[str], float]


def letters(text: str, letter: str = "z") -> float:
    """The planted grader: as many points as a letter stands in a text."""
    return float(text.count(letter))


class Planted:
    """A grader that scores each text by a rule of its own."""

    def __init__(self, rule: Score) -> None:
        self.rule, self.items = rule, 0

    def score(self, items: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[list[float]]:
        self.items += len(items)
        return [[self.rule(text) for text in texts] for _, texts in items]


def scripted(*texts: str) -> Scripted:
    """A policy whose k-th sample is the k-th text, to every prompt."""
    return Scripted(lambda messages, k: texts[k])


class Cut(Scripted):
    """A policy whose samples are cut at the token limit where they have no full stop at their end."""

    def reply(
        self, dialogues: Any, sampling: Sampling, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        completions = super().reply(dialogues, sampling, n, seeds)
        for completion in (c for samples in completions for c in samples):
            completion.stop = "end" if completion.text.endswith(".") else "length"
        return completions


class World:
    """Rows of each role in files, doubles behind the models, and the room run on them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch, self.inputs = folder, patch, list[Input]()

    def rows(self, role: str, rows: Sequence[dict[str, Any]], name: str = "") -> None:
        path = toys.rows_file(self.folder / f"{name or role}.jsonl", rows)
        self.inputs.append(toys.given(role, path))

    def models(self, graders: Sequence[Score] = (), **assistants: Scripted) -> list[Planted]:
        planted = [Planted(rule) for rule in graders]
        waiting = iter(planted)
        self.inputs += [toys.preference(self.folder / f"grader{n}", "graders") for n in range(len(planted))]
        self.inputs += [toys.policy(self.folder / role, role) for role in assistants]
        self.patch.setattr(grading, "checkpoint_folder", lambda source: source.folder)
        self.patch.setattr(grading, "PreferenceModel", _Opener(lambda: next(waiting)))
        self.patch.setattr(replies, "open_assistant", lambda source, *a, **k: assistants[source.role])
        return planted

    def run(self, settings: Settings, name: str = "out") -> Path:
        out = toys.workspace(self.folder / name)
        room.run(settings, Inputs(self.inputs), out)
        return out.path


class _Opener:
    def __init__(self, make: Callable[[], Planted]) -> None:
        self._make = make

    def open(self, *given: object) -> Planted:
        return self._make()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def prompts(count: int = 1) -> list[dict[str, Any]]:
    return [dialogue(f"p{n}", f"Help me with thing {n}.", "Not read.", topic="theft") for n in range(count)]


def taken(path: Path) -> list[str]:
    return [d.messages[-1]["content"] for d in read_dialogues(path)]


def samples(path: Path, name: str) -> list[dict[str, Any]]:
    return read_objects(path / "samples" / f"{name}.jsonl")


def dropped(path: Path) -> dict[str, str | None]:
    return {row["name"]: row["dropped"] for row in samples(path, "replies")}


def test_the_planted_best_is_taken_and_told(world: World) -> None:
    policy = scripted("z.", "zzzz.", "zz.", "none.")
    world.rows("prompts", prompts(2))
    world.models([letters], policy=policy)
    path = world.run(Settings(k=4, chunk=1))
    assert taken(path) == ["zzzz.", "zzzz."]
    modes = {file.stat().st_mode & 0o777 for file in path.rglob("*.jsonl")}
    assert modes == {0o600}, "prompts may be harmful"
    first = read_dialogues(path)[0]
    assert (first.id, first.topic, first.source, first.learn_from) == ("p0-s1", "theft", "sample", 1)
    mean, sd = 7 / 4, math.sqrt((1 + 16 + 4) / 4 - (7 / 4) ** 2)
    row = samples(path, "selected")[0]
    assert {key: row[key] for key in ("id", "k", "replies", "passed", "kept", "taken", "rank")} == {
        "id": "p0", "k": 4, "replies": 4, "passed": 4, "kept": 1, "taken": "s1", "rank": 1,
    }  # fmt: skip
    assert row["best"] == row["score"] == row["gain"] == pytest.approx((4 - mean) / sd)
    assert row["mean"] == pytest.approx(0) and row["spread"] == pytest.approx(1)
    assert row["fixed"] == pytest.approx(-mean / sd), "the fixed reply is measured on the replies' scale"
    assert [r["scores"] for r in samples(path, "replies")[:4]] == [[1.0], [4.0], [2.0], [0.0]]
    assert [r["rank"] for r in samples(path, "replies")[:4]] == [3, 1, 2, 4]
    assert policy.samplings == [Sampling(temperature=1.0, max_tokens=96)] * 2
    assert len(set(policy.seeds)) == 2


def test_the_median_of_what_passes_is_taken(world: World) -> None:
    world.rows("prompts", prompts())
    world.models([letters], policy=scripted("zzz.", "z.", "zzzz.", "none.", "zz."))
    assert taken(world.run(Settings(k=5, choose="median"))) == ["zz."]


def test_a_text_said_twice_counts_twice_for_the_median(world: World) -> None:
    world.rows("prompts", prompts())
    world.models([letters], policy=scripted("zzz.", "z.", "zzz.", "none.", "zzz."))
    path = world.run(Settings(k=5, choose="median"))
    assert taken(path) == ["zzz."]
    assert dropped(path) == {"s0": None, "s1": None, "s2": "repeat", "s3": None, "s4": "repeat"}


def test_all_that_pass_are_kept_the_best_first(world: World) -> None:
    world.rows("prompts", prompts())
    world.models([letters], policy=scripted("z.", "zzz.", "zz.", "zzz."))
    assert taken(world.run(Settings(k=4, keep=0))) == ["zzz.", "zz.", "z."]
    world.models([letters], policy=scripted("z.", "zzz.", "zz.", "zzz."))
    world.inputs = world.inputs[:-2]
    assert taken(world.run(Settings(k=4, keep=2), "two")) == ["zzz.", "zz."]


def test_one_greedy_reply_without_graders_is_replay(world: World) -> None:
    policy = scripted("The sum is four.")
    world.rows("harmless", prompts(3))
    world.models(policy=policy)
    path = world.run(Settings(k=1, temperature=0))
    assert taken(path) == ["The sum is four."] * 3
    assert policy.samplings[0].temperature == 0
    assert all(row["score"] is None and row["gain"] is None for row in samples(path, "selected"))
    assert "selected_gain" not in {s.name for s in measured(path)}


def test_the_starts_greedy_answer_is_one_of_the_replies_to_harmless_prompts(world: World) -> None:
    start = scripted("zz zz.")
    world.rows("prompts", prompts())
    world.rows("harmless", [dialogue("h", "What is a sum?")])
    world.models([letters], policy=scripted("z.", "zzz."), start=start)
    path = world.run(Settings(k=2))
    assert {d.id: d.messages[-1]["content"] for d in read_dialogues(path)} == {
        "p0-s1": "zzz.", "h-start": "zz zz."
    }  # fmt: skip
    assert start.samplings == [Sampling(temperature=0.0, max_tokens=96)] and len(start.asked) == 1


LOOP = "Please stop it. " * 12
REFUSAL = "I can't help with that, since it would hurt somebody."


@pytest.mark.parametrize(
    ("role", "filters", "text", "reason"),
    [
        ("prompts", Filters(), "It goes on and", "cut"),
        ("prompts", Filters(cut="sentence"), "It goes on and", "cut"),
        ("prompts", Filters(cut="keep"), "It goes on and", None),
        ("prompts", Filters(), "", "short"),
        ("prompts", Filters(words=4), "Just three words.", "short"),
        ("prompts", Filters(words=3), "Just three words.", None),
        ("prompts", Filters(), LOOP.strip(), "loop"),
        ("harmless", Filters(), REFUSAL, "refusal"),
        ("harmless", Filters(no_refusal=False), REFUSAL, None),
        ("prompts", Filters(), REFUSAL, None),
        ("prompts", Filters(refusal="require"), REFUSAL, None),
        ("prompts", Filters(refusal="require"), "Bake it for an hour.", "answer"),
        ("prompts", Filters(above_fixed=True), "Nothing of it.", "below_fixed"),
        ("prompts", Filters(above_fixed=True), "A z in it.", None),
        ("harmless", Filters(above_fixed=True), "Nothing of it.", None),
    ],
)
def test_each_filter_drops_what_it_must(
    world: World, role: str, filters: Filters, text: str, reason: str | None
) -> None:
    """The other sample always passes, so that there is something to take."""
    good = REFUSAL + " zzz." if role == "prompts" else "Bake it as zzz zzz zzz say."
    world.rows("prompts", [dialogue("p", "Help me.")] if role == "prompts" else prompts())
    if role == "harmless":
        world.rows("harmless", [dialogue("h", "What is this?")])
    policy = Cut(lambda messages, k: (text if messages[-1]["content"] != "Help me with thing 0." else good, good)[k])
    policy.stop = "end"
    world.models([letters], policy=policy)
    if not text:
        world.patch.setattr(Cut, "reply", Scripted.reply)
    path = world.run(Settings(k=2, filters=filters))
    (row,) = [r for r in samples(path, "replies") if r["id"] in "ph" and r["name"] == "s0"]
    assert row["dropped"] == reason
    counts = json.loads((path / "counts.json").read_text())
    assert reason is None or counts[f"dropped_{reason}"] == counts[f"sample_dropped_{reason}"] == 1


def test_a_cut_reply_is_kept_up_to_its_last_sentence(world: World) -> None:
    world.rows("prompts", prompts())
    world.models(policy=Cut(lambda messages, k: "Take two eggs. Then whisk them for 3"))
    path = world.run(Settings(k=1, filters=Filters(cut="sentence")))
    (kept,) = read_dialogues(path)
    assert kept.messages[-1]["content"] == "Take two eggs."
    assert kept.meta == {"asked": "prompts", "shortened": True}


def test_a_kept_cut_reply_says_that_it_is_cut(world: World) -> None:
    world.rows("prompts", prompts())
    world.models(policy=Cut(lambda messages, k: "Then whisk them for"))
    (kept,) = read_dialogues(world.run(Settings(k=1, filters=Filters(cut="keep"))))
    assert kept.meta == {"asked": "prompts", "cut": True}


def critique_artifact(folder: Path) -> Path:
    """Revisions of two drafts: of the first prompt's, one is above its draft and one below."""
    folder.mkdir()
    rows = [
        ("p0", 1, "A zz."), ("p0", 2, "A zzzzz."), ("p1", 1, "B z."), ("other", 1, "C."),
    ]  # fmt: skip
    questions = {"p0": "Help me with thing 0.", "p1": "Help me with thing 1.", "other": "Who?"}
    toys.rows_file(
        folder / "dialogues.jsonl",
        [
            dialogue(f"{name}-r{n}", questions[name], text, source="revision:k", learn_from=1, meta={"round": n})
            for name, n, text in rows
        ],
    )
    toys.rows_file(
        folder / "transcripts.jsonl",
        [
            {"id": name, "messages": [user(question)], "draft": "Draft zzz.", "rounds": []}
            for name, question in questions.items()
        ],
    )
    return folder


def test_revisions_are_kept_if_above_their_draft_and_the_fixed_reply(world: World) -> None:
    world.rows("prompts", prompts(2))
    world.models([letters])
    world.inputs.append(toys.given("candidates", critique_artifact(world.folder / "revisions")))
    path = world.run(Settings(k=0, keep=0, filters=Filters(above_fixed=True, above_draft=True)))
    assert taken(path) == ["A zzzzz."], "two letters are below the draft's three"
    (kept,) = read_dialogues(path)
    assert kept.id == "p0-c1" and kept.source == "revision:k"
    assert kept.meta["candidate"] == "p0-r2" and kept.meta["round"] == 2
    rows = {(r["id"], r["name"]): r["dropped"] for r in samples(path, "replies")}
    assert rows == {("p0", "c0"): "below_draft", ("p0", "c1"): None, ("p1", "c0"): "below_draft"}
    counts = json.loads((path / "counts.json").read_text())
    assert counts["candidate_dropped_below_draft"] == 2 and counts["elsewhere"] == 1
    assert counts["candidate_passed_share"] == pytest.approx(1 / 3) and "kl_bound" not in counts


def test_samples_compete_with_revisions_and_are_held_to_the_draft(world: World) -> None:
    world.rows("prompts", prompts(2))
    world.models([letters], policy=scripted("S zzzz.", "S zzz."))
    world.inputs.append(toys.given("candidates", critique_artifact(world.folder / "revisions")))
    path = world.run(Settings(k=2, filters=Filters(above_draft=True)))
    assert taken(path) == ["A zzzzz.", "S zzzz."]
    assert [d["dropped"] for d in samples(path, "replies") if d["name"] == "s1"] == ["below_draft"] * 2


def test_a_draft_of_round_0_is_a_candidate_and_what_others_are_compared_with(world: World) -> None:
    world.rows("prompts", prompts())
    question = prompts()[0]["messages"][0]["content"]
    world.rows("candidates", [
        dialogue("d", question, "A zz.", meta={"round": 0}), dialogue("r", question, "A zzz.", meta={"round": 1}),
    ])  # fmt: skip
    world.models([letters])
    path = world.run(Settings(k=0, filters=Filters(above_draft=True)))
    assert dropped(path) == {"c0": "below_draft", "c1": None}
    world.models([letters])
    world.inputs.pop()
    assert taken(world.run(Settings(k=0, keep=0), "free")) == ["A zzz.", "A zz."]


def test_graders_are_joined_in_standard_deviations(world: World) -> None:
    """Letters y weigh a hundred times as much as z on their grader's own scale, and the same once standardised."""
    texts = ("zzzz.", "yyy zzz.", "yyyy.")
    world.rows("prompts", prompts())

    def hundred(text: str) -> float:
        return 100 * letters(text, "y")

    for name, settings, expected in (
        ("mean", Settings(k=3, join="mean"), "yyy zzz."),
        ("min", Settings(k=3, join="min"), "yyy zzz."),
        ("one", Settings(k=3, weights=(1.0, 0.0)), "zzzz."),
        ("other", Settings(k=3, weights=(0.0, 2.0)), "yyyy."),
    ):
        world.models([letters, hundred], policy=scripted(*texts))
        assert taken(world.run(settings, name)) == [expected]
        world.inputs = world.inputs[:1]


def test_with_the_least_score_every_grader_must_put_a_reply_above_the_fixed_one(world: World) -> None:
    world.rows("prompts", prompts())
    rules = [letters, lambda text: 1.0 if text == FIXED_REPLY else letters(text, "y")]
    filters = Filters(above_fixed=True)
    for join, expected in (("mean", ["zzzz.", "yy z."]), ("min", ["yy z."])):
        world.models(rules, policy=scripted("zzzz.", "yy z.", "none."))
        path = world.run(Settings(k=3, keep=0, join=join, filters=filters), join)  # type: ignore[arg-type]
        assert sorted(taken(path)) == sorted(expected)
        world.inputs = world.inputs[:1]


def test_the_bound_of_the_best_of_k_by_hand(world: World) -> None:
    world.rows("prompts", prompts())
    world.models([letters], policy=scripted("z.", "zz.", "zzz.", "none."))
    path = world.run(Settings(k=4))
    assert read_counts(path)["kl_bound"] == pytest.approx(math.log(4) - 3 / 4)
    world.models([letters], policy=scripted("z."))
    world.inputs = [world.inputs[0], *world.inputs[-2:]]
    assert read_counts(world.run(Settings(k=1), "one"))["kl_bound"] == 0


def test_a_prompt_in_both_roles_is_refused(world: World) -> None:
    world.rows("prompts", prompts())
    world.rows("harmless", [dialogue("h", "Help me with thing 0.")])
    world.models(policy=scripted("z."))
    with pytest.raises(CharterError, match="prompt p0 of prompts and prompt h of harmless are one and the same"):
        world.run(Settings(k=1))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([dialogue("c", "Who else?", "Nobody.")], "none of 1 candidates answers one of the prompts"),
        (
            [{"id": "c", "messages": [user("Hi."), assistant("Ho."), user("Help me with thing 0.")]}],
            "candidate c ends with a user's turn",
        ),
        ([dialogue("c", "Help me with thing 0.", "No.")], "the candidates have no drafts"),
    ],
)
def test_candidates_that_can_not_be_used_are_named(world: World, rows: list[dict[str, Any]], words: str) -> None:
    world.rows("prompts", prompts())
    world.rows("candidates", rows)
    world.models([letters])
    with pytest.raises(CharterError, match=words) as caught:
        world.run(Settings(k=0, filters=Filters(above_draft=True)))
    assert "\n" not in str(caught.value)


def test_too_few_prompts_with_a_reply_are_refused(world: World) -> None:
    world.rows("prompts", prompts(2))
    first = Scripted(lambda messages, k: "A z." if "thing 0" in messages[-1]["content"] else "None.")
    settings = Settings(k=1, filters=Filters(above_fixed=True, keep_at_least=0.6))
    world.models([letters], policy=first)
    with pytest.raises(
        CharterError,
        match=r"1 of 2 prompts get a reply .* keep_at_least is 0.6 \(replies dropped: {'below_fixed': 1}\); raise k",
    ):
        world.run(settings)
    world.models([lambda text: -letters(text, " ")], policy=scripted("Of many words, none is above."))
    world.inputs = [world.inputs[0], *world.inputs[-2:]]
    with pytest.raises(CharterError, match="0 of 2 prompts get a reply"):
        world.run(Settings(k=1, filters=Filters(words=9)), "none")


def test_every_metric_has_its_source_and_stands_in_the_page(world: World) -> None:
    world.rows("prompts", prompts(2))
    world.rows("harmless", [dialogue("h", "What is a sum?")])
    world.models([letters], policy=scripted("z.", "zzz.", "z."), start=scripted("none."))
    world.inputs.append(toys.given("candidates", critique_artifact(world.folder / "revisions")))
    out = toys.workspace(world.folder / "out")
    room.run(Settings(k=3, filters=Filters(above_draft=True)), Inputs(world.inputs), out)
    counts, kept = read_counts(out.path), {s.name: s for s in measured(out.path)}
    page = README.read_text()
    for metric in out.metrics:
        assert metric.value == (kept[metric.name].value if metric.name in kept else counts[metric.name])
        name = metric.name
        for origin in ("sample_", "start_", "candidate_"):
            name = name.removeprefix(origin)
        assert f"`{name}`" in page, name
    assert kept.keys() == {"selected_share", "selected_share_prompts", "selected_share_harmless", "selected_gain"}
    assert kept["selected_share"].value == 2 / 3, "p1 has no reply above its draft's three letters"


def test_counts_and_gains_are_worked_out_again(world: World) -> None:
    world.rows("prompts", prompts(2))
    world.models([letters], policy=scripted("z.", "zzz.", "z."))
    path = world.run(Settings(k=3))
    names = ["dialogues.jsonl", "samples/replies.jsonl", "samples/selected.jsonl"]
    files = {name: read_objects(path / name) for name in names}
    counts = read_counts(path)
    assert list(count_problems(COUNTS, Kept(files, counts, {}))) == []
    for name in counts.keys() - {"kl_bound"}:
        assert list(count_problems(COUNTS, Kept(files, {**counts, name: 99.0}, {}))), name
    rows = files["samples/selected.jsonl"]
    assert flag_problems("selected.jsonl", rows, flagger(FLAGS["selected.jsonl"])) == []
    assert flag_problems("selected.jsonl", [rows[0] | {"gain": 9.0}], flagger(FLAGS["selected.jsonl"]))
    assert flag_problems("selected.jsonl", [rows[0] | {"served": False}], flagger(FLAGS["selected.jsonl"]))


@pytest.fixture
def real(tmp_path: Path, checkpoints: Path) -> Inputs:
    """Toy checkpoints behind every role."""
    rows = [dialogue(f"p{n}", f"Help me with thing {n}.") for n in range(5)]
    harmless = [dialogue(f"h{n}", f"What is a {n}?") for n in range(3)]
    return Inputs(
        [
            toys.policy(checkpoints / "policy", "policy"),
            toys.policy(checkpoints / "other", "start"),
            toys.preference(checkpoints / "reward", "graders"),
            toys.preference(checkpoints / "grader", "graders"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", rows)),
            toys.given("harmless", toys.rows_file(tmp_path / "harmless.jsonl", harmless)),
        ]
    )


REAL = Settings(k=4, max_tokens=8, chunk=2, filters=Filters(cut="keep", no_refusal=False))


def run_room(settings: Settings, inputs: Inputs, out: Workspace) -> Path:
    room.run(settings, inputs, out)
    return out.path


def test_real_models_take_what_their_scores_put_first(real: Inputs, tmp_path: Path, checkpoints: Path) -> None:
    path = run_room(REAL, real, toys.workspace(tmp_path / "out"))
    rows = samples(path, "replies")
    harmless = [r for r in rows if r["asked"] == "harmless"]
    items = [([user(f"What is a {r['id'][1]}?")], [r["reply"]]) for r in harmless]
    for place, name in enumerate(("reward", "grader")):
        own = [score for (score,) in PreferenceModel.open(checkpoints / name).score(items)]
        assert own == pytest.approx([r["scores"][place] for r in harmless], abs=1e-4)
    for row in samples(path, "selected"):
        passing = [r for r in rows if r["id"] == row["id"] and r["dropped"] is None]
        assert row["taken"] == max(passing, key=lambda r: r["score"])["name"]
    assert Counter(r["origin"] for r in rows) == {"sample": 8 * 4, "start": 3}


def test_replies_are_the_same_in_chunks_of_any_size(real: Inputs, tmp_path: Path) -> None:
    small = run_room(REAL, real, toys.workspace(tmp_path / "small"))
    large = run_room(REAL.model_copy(update={"chunk": 99}), real, toys.workspace(tmp_path / "large"))
    for one, other in zip(samples(small, "replies"), samples(large, "replies"), strict=True):
        assert one["reply"] == other["reply"] and one["scores"] == pytest.approx(other["scores"], abs=1e-4)


def test_a_sample_is_the_same_however_many_are_drawn(real: Inputs, tmp_path: Path) -> None:
    four = samples(run_room(REAL, real, toys.workspace(tmp_path / "four")), "replies")
    two = samples(run_room(REAL.model_copy(update={"k": 2}), real, toys.workspace(tmp_path / "two")), "replies")
    drawn = {(r["id"], r["name"]): r["reply"] for r in four}
    assert all(drawn[r["id"], r["name"]] == r["reply"] for r in two) and len(two) < len(four)


def test_stopped_and_resumed_is_equal(real: Inputs, tmp_path: Path) -> None:
    whole = toys.files_of(run_room(REAL, real, toys.workspace(tmp_path / "whole")))
    for stop in (1, 4, 5, 7, 11):
        folder = tmp_path / f"broken{stop}"
        with pytest.raises(toys.Interrupted):
            run_room(REAL, real, toys.workspace(folder, progress=toys.StoppingProgress(stop)))
        assert toys.files_of(run_room(REAL, real, toys.workspace(folder))) == whole


def test_prompts_are_drawn_as_critique_draws_them(real: Inputs, tmp_path: Path) -> None:
    rows = samples(run_room(REAL.model_copy(update={"limit": 2}), real, toys.workspace(tmp_path / "o")), "selected")
    assert Counter(row["asked"] for row in rows) == {"prompts": 2, "harmless": 2}
