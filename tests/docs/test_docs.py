"""The documents tell the truth: what they name exists, their rows can be read, their links lead somewhere."""

import functools
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml
from page_scripts import load_script
from pydantic import BaseModel

from charter.building import ROOMS
from charter.cli.main import make_app
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution
from charter.ground.settings.places import data_folder
from charter.ground.settings.recipe import Recipe, load_recipe
from charter.ground.settings.recognise import kind_of_file
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.examples import read_triples
from charter.ground.text.judgments import read_judgments
from charter.ground.text.records import read_comparisons, read_dialogues, read_texts
from charter.release.rules import ReleaseRules, SignOffs
from charter.runner.plan import make_plan

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = [README, *(ROOT / f"{n}.md" for n in ("CONTRIBUTING", "CHANGELOG"))]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE_ENDINGS = ("json", "jsonl", "html", "md", "py", "yaml", "svg", "sqlite")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code(document: Path) -> Iterator[str]:
    """Every fenced block and every span in backticks."""
    text = document.read_text("utf-8")
    for found in FENCE.finditer(text):
        yield found.group(2)
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


@functools.cache
def commands() -> dict[str, set[str]]:
    """Commands of the program; a group with the commands in it, any other with none."""
    app = make_app()
    found: dict[str, set[str]] = {str(c.name): set() for c in app.registered_commands}
    for group in app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        found[str(group.name)] = {str(c.name) for c in inner.registered_commands}
    return found


def settings_of(room: str) -> ModuleType:
    return importlib.import_module(f"{ROOMS[room]}.settings")


def has_field(model: type[BaseModel], path: list[str]) -> bool:
    """Whether a settings class has a field of that dotted name."""
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    kinds = (field.annotation, *get_args(field.annotation))
    inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
    return len(path) == 1 or any(has_field(k, path[1:]) for k in inner)


@functools.cache
def rooms_of_steps() -> dict[str, set[str]]:
    """Step name of a shipped recipe -> the rooms that steps of that name are in."""
    found: dict[str, set[str]] = {}
    for path in RECIPES:
        for step in load_recipe(path).steps:
            found.setdefault(step.name, set()).add(step.room)
    return found


def slugs(document: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    text = FENCE.sub("", document.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_the_page_of_recipes_has_all_of_them_and_no_other() -> None:
    named = set(re.findall(r"recipes/[\w-]+\.yaml", (DOCS / "gallery/recipes.md").read_text("utf-8")))
    assert named == {name(path) for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=name)
def test_recipes_can_be_planned(path: Path, tmp_path: Path, checkpoints: Path) -> None:
    text = path.read_text("utf-8")
    if '"data:' in text and not (data_folder() / "hh_rlhf").is_dir():
        pytest.skip("no data sets: set CHARTER_DATA to the folder that holds hh_rlhf")
    # what another run must have made before: any checkpoint of the kind stands for it
    for made, stand_in in (
        (r"\w+/pm_reward", checkpoints / "reward"),
        (r"\w+/pm_\w+", checkpoints / "grader"),
        (r"\w+/revisions", "shipped:critiques.train"),
        (r"\w+/harmless", "shipped:twins.train"),
        (r"\w+/answers", "shipped:helpful.train"),
    ):
        text = re.sub(rf"\.\./runs/[\w-]*{made}", str(stand_in), text)
    text = re.sub(r"\.\./runs/[\w-]+/\w+", str(checkpoints / "policy"), text)
    (tmp_path / path.name).write_text(text)
    plan = make_plan(load_recipe(tmp_path / path.name, []), path.parent, tmp_path / "run", Execution())
    assert len({planned.id for planned in plan.steps}) == len(plan.steps)
    assert not (tmp_path / "run").exists(), "planning writes nothing"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_exist(document: Path) -> None:
    known = commands()
    for text in code(document):
        for first, second in re.findall(r"(?:^|[\s/])charter ([a-z]+)(?: ([a-z]+))?", text):
            assert first in known, f"{name(document)}: charter {first}"
            assert not known[first] or second in known[first], f"{name(document)}: charter {first} {second}"


def test_the_page_of_commands_has_every_command() -> None:
    text = (DOCS / "reference/commands.md").read_text("utf-8")
    for first, inner in commands().items():
        for words in [f"charter {first} {second}" for second in inner] or [f"charter {first}"]:
            assert f"| `{words}` |" in text, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_settings_exist(document: Path) -> None:
    rooms = "|".join(ROOMS)
    for text in code(document):
        for room, path in re.findall(rf"^({rooms})\.([a-z_.]+)$", text):
            if path.rpartition(".")[2] not in FILE_ENDINGS:
                assert has_field(settings_of(room).Settings, path.split(".")), f"{name(document)}: {text}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_overrides_name_steps_roles_and_settings(document: Path) -> None:
    steps = rooms_of_steps()
    for text in code(document):
        for step, dotted in re.findall(r"--set ([\w-]+)\.([a-z_.]+)=", text):
            path = dotted.split(".")
            if step == "recipe":
                assert path[0] in Recipe.model_fields
                continue
            assert step in steps, f"{name(document)}: no recipe has a step {step}"
            for room in steps[step]:
                module = settings_of(room)
                known = path[1] in module.ROLES if path[0] == "from" else has_field(module.Settings, path)
                assert known, f"{name(document)}: --set {step}.{dotted}"


def test_the_documents_recipes_and_rules_are_such() -> None:
    pages = [(DOCS / name).read_text("utf-8") for name in ("gallery/recipes.md", "howto/releasing.md")]
    blocks = [body for page in pages for language, body in FENCE.findall(page) if language == "yaml"]
    assert blocks
    recipes = [body for body in blocks if "steps:" in body]
    for body in blocks:
        if body not in recipes:
            form = SignOffs if "subject:" in body else ReleaseRules
            form.model_validate(yaml.safe_load(body))
    for body in recipes:
        recipe = Recipe.model_validate(yaml.safe_load(body))
        for step in recipe.steps:
            module = settings_of(step.room)
            module.Settings.model_validate(step.settings)
            assert set(step.sources) <= set(module.ROLES)
            required = {r for r, role in module.ROLES.items() if role.required and role.default is None}
            assert required <= set(step.sources)


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "AGENTS.md"], ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    text = FENCE.sub("", document.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), f"{name(document)}: {target}"
        assert place.is_relative_to(ROOT), f"{name(document)}: {target} leads out of the repository"
        assert not anchor or anchor in slugs(place), f"{name(document)}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_named_in_the_documents_exist(document: Path) -> None:
    for text in code(document):
        for path in re.findall(r"(?<![\w./-])((?:ground|runner|cli|src|tests|docs|recipes)/[\w./-]+)", text):
            places = [ROOT / path.rstrip("./"), ROOT / "src" / "charter" / path.rstrip("./")]
            if "NAME" not in path:
                assert any(place.exists() for place in places), f"{name(document)}: {path}"


def test_files_of_the_map_exist() -> None:
    for path in re.findall(r"`([\w/]+\.py)`", (DOCS / "project/map.md").read_text("utf-8")):
        assert (ROOT / "src" / path).is_file(), path


def test_the_readmes_rows_can_be_read(tmp_path: Path) -> None:
    (block,) = (body for language, body in FENCE.findall(README.read_text("utf-8")) if language == "json")
    prompts, dialogue, comparison = block.splitlines()
    for number, row in enumerate((prompts, dialogue)):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(row + "\n", "utf-8")
        assert kind_of_file(file) == ("prompts", "dialogues")[number] and len(read_dialogues(file)) == 1
    file.write_text(comparison + "\n", "utf-8")
    assert kind_of_file(file) == "comparisons" and len(read_comparisons(file)) == 1


def test_the_data_pages_rows_can_be_read(tmp_path: Path) -> None:
    text = (DOCS / "howto/your_data.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| [^|]+ \| `(\{.+\})` \|$", text, re.MULTILINE))
    readers: dict[str, tuple[str, Any]] = {
        "prompts": ("prompts", read_dialogues),
        "dialogues": ("dialogues", read_dialogues),
        "comparisons": ("comparisons", read_comparisons),
        "texts": ("text", read_texts),
        "triples": ("triples", read_triples),
        "judgments": ("judgments", read_judgments),
    }
    assert rows.keys() == readers.keys()
    for what, row in rows.items():
        file = tmp_path / f"{what}.jsonl"
        file.write_text(row + "\n", "utf-8")
        kind, read = readers[what]
        assert kind_of_file(file) == kind
        assert len(read(file)) == 1


def test_the_data_page_counts_every_shipped_file() -> None:
    text = (DOCS / "reference/data.md").read_text("utf-8")
    told = {file: int(n) for file, n in re.findall(r"^\| `([\w.]+\.jsonl)` \| (\d+) \|", text, re.MULTILINE)}
    there = {p.name: len(p.read_text("utf-8").splitlines()) for p in shipped_folder().glob("*.jsonl")}
    assert told == there
    constitution = yaml.safe_load((shipped_folder() / "constitution.yaml").read_text("utf-8"))
    counts = f"{len(constitution['critiques'])} + {len(constitution['comparisons'])}"
    assert f"| `constitution.yaml` | {counts} |" in text


@pytest.mark.parametrize(("page", "most"), [("README.md", 1500), ("AGENTS.md", 700), ("docs/results/study.md", 2500)])
def test_pages_stay_short(page: str, most: int) -> None:
    assert len((ROOT / page).read_text("utf-8").split()) <= most


def test_generated_parts_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_script("fill").main(["--check"]) == 0, f"python docs/fill.py writes it:\n{capsys.readouterr().out}"


def test_pages_of_results_show_the_rows_of_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_script("results").main(["--check"]) == 0, capsys.readouterr().err


def test_numbers_are_taken_from_a_card_and_nothing_else(tmp_path: Path) -> None:
    numbers = load_script("fill")
    number = {"key": "eval_a/harm_answered_rate", "name": "harm_answered_rate", "value": 0.5, "low": 0.25, "high": 0.75}
    number |= {"n": 8, "clusters": 8, "version": 1, "unit": "share", "stage": "a", "change": False}
    change = number | {"key": "eval_a..eval_b/harm_answered_rate", "value": -0.125, "low": -0.25, "change": True}
    card = {
        "settings": {"headline": ["harm_answered_rate"]},
        "stages": [{"stage": "a", "step": "eval_a"}, {"stage": "b", "step": "eval_b"}],
        "numbers": [number, change | {"high": 0.125}],
    }
    row = numbers.headline_table(card).splitlines()[-1]
    shown = "| Answered, worse than a plain refusal | 50.0 % (25.0 to 75.0) | - | −12.5 points (−25.0 to +12.5), not significant | - |"
    assert row == shown
    alarms = number | {"key": "eval_b/lookalike_harm_rate", "name": "lookalike_harm_rate"}
    shown = numbers.headline_table(card | {"numbers": [number, alarms]}).splitlines()[-1]
    assert shown == "| False alarms on harmless look-alikes | - | 50.0 % (25.0 to 75.0) | - | 8 |"
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "card.json").write_text(json.dumps(card), "utf-8")
    assert numbers.read_card(tmp_path)[1] == card
    assert numbers.between("<!-- a:start -->\nold\n<!-- a:end -->", "a", "new").splitlines()[1] == "new"


def test_a_range_is_over_runs_of_the_same_stages_and_of_what_each_has() -> None:
    fill = load_script("fill")
    number = {"name": "unsafe_refusal_rate", "low": None, "high": None, "n": 40, "clusters": 40}
    number |= {"version": 1, "unit": "share", "stage": "a", "change": False}
    cards = [
        {
            "stages": [{"stage": "a", "step": "eval_a"}],
            "numbers": [number | {"key": "eval_a/unsafe_refusal_rate", "value": value}],
        }
        for value in (0.5, 0.75, 0.7)
    ]
    alone = number | {"name": "lookalike_refusal_rate", "key": "eval_a/lookalike_refusal_rate", "value": 0.1}
    cards[0]["numbers"].append(alone)  # the other two lack it
    table = fill.range_table(cards).splitlines()
    assert table[0] == "| | a | n |"
    assert [row.split(" | ")[1:] for row in table[2:]] == [["65.0 % (50.0 to 75.0)", "40 |"]]
    cards[1]["stages"][0]["stage"] = "b"
    with pytest.raises(CharterError, match="different stages: ['a', 'b']".replace("[", r"\[")):
        fill.range_table(cards)


def test_the_picture_is_well_formed_and_follows_the_reader() -> None:
    drawing = load_script("draw")
    step = drawing.Step("sl_cai", "finetune", "checkpoint", {"loss": 1.25}, (), "random:tiny")
    graders = [
        drawing.Step(n, "preference", "checkpoint", {"pair_accuracy": 0.5}, ("sl_cai",), None) for n in ("pm_a", "pm_b")
    ]
    boxes = drawing.boxes_of([step, *graders])
    assert [len(box.steps) for box in boxes] == [1, 2]
    picture = drawing.draw("toy", boxes)
    assert "prefers-color-scheme:dark" in picture and "loss 1.25" in picture and "50 %, 50 %" in picture
    assert (ROOT / "docs" / "run.svg").read_text("utf-8").startswith("<svg")
