"""Read a sheet of an xlsx workbook.

python-calamine reads 20,000 rows of three columns in an eighth of openpyxl's CPU time (measured side by side), but its
results are not the same: errors and formulas without a saved value are empty cells, dates come without their number
format, and a value far below the others takes memory for all cells between. So xlsx is read by openpyxl.
"""

import contextlib
import datetime
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openpyxl import load_workbook

from common.config.dataset import ReadOptions
from common.data.bounds import bounded, check_workbook
from common.data.format_reader import LoadedReader
from common.data.sheet_cells import error_cell, formula_cell, shown_date, unescape_xlsx
from common.data.sheets import choose_sheet, has_rows, say_hidden_rows, sheet_frame
from common.data.table_files import open_binary

_CHUNK_BYTES = 2**20
_TAG_BYTES = 4_096  # more than a tag that is looked for


class ExcelReader(LoadedReader):
    """One sheet of a workbook, which is loaded as a whole; rows far below or right of the others need no memory."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        with open_binary(path) as stream:
            content = stream.read()
        check_workbook(content)
        with contextlib.closing(load_workbook(io.BytesIO(content), read_only=True, data_only=True)) as book:
            sheets = [(sheet.title, sheet.sheet_state == "visible") for sheet in book.worksheets]
            name = choose_sheet(
                path, sheets, options.sheet, lambda one: has_rows(_values(_rows(book[one]), None), options)
            )
            hidden, has_formulas = _scan(content, book[name]._worksheet_path)
            say_hidden_rows(path, name, hidden)
            with contextlib.ExitStack() as stack:
                formulas = None
                if has_formulas:
                    other = load_workbook(io.BytesIO(content), read_only=True)
                    formulas = _rows(stack.enter_context(contextlib.closing(other))[name])
                frame = sheet_frame(bounded(_values(_rows(book[name]), formulas)), options)
        super().__init__(path, columns, frame)


def _rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # what the file says about them may be wrong
    rows: Iterator[tuple[Any, ...]] = sheet.iter_rows()
    return rows


def _values(rows: Iterator[tuple[Any, ...]], formulas: Iterator[tuple[Any, ...]] | None) -> Iterator[list[Any]]:
    """Iterate over the values of all rows; `formulas` are the same rows with the formulas instead of their values."""
    for row in rows:
        written = next(formulas, ()) if formulas else ()
        yield [_value(cell, place < len(written) and written[place].data_type == "f") for place, cell in enumerate(row)]


def _value(cell: Any, is_formula: bool) -> Any:
    value = cell.value
    if isinstance(value, str):
        if cell.data_type == "e":
            return error_cell(value, cell.coordinate)
        return unescape_xlsx(value)
    if value is None:
        return formula_cell(cell.coordinate) if is_formula else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, datetime.datetime | datetime.time):
        return shown_date(value, cell.number_format)
    return value


def _scan(content: bytes, member: str) -> tuple[list[int], bool]:
    """Return the numbers of a sheet's hidden rows, and whether it has formulas."""
    hidden: list[int] = []
    has_formulas, rest = False, b""
    with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(member.lstrip("/")) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            text = rest + chunk
            has_formulas = has_formulas or re.search(rb"<(?:\w+:)?f[ />]", text) is not None
            end = 0
            if b"hidden=" in text:
                for tag in re.finditer(rb"<(?:\w+:)?row [^>]*>", text):
                    end = tag.end()
                    if re.search(rb' hidden="(?:1|true)"', tag[0]) and (number := re.search(rb' r="(\d+)"', tag[0])):
                        hidden.append(int(number[1]))
            rest = text[max(end, len(text) - _TAG_BYTES) :]
    return hidden, has_formulas
