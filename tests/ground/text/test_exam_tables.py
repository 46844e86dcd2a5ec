"""Tables of exams: the card's own points, dated values, and broken rows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter.rooms.evaluate.exam_scale import PERCENTILE, SCALED, look_up, read_tables, shipped_tables

HEAD = "table,exam,section,score,value,source,years,n\n"


def test_the_card_s_percentiles_are_looked_up() -> None:
    entries = read_tables(shipped_tables())
    found = {
        section: [e.value for e in look_up(entries, PERCENTILE, "GRE", section, score) if e.years == "2023 card"]
        for section, score in (("verbal", 165), ("quantitative", 154), ("writing", 5.0))
    }
    assert found == {"verbal": [95], "quantitative": [42], "writing": [91]}


def test_a_score_has_another_percentile_in_other_years() -> None:
    entries = look_up(read_tables(shipped_tables()), PERCENTILE, "GRE", "quantitative", 154)
    assert {e.years: e.value for e in entries} == {"2023 card": 42, "2011-2013": 57}
    assert all(e.source for e in entries)


def test_nothing_is_interpolated_and_no_table_is_shipped_for_raw_scores() -> None:
    entries = read_tables(shipped_tables())
    assert look_up(entries, PERCENTILE, "GRE", "verbal", 164) == []
    assert not [e for e in entries if e.table == SCALED]


def test_a_users_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD + "scaled,My form,writing,4.5,4.5,own,2020,12\n")
    (entry,) = read_tables(path)
    assert (entry.score, entry.n) == (Fraction(9, 2), 12)
    assert entry.describe()["value"] == 4.5


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("guess,GRE,verbal,165,95,me,2023,", "table is 'guess', expected scaled or percentile"),
        ("percentile,GRE,verbal,165,95,,2023,", "source is empty"),
        ("percentile,GRE,verbal,165,95,me,,", "years is empty"),
        ("percentile,GRE,verbal,165,950,me,2023,", "a percentile of 950"),
        ("percentile,GRE,verbal,high,95,me,2023,", "must be numbers"),
        ("percentile,GRE,verbal,170,96,me,2023,", "has a value already"),
    ],
)
def test_a_broken_row_names_file_and_line(tmp_path: Path, row: str, words: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD + "percentile,GRE,verbal,170,99,me,2023,\n" + row + "\n")
    with pytest.raises(CharterError) as raised:
        read_tables(path)
    assert f"{path}:3: " in str(raised.value) and words in str(raised.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("table,exam,score,value\nscaled,x,1,2\n")
    with pytest.raises(CharterError, match="needs the column section"):
        read_tables(path)
