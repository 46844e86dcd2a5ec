"""XLSX and ODS: each sheet as CSV below its name, with the values that the program last computed."""

import csv
import io
import itertools

import python_calamine

from charter.ground.documents.parsing.outcome import Damaged, Locked, Text

_ROWS = 1000  # rows of a sheet that become text at once


def write_sheets(data: bytes, kind: str, text: Text) -> None:
    """Append the sheets of a workbook to `text`."""
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
        for name in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(name)
            if sheet.start is not None:
                text.block(f"# {' '.join(name.split())}")
                _write_rows(sheet, text)
    except python_calamine.PasswordError:
        raise Locked(kind.upper()) from None
    except (python_calamine.CalamineError, OSError):
        raise Damaged(kind.upper()) from None


def _write_rows(sheet: python_calamine.CalamineSheet, text: Text) -> None:
    rows = sheet.iter_rows()
    while some := list(itertools.islice(rows, _ROWS)):
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([_shown(value) for value in row] for row in some)
        text.add(lines.getvalue())


def _shown(value: object) -> str:
    """A value as a person would type it: a whole number without a fraction."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
