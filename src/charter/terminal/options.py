"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer


class Axis(StrEnum):
    """What a comparison was judged by."""

    helpful = "helpful"
    honest = "honest"
    harmless = "harmless"


class DataKind(StrEnum):
    """What a file of rows is read as."""

    prompts = "prompts"
    dialogues = "dialogues"
    comparisons = "comparisons"
    triples = "triples"
    judgments = "judgments"
    votes = "votes"
    texts = "texts"


ACCOUNTS = "serve.sqlite"  # the default database of accounts

Database = Annotated[str, typer.Option("--database", metavar="DB", help="Database of accounts, a URL or a file.")]
Device = Annotated[
    str | None, typer.Option("--device", metavar="D", help="cpu, cuda, cuda:N or mps; default: the best one here.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", help="float32, bfloat16 or int8; default: what suits the device."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads to compute with at most; default: a core each."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask before deleting.")]
