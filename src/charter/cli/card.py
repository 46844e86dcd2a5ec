"""`charter card`: opens the card of a run, verifies it, and exports its scores."""

import sys
import time
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.kinds import CARD_PAGE
from charter.ground.artifact.store import atomic_write
from charter.runner.names import complete_product, find_product, list_products
from charter.terminal.bars import make_progress
from charter.terminal.launch import relaunch

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run with a card, or a card.", autocompletion=complete_product)
]


class Form(StrEnum):
    """Formats for scores."""

    every_eval_ever = "every-eval-ever"
    eval_results = "eval-results"


def card_open(run: Run) -> None:
    """Open a card in the browser, and print its path; without a browser, print the path alone."""
    page = find_page(find_product(run))
    print(page)
    webbrowser.open(page.resolve().as_uri())


def find_page(place: Path) -> Path:
    """The page of a card, or of a run's card. Raises CharterError if there is none."""
    cards = [product.step for product in list_products(place) if product.kind == "card"]
    page = place / (cards[-1] if cards else "") / CARD_PAGE
    if not page.is_file():
        raise CharterError(f"{place} has no card; run a recipe with a step of the room card, or name its run")
    return page


def card_verify(
    run: Run, deep: Annotated[bool, typer.Option("--deep", help="Draw the samples again and compare.")] = False
) -> None:
    """Check every number of a card against the artifacts of its run."""
    from charter.runner.verify import verify

    folder = find_product(run)
    progress = None
    if deep:
        relaunch()
        progress = make_progress() if sys.stderr.isatty() else None
    problems = verify(folder, deep, progress=progress)
    for problem in problems:
        print(problem)
    if problems:
        count = "1 problem is" if len(problems) == 1 else f"{len(problems)} problems are"
        raise CharterError(f"the card of {folder} does not hold: {count} listed above")
    print(f"the card of {folder} holds")


def card_export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run, a card, or a report such as demo/eval_threshold.",
            autocompletion=complete_product,
        ),
    ],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="every-eval-ever: JSON of EvalEval's data store; eval-results: YAML beside a model on the hub.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write the files to.")],
    model: Annotated[
        str, typer.Option("--model", metavar="OWNER/NAME", help="Name of the model (every-eval-ever).")
    ] = "",
    organization: Annotated[
        str, typer.Option("--organization", metavar="NAME", help="Who publishes the scores (every-eval-ever).")
    ] = "unknown",
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="Write each sample too (every-eval-ever).")
    ] = True,
    harmful: Annotated[
        bool, typer.Option("--harmful", help="Write samples with harmful text too (every-eval-ever).")
    ] = False,
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="OWNER/NAME", help="Hub data set of the prompts (eval-results).")
    ] = "",
) -> None:
    """Write the scores of a run for public collections, with intervals, settings and samples."""
    from charter.release.every_eval_ever import Publisher
    from charter.release.export import to_eval_results, to_every_eval_ever
    from charter.runner.verify import measures

    place = find_product(run)
    if form is Form.eval_results:
        files = to_eval_results(place, dataset)
    else:
        publisher = Publisher(organization, model, int(time.time()))
        files = to_every_eval_ever(place, publisher, measures if samples else lambda _: {}, harmful)
    if out.exists() and not out.is_dir():
        raise CharterError(f"{out} is a file; --out names a folder")
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, content)
        print(out / name)
