"""Settings and roles of the corpus room, with the bounds of text quality by kind of text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Filled, Role, Room, Sizes
from charter.ground.settings.texts import LanguageCode, Period, as_written, period

Share = Annotated[float, Field(ge=0, le=1)]
ROLES = {
    "sources": Role(kind="sources", many=True),
    "benchmarks": Role(kind="questions", many=True, required=False),
    "tokenizer": Role(kind="checkpoint", variant="policy", required=False),
}
BYTES_PER_SECOND = 1.9e6  # on one core: 3.2 MB examined, 5 MB encoded
TRAINED_PER_SECOND = 1.5e6  # bytes of text for training the tokenizer
# State for each permutation of a document: its place in two files, and its part of the band keys.
PERMUTATION_BYTES = 9.5
DOCUMENT_BYTES = 3000  # typical text in a web document: a plan doesn't know their number
MEMORY_GIB, WORKER_GIB = 0.25, 0.2  # peaks of the room and of each process
_LEAST = 260  # least tokens of a trained vocabulary: the bytes, and ChatML's


class Repetition(Frozen):
    """The most repetition (Rae et al. 2021, table A1); shares of lines, paragraphs or characters."""

    lines: Share = Field(0.30, description="repeated lines")
    paragraphs: Share = Field(0.30, description="repeated paragraphs")
    line_characters: Share = Field(0.20, description="characters in such lines")
    paragraph_characters: Share = Field(0.20, description="characters in such paragraphs")
    top: tuple[Share, Share, Share] = Field(
        (0.20, 0.18, 0.16), description="characters in the most frequent run of 2, 3, 4 words"
    )
    runs: tuple[Share, Share, Share, Share, Share, Share] = Field(
        (0.20, 0.18, 0.17, 0.16, 0.15, 0.14),
        description="characters in repeated runs of 5 to 10 words, in a window of 2,000 words",
    )


class Prose(Frozen):
    """Bounds for text that people read."""

    least_words: int = Field(50, ge=0, description="words; two letters of a script without blanks make one")
    shortest_mean: float = Field(2.0, ge=0, description="least mean length of a word in letters")
    longest_mean: float = Field(10.0, ge=0, description="largest mean length of a word in letters")
    least_letters: Share = Field(0.60, description="letters among the characters that aren't blank")
    least_worded: Share = Field(0.70, description="pieces between blanks that hold a letter")
    most_symbols: Share = Field(0.10, description="signs # and ... for each word")
    most_bullets: Share = Field(0.90, description="lines that start with a bullet")
    most_ellipses: Share = Field(0.30, description="lines that end with an ellipsis")
    least_common: int = Field(2, ge=0, le=8, description="how many of eight common words occur, if English")
    most_boilerplate: Share = Field(0.10, description="stock phrases of web pages for each line")
    most_unbroken: Share = Field(0.20, description="characters in pieces of over 100 without a blank")
    repetition: Repetition = Field(Repetition(), description="repetition")


class Code(Frozen):
    """Bounds for program text."""

    least_words: int = Field(10, ge=0, description="names, numbers and words")
    longest_mean_line: float = Field(100.0, gt=0, description="largest mean length of a line (Chen et al. 2021)")
    longest_line: int = Field(1000, ge=1, description="most characters of a line (Chen et al. 2021)")
    least_alphanumeric: Share = Field(0.25, description="letters and digits among characters (Li et al. 2023)")
    least_letters: Share = Field(0.50, description="letters among letters and digits; less is data")
    most_repeated: Share = Field(0.60, description="characters in repeated lines")
    generated: bool = Field(True, description="drop files whose start says that a program wrote them")


class Quality(Frozen):
    """The quality that a kept document needs."""

    prose: Prose = Field(Prose(), description="bounds for text that people read")
    code: Code = Field(Code(), description="bounds for program text")
    most_broken: Share = Field(0.001, description="control, private and replacement characters among all")


class Reading(Frozen):
    """How files become documents."""

    largest_mib: float = Field(
        16.0, gt=0, le=512, description="largest document or row, in MiB; larger ones are refused and listed"
    )
    broken_utf8: Literal["refuse", "replace"] = Field(
        "refuse", description="a document with invalid UTF-8: refuse and list it, or write U+FFFD"
    )
    batch_mib: float = Field(4.0, gt=0, le=256, description="raw text to examine together and save whole, in MiB")


class Filters(Frozen):
    """Which documents are kept."""

    cutoff: Annotated[str, BeforeValidator(as_written)] = Field(
        "", description="last day (2023-01-31) or year or month; later documents are dropped"
    )
    undated: Literal["drop", "keep"] = Field(
        "drop", description="with a cut-off: what to do with documents without a date"
    )
    languages: tuple[LanguageCode, ...] = Field((), description="ISO codes to keep; empty: all")
    quality: Quality | None = Field(Quality(), description="the quality that documents need; null: keep all")
    scrub: bool = Field(True, description="put placeholders for personal data")
    near: Share = Field(0.8, description="drop near copies: least Jaccard similarity of 5-word runs; 0 turns it off")
    permutations: int = Field(128, ge=16, le=512, description="hash functions of MinHash")


class Languages(Frozen):
    """The target for the share of other languages."""

    main: LanguageCode = Field("en", description="the main language, ISO code")
    other_share: float | None = Field(
        0.1, ge=0, lt=1, description="target share of bytes in other languages; null: no target"
    )
    most_repeats: int = Field(4, ge=1, le=100, description="most times that a document is used to reach the share")


class Vocabulary(Frozen):
    """The byte-level BPE tokenizer that is trained if the role names none."""

    size: int = Field(32_768, ge=300, le=1 << 20, description="tokens, bytes and specials included")
    sample_mib: float = Field(32.0, gt=0, description="training text of the tokenizer, drawn from the mix, in MiB")
    spare: int = Field(8, ge=0, le=1024, description="special tokens reserved for later uses")


class Settings(Frozen):
    """From raw text to shards of tokens: filtered, without copies, decontaminated, counted."""

    reading: Reading = Field(Reading(), description="how files become documents")
    filters: Filters = Field(Filters(), description="which documents are kept")
    languages: Languages = Field(Languages(), description="share of other languages")
    vocabulary: Vocabulary = Field(Vocabulary(), description="the tokenizer")
    heldout_share: float = Field(
        0.005, ge=0, le=0.5, description="share of documents to hold out, chosen by their hash"
    )
    shard_tokens: int = Field(1 << 25, ge=1 << 10, description="approximate tokens of a shard")
    # doesn't change the output, so it isn't part of an artifact's identity
    workers: int = Field(0, ge=0, exclude=True, description="processes; 0: one for each core; may change during a run")

    def cutoff(self) -> Period | None:
        """The cut-off as a period, or None without one. Raises ValueError if it isn't a date."""
        return period(self.filters.cutoff) if self.filters.cutoff else None


def check(settings: Settings, roles: Filled) -> str:
    """A contradiction in the settings, or ""."""
    try:
        settings.cutoff()
    except ValueError:
        return f"filters.cutoff is {settings.filters.cutoff!r}; write it as 2023, 2023-01 or 2023-01-31"
    if roles.get("tokenizer") and (fields := sorted(settings.vocabulary.model_fields_set)):
        return f"vocabulary.{fields[0]} has no effect: the role `tokenizer` names a tokenizer; remove the setting"
    size, spare = settings.vocabulary.size, settings.vocabulary.spare
    if size < _LEAST + spare and not roles.get("tokenizer"):
        return (
            f"vocabulary.size is {size}, but bytes, special tokens and vocabulary.spare need {_LEAST + spare}; "
            "raise size, or lower spare"
        )
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Time at the measured rates of a core. Memory does not depend on the size of the text. On disk the state takes
    about half of the text, and signatures for near copies; the shards take half of the text again."""
    workers = settings.workers or sizes.threads
    memory = MEMORY_GIB + workers * WORKER_GIB
    vocabulary = None if "tokenizer" in sizes.parameters else settings.vocabulary.size
    size = sizes.bytes.get("sources", 0)
    if not size:
        return Estimate(memory_gib=memory, vocabulary=vocabulary)
    sample = min(size, settings.vocabulary.sample_mib * 2**20)
    seconds = size / BYTES_PER_SECOND / workers + sample / TRAINED_PER_SECOND
    signature = settings.filters.permutations * PERMUTATION_BYTES if settings.filters.near else 0.0
    disk = size * (1 + signature / DOCUMENT_BYTES) / 2**30
    return Estimate(minutes=seconds / 60, memory_gib=memory, disk_gib=disk, vocabulary=vocabulary)


ROOM = Room(product="corpus", settings=Settings, roles=ROLES, estimate=estimate, check=check, extra="corpus")
