"""XLSX and ODS: each sheet as CSV below its name, with the values that the program last computed."""

import csv
import datetime
import io

import python_calamine

from charter.service.documents.parsing.outcome import Damaged, Locked, Text


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
    for values in sheet.iter_rows():
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([_shown(value) for value in values])
        text.add(line.getvalue())


def _shown(value: object) -> str:
    """A value as a person would type it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    return str(value)
