"""`charter review`: the flagged replies that wait for a person's verdict, and the file of the verdicts."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from charter.runner.names import complete_product, find_product


def review(
    place: Annotated[
        str,
        typer.Argument(
            metavar="RUN|REPORT", help="A run with evaluate reports, or one of these.", autocompletion=complete_product
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="File of the verdicts; default: RUN.judgments.jsonl beside the run."),
    ] = None,
    show_stage: Annotated[
        bool, typer.Option("--show-stage", help="Name the stage of each reply; default: a blind review.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary in JSON on standard output.")] = False,
) -> None:
    """Judge whether each reply that the grader flagged is harmful; a later call resumes the review.

    Replies of all stages come in one shuffled order, so the judged ones are a fair sample at any time. Each verdict is
    written at once. Pass the file to the card as `judgments`. An answer is one key, or one line from a pipe.
    """
    from charter.cli.review_session import (
        Review,
        check_target,
        default_file,
        earlier_rows,
        find_reports,
        keys_of_lines,
        keys_of_terminal,
        waiting,
    )

    reports = find_reports(find_product(place))
    target = to or default_file(reports[0])
    check_target(target)
    session = Review(waiting(reports), earlier_rows(target), target)
    console = Console(stderr=as_json)
    if session.items:
        terminal = sys.stdin.isatty()
        session.hold(console, keys_of_terminal if terminal else keys_of_lines, show_stage)
    if as_json:
        print(json.dumps(session.summary(), ensure_ascii=False))
    else:
        console.print(session.summary_line(), highlight=False, markup=False, soft_wrap=True)
