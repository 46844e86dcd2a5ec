"""Bounds of text quality, by kind of text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from charter.ground.settings.frozen import Frozen

Share = Annotated[float, Field(ge=0, le=1)]


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
    longest_mean_line: float = Field(
        100.0, gt=0, description="largest mean length of a line (Chen et al. 2021)"
    )
    longest_line: int = Field(1000, ge=1, description="most characters of a line (Chen et al. 2021)")
    least_alphanumeric: Share = Field(
        0.25, description="letters and digits among characters (Li et al. 2023)"
    )
    least_letters: Share = Field(0.50, description="letters among letters and digits; less is data")
    most_repeated: Share = Field(0.60, description="characters in repeated lines")
    generated: bool = Field(True, description="drop files whose start says that a program wrote them")


class Quality(Frozen):
    """The quality that a kept document needs."""

    prose: Prose = Field(Prose(), description="bounds for text that people read")
    code: Code = Field(Code(), description="bounds for program text")
    most_broken: Share = Field(0.001, description="control, private and replacement characters among all")
