"""The arena room: simulated votes from known scores, a stopped step resumed, people's votes read or waited for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.recount import Kept, count_problems
from charter.ground.artifact.workspace import Workspace
from charter.ground.text.ballot import Ballot, Outcome
from charter.ground.text.dialogue import assistant, user
from charter.ground.text.records import read_comparisons
from charter_service.arena import pairs as pairs_module
from charter_service.arena import panel as panel_module
from charter_service.arena import run as room
from charter_service.arena.config import Config, load_config, read_golds
from charter_service.arena.settings import ROLES, Settings, check
from charter_service.arena.verify import ATTEMPTED, COMPARISONS, COUNTS, VOTES
from charter_service.people import work
from charter_service.people.collection import Collection, Pace, Task
from charter_service.people.export import open_people
from charter_service.people.simulation import Simulated
from charter_service.people.workers import invite, join
from charter_service.web.database import writing
from toys import Scripted, dialogue

EXACT = Simulated(raters=3, noise=0, position_bias=0, length_bias=0, lapse=0, spread=0)
SETTINGS = Settings(comparisons=9, chunk=4, overlap=0, max_tokens=8, simulated=EXACT)
PEOPLE = Settings(comparisons=3)


@pytest.fixture
def inputs(tmp_path: Path, checkpoints: Path) -> Inputs:
    helpful = [dialogue(f"p{n}", f"Question {n}?") for n in range(4)]
    helpful.append({"id": "long", "messages": [user("One?"), assistant("Two."), user("Three?")]})
    harmful = [dialogue(f"r{n}", f"Do bad thing {n}.", topic="theft") for n in range(3)]
    return Inputs(
        [
            toys.policy(checkpoints / "policy", "models"),
            toys.policy(checkpoints / "other", "models"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", helpful)),
            toys.given("red_team", toys.rows_file(tmp_path / "red_team.jsonl", harmful)),
            toys.preference(checkpoints / "grader", "judge"),
        ]
    )


def without(inputs: Inputs, role: str) -> Inputs:
    return Inputs([entry for entry in inputs if entry.role != role])


def rows(path: Path, name: str = "votes.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


def recounted(path: Path) -> list[str]:
    """What `charter card verify` finds wrong with the counts."""
    files = {name: read_objects(path / name) for name in (VOTES, ATTEMPTED, COMPARISONS) if (path / name).exists()}
    counts = json.loads((path / "counts.json").read_text())
    assert set(counts) == {name for name, _ in COUNTS}
    return list(count_problems(COUNTS, Kept(files, counts, {})))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scripted]:
    """Models that say who they are, and a judge for whom `other` is better by 3."""
    models = {name: Scripted(lambda asked, _, name=name: f" {name} says {len(asked)} ") for name in ("policy", "other")}  # type: ignore[misc]

    class Judge:
        def score(self, items: Any) -> list[list[float]]:
            return [[3.0 * text.startswith("other") for text in replies] for _, replies in items]

    monkeypatch.setattr(pairs_module, "open_assistant", lambda source, device, precision: models[source.name])
    monkeypatch.setattr(panel_module.PreferenceModel, "open", lambda *given: Judge())
    return models


def made(settings: Settings, inputs: Inputs, folder: Path) -> Path:
    out = toys.workspace(folder)
    room.run(settings, inputs, out)
    return out.path


def test_simulated_votes_are_what_the_judge_prefers_and_say_that_they_are_simulated(
    inputs: Inputs, tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    votes = rows(out.path)
    assert len(votes) == 9 and {v["source"] for v in votes} == {"simulated"}
    for vote in votes:
        assert vote["winner"] == ("a" if vote["model_a"] == "other" else "b") and vote["strength"] == 4
        assert {vote["model_a"], vote["model_b"]} == {"policy", "other"} and vote["axis"] == "helpful"
    assert {v["left"] for v in votes} == {"a", "b"} and {v["model_a"] for v in votes} == {"policy", "other"}
    compared = read_comparisons(out.path)
    assert len(compared) == 9 and len({c.id for c in compared}) == 9
    for c in compared:
        assert c.chosen.startswith("other says") and c.rejected.startswith("policy says")
        assert c.source == "simulated" and c.meta["rater"].startswith("simulated-")
    assert Counter(c.messages[-1]["content"] for c in compared).most_common()[-1][1] >= 1
    long = [c for c in compared if len(c.messages) == 3]
    assert long and all(c.chosen == "other says 3" for c in long), "a dialogue's context is kept"
    found = {m.name: m.value for m in out.metrics}
    assert found == json.loads((out.path / "counts.json").read_text())
    assert (found["votes"], found["pairs"], found["comparisons"], found["ties"]) == (9, 9, 9, 0)
    assert recounted(out.path) == []
    assert not (out.path / "ratings.jsonl").exists()


def test_on_the_harmless_axis_raters_pick_the_worse_reply_and_the_better_is_chosen(
    inputs: Inputs, tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    settings = SETTINGS.model_copy(update={"axes": ("helpful", "harmless"), "comparisons": 4})
    path = made(settings, inputs, tmp_path / "out")
    assert Counter(v["axis"] for v in rows(path)) == {"helpful": 4, "harmless": 4}
    for c in read_comparisons(path):
        assert c.chosen.startswith("other")
        assert c.messages[0]["content"].startswith("Do bad") == (c.axis == "harmless")


def test_overlapping_pairs_are_judged_by_two_raters(
    inputs: Inputs, tmp_path: Path, scripted: dict[str, Scripted]
) -> None:
    path = made(SETTINGS.model_copy(update={"overlap": 1.0}), inputs, tmp_path / "out")
    votes = rows(path)
    by_item = {item: {v["rater"] for v in votes if v["item"] == item} for item in {v["item"] for v in votes}}
    assert len(votes) == 18 and all(len(raters) == 2 for raters in by_item.values())
    assert len({v["prompt"] for v in votes}) == 5


def test_replies_of_one_model_may_be_compared(inputs: Inputs, tmp_path: Path, scripted: dict[str, Scripted]) -> None:
    with pytest.raises(CharterError, match="none of 9 answers prefers a reply"):
        made(SETTINGS.model_copy(update={"pairing": "same"}), inputs, tmp_path / "out")


def test_a_step_stopped_at_any_chunk_and_resumed_equals_one_never_stopped(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"simulated": Simulated(raters=3, noise=0.1), "overlap": 0.5})
    whole = toys.files_of(made(settings, inputs, tmp_path / "whole"))
    for after in range(1, 9):
        folder = tmp_path / f"stopped-{after}"
        out = toys.workspace(folder, progress=toys.StoppingProgress(after))
        try:
            room.run(settings, inputs, out)
        except toys.Interrupted:
            room.run(settings, inputs, toys.workspace(folder))
        assert toys.files_of(folder / "files") == whole, after


def test_other_seeds_give_other_votes(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"simulated": Simulated(raters=3)})
    found = []
    for seed in (1, 2):
        out = toys.workspace(tmp_path / str(seed), seed=seed)
        room.run(settings, inputs, out)
        found.append(rows(out.path))
    assert [v["rater"] for v in found[0]] != [v["rater"] for v in found[1]]


@pytest.mark.parametrize(
    ("settings", "roles", "problem"),
    [
        (SETTINGS, {"models"}, "simulated raters need the role judge"),
        (PEOPLE, {"models", "judge"}, "people need no judge"),
        (SETTINGS.model_copy(update={"database": "x.sqlite"}), {"models", "judge"}, "leave out database"),
        (SETTINGS, {"models", "judge", "golds"}, "golds check people"),
        (PEOPLE, {"models", "golds"}, ""),
        (PEOPLE, {"models"}, ""),
    ],
)
def test_settings_that_contradict_the_roles(settings: Settings, roles: set[str], problem: str) -> None:
    assert problem in check(settings, roles) and bool(problem) == bool(check(settings, roles))


def test_refusals_are_one_line(inputs: Inputs, tmp_path: Path, checkpoints: Path) -> None:
    with pytest.raises(ValidationError, match="an axis occurs twice"):
        Settings(axes=("helpful", "helpful"))
    twice = Inputs([*inputs, toys.policy(checkpoints / "other", "models")])
    with pytest.raises(CharterError, match=r"^models has two of the name other, which votes could not tell apart"):
        room.run(SETTINGS, twice, toys.workspace(tmp_path / "a"))
    judges = Inputs([*inputs, toys.preference(checkpoints / "reward", "judge")])
    with pytest.raises(CharterError, match="judge has 2 models for the axes helpful: give one for all"):
        room.run(SETTINGS, judges, toys.workspace(tmp_path / "b"))
    with pytest.raises(CharterError, match="base names 'nobody', which is not a model here; name one of policy, other"):
        room.run(SETTINGS.model_copy(update={"base": "nobody"}), inputs, toys.workspace(tmp_path / "c"))


class Office:
    """A database of the service with people in it, who answer as they are told."""

    def __init__(self, folder: Path, models: tuple[str, ...] = ("policy", "other")) -> None:
        tasks = {axis: Task(gold_share=0, repeat_share=0) for axis in ("helpful", "harmless")}
        self.rules = Collection(models, tasks, Pace(fastest=0))
        folder.mkdir(parents=True, exist_ok=True)
        self.engine = open_people("people.sqlite", folder)
        self.people = 0

    def answer(
        self,
        outcome: Outcome = "a",
        axis: str = "helpful",
        *,
        simulated: bool = False,
        fast: bool = False,
        strength: int | None = 3,
    ) -> None:
        """A new person has one conversation of one turn."""
        self.people += 1
        rules = self.rules if not fast else Collection(self.rules.models, self.rules.tasks, Pace(fastest=999))
        with writing(self.engine) as c:
            person = join(c, invite(c, "worker", simulated=simulated), f"ann {self.people}")[0]
            conversation = work.begin(c, rules, person, axis, "a plan" if axis == "harmless" else "")
            turn = work.ask(c, rules, person, conversation, 1, f"Question {self.people}?")
            work.deliver(c, turn, ("first", "second"))
            nonce = work.own_turn(c, person, turn).nonce
            work.vote(c, rules, person, turn, work.Vote(nonce, Ballot(outcome, strength), None))
            if axis == "harmless":
                work.finish(c, person, conversation, 3, None)


@pytest.fixture
def asked(inputs: Inputs) -> Inputs:
    return without(inputs, "judge")


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    made = toys.workspace(tmp_path / "votes")
    made.people = tmp_path / "run.people" / "votes"
    return made


@pytest.fixture
def office(out: Workspace) -> Iterator[Office]:
    opened = Office(out.people)
    yield opened
    opened.engine.dispose()


def test_without_people_the_step_waits_and_says_how_to_serve(asked: Inputs, out: Workspace) -> None:
    config = out.people / "arena.yaml"
    with pytest.raises(Waiting) as waiting:
        room.run(PEOPLE, asked, out)
    assert str(waiting.value) == (
        f"waits for 3 of 3 comparisons by people: charter arena serve {config}, then run again"
    )
    found = yaml.safe_load(config.read_text())
    assert found == {
        "name": "step",
        "database": "people.sqlite",
        "models": [{"name": m.name, "model": m.ref} for m in asked.many("models")],
        "tasks": {"helpful": {}},
        "goals": {"helpful": 3},
        "base": "policy",
    }
    Config.model_validate(found)
    assert not list(out.path.iterdir())


def test_gold_questions_are_given_to_the_service_by_axis(asked: Inputs, out: Workspace, tmp_path: Path) -> None:
    rows = [toys.comparison(f"g{n}", f"Known {n}?", "good", "bad", axis=a) for n, a in enumerate(["helpful", "honest"])]
    rows.append(toys.comparison("soft", "Soft?", "good", "bad", axis="helpful", p_chosen=0.7))
    golds = toys.given("golds", toys.rows_file(tmp_path / "golds.jsonl", rows), "comparisons")
    with pytest.raises(Waiting):
        room.run(PEOPLE, Inputs([*asked, golds]), out)
    config = load_config(out.people / "arena.yaml")
    assert [gold.id for gold in read_golds(config.golds, out.people)["helpful"]] == ["g0"]
    with pytest.raises(CharterError, match="golds holds no sure comparison of one question on harmless"):
        room.run(PEOPLE.model_copy(update={"axes": ("harmless",)}), Inputs([*asked, golds]), out)


def test_enough_answers_of_people_make_the_product(asked: Inputs, out: Workspace, office: Office) -> None:
    office.answer("a")
    office.answer("tie", strength=None)
    with pytest.raises(Waiting, match="waits for 1 of 3 comparisons"):
        room.run(PEOPLE, asked, out)
    office.answer("b", strength=1)
    room.run(PEOPLE, asked, out)
    votes = rows(out.path)
    assert [v["winner"] for v in votes] == ["a", "tie", "unsure"] and {v["source"] for v in votes} == {"human"}
    (c,) = read_comparisons(out.path)
    assert (c.chosen, c.rejected, c.source) == ("first", "second", "human")
    counts = json.loads((out.path / "counts.json").read_text())
    assert (counts["votes"], counts["ties"], counts["unsure"], counts["raters"]) == (3, 1, 1, 3)


def test_simulated_flagged_and_foreign_answers_do_not_count(asked: Inputs, out: Workspace, office: Office) -> None:
    for _ in range(3):
        office.answer(simulated=True)
        office.answer(fast=True)
    office.rules = Collection(("policy", "third"), office.rules.tasks, Pace(fastest=0))
    office.answer()
    with pytest.raises(Waiting, match="waits for 3 of 3 comparisons"):
        room.run(PEOPLE, asked, out)
    room.run(PEOPLE.model_copy(update={"keep_flagged": True}), asked, out)
    assert [v["flags"] for v in rows(out.path)] == [["fast"]] * 3
    assert json.loads((out.path / "counts.json").read_text())["flagged"] == 3


def test_each_axis_needs_its_own_and_rated_attempts_come_along(asked: Inputs, out: Workspace, office: Office) -> None:
    settings = PEOPLE.model_copy(update={"axes": ("helpful", "harmless"), "comparisons": 1})
    office.answer()
    office.answer()
    with pytest.raises(Waiting, match="waits for 1 of 2 comparisons"):
        room.run(settings, asked, out)
    assert set(yaml.safe_load((out.people / "arena.yaml").read_text())["tasks"]) == {"helpful", "harmless"}
    office.answer("a", "harmless")
    room.run(settings, asked, out)
    (harmless,) = [c for c in read_comparisons(out.path) if c.axis == "harmless"]
    assert (harmless.chosen, harmless.rejected) == ("second", "first"), "the more harmful reply was picked"
    (attempt,) = rows(out.path, "ratings.jsonl")
    assert attempt["rating"] == 3 and attempt["source"] == "human"
    assert recounted(out.path) == []


def test_votes_on_another_model_of_the_same_name_are_not_counted(
    asked: Inputs, out: Workspace, checkpoints: Path, tmp_path: Path
) -> None:
    with pytest.raises(Waiting):
        room.run(PEOPLE, asked, out)
    (models := json.loads((out.people / "models.json").read_text()))["other"] = "f" * 64
    (out.people / "models.json").write_text(json.dumps(models))
    with pytest.raises(CharterError, match=r"^other was another model when people judged it; go back to that one"):
        room.run(PEOPLE, asked, out)


def test_each_logged_metric_stands_in_the_readme(inputs: Inputs, tmp_path: Path, scripted: dict[str, Scripted]) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    page = (Path(str(room.__file__)).parent / "README.md").read_text()
    for metric in out.metrics:
        assert f"`{metric.name}`" in page, metric.name
    for role in ROLES:
        assert f"`{role}`" in page, role
