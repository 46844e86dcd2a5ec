"""`charter card export`: the scores of a run in the formats of public score collections."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import atomic_write
from charter.runner.show import find_run


class Form(StrEnum):
    """Formats for scores."""

    every_eval_ever = "every-eval-ever"
    eval_results = "eval-results"


def card_export(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run directory, a card, or a report such as runs/demo/eval_rl."),
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
        str,
        typer.Option("--organization", metavar="NAME", help="Who publishes the scores (every-eval-ever)."),
    ] = "unknown",
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="Write each sample too (every-eval-ever).")
    ] = True,
    dataset: Annotated[
        str,
        typer.Option("--dataset", metavar="OWNER/NAME", help="Hub data set of the prompts (eval-results)."),
    ] = "",
) -> None:
    """Write the scores of a run for public collections, with intervals, settings and samples."""
    from charter.rooms.card.every_eval_ever import Publisher
    from charter.rooms.card.export import to_eval_results, to_every_eval_ever
    from charter.runner.verify import measures

    place = Path(run) if (Path(run) / MANIFEST).is_file() else find_run(run)
    if form is Form.eval_results:
        files = to_eval_results(place, dataset)
    else:
        files = to_every_eval_ever(
            place, Publisher(organization, model, int(time.time())), measures if samples else lambda _: {}
        )
    if out.exists() and not out.is_dir():
        raise CharterError(f"{out} is a file; --out names a folder")
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, content)
        print(out / name)
