"""What a conversation has beside its questions: the texts of files, and how replies are sampled and shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError


@dataclass(frozen=True)
class Style:
    """How replies are sampled and shown. `plain`: the model continues text, without a chat template. If none of
    temperature, top_p and top_k is set, the model's own decoding holds; else those not set are 1, 1 and 0."""

    system: str = ""
    temperature: float | None = None
    max_tokens: int = 256
    plain: bool = False
    as_json: bool = False
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class File:
    """A text and its name."""

    name: str
    text: str


def read_file(path: str) -> File:
    """Raises CharterError if the file can't be read or is not text."""
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CharterError(
            f"--file {path}: byte {error.start + 1} is not UTF-8 text; convert the file to UTF-8 first"
        ) from None
    except OSError as error:
        raise CharterError(
            f"--file {path}: {error.strerror or error}; name a text file that can be read"
        ) from None
    if not text.strip():
        raise CharterError(f"--file {path}: there is no text in it; name another file")
    return File(Path(path).name, text)


def format_files(files: Sequence[File], plain: bool) -> str:
    """The texts as they stand before the first question: each in its own tags, or as they are."""
    if plain:
        return "".join(f"{file.text.rstrip()}\n\n" for file in files)
    return "".join(f'<document name="{file.name}">\n{file.text.rstrip()}\n</document>\n\n' for file in files)
