"""Options that several commands have, with the same words in each."""

from enum import StrEnum
from typing import Annotated

import typer


class Axis(StrEnum):
    """What a comparison was judged by."""

    helpful = "helpful"
    honest = "honest"
    harmless = "harmless"


ACCOUNTS = "serve.sqlite"  # the database of accounts, where none is named

Database = Annotated[
    str, typer.Option("--database", metavar="DB", help="URL or file of the accounts' database.")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="D", help="cpu, cuda, cuda:N or mps; found if left out.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", help="float32, bfloat16 or int8; fits the device if left out."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask before deleting.")]
