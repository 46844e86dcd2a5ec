"""What a conversation has beside its questions: the texts of files, and how replies are sampled and shown."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.artifact.errors import CharterError


@dataclass(frozen=True)
class Style:
    """How replies are sampled and shown. `plain`: the model continues text, without a chat template. If none of
    temperature, top_p and top_k is set, the model's own decoding holds; else those not set are 1, 1 and 0. `loops`: a
    reply that repeats itself goes on."""

    system: str = ""
    temperature: float | None = None
    max_tokens: int = 256
    plain: bool = False
    as_json: bool = False
    top_p: float | None = None
    top_k: int | None = None
    loops: bool = False


@dataclass(frozen=True)
class File:
    """A text and its name."""

    name: str
    text: str


def read_file(path: str) -> File:
    """The text of a file of any format that documents have. Raises CharterError if it can't be read."""
    from charter.ground.documents.document import Unreadable
    from charter.ground.documents.reading import check_size, read_document

    try:
        with open(path, "rb") as file:
            check_size(os.fstat(file.fileno()).st_size)
            document = read_document(file.read(), path)
    except Unreadable as error:
        raise CharterError(f"--file {path}: {error}") from None
    except OSError as error:
        raise CharterError(f"--file {path}: {error.strerror or error}; name a file that can be read") from None
    return File(document.name, document.text)


def format_files(files: Sequence[File], plain: bool) -> str:
    """The texts as they stand before the first question: each in its own tags, or as they are."""
    if plain:
        return "".join(f"{file.text.rstrip()}\n\n" for file in files)
    return "".join(f'<document name="{file.name}">\n{file.text.rstrip()}\n</document>\n\n' for file in files)
