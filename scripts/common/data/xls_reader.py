"""Read a sheet of an xls workbook, as Excel wrote them until 2003.

By xlrd: python-calamine reads errors as empty cells, and knows neither formats of dates nor hidden rows.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xlrd
from openpyxl.styles.numbers import is_timedelta_format
from openpyxl.utils.datetime import from_excel

from common.config.dataset import ReadOptions
from common.data.cells import whole_number
from common.data.format_reader import LoadedReader
from common.data.sheet_cells import error_cell, shown_date
from common.data.sheets import choose_sheet, has_rows, say_hidden_rows, sheet_frame
from common.data.table_files import open_binary

_DAMAGED = (xlrd.XLRDError, xlrd.compdoc.CompDocError, struct.error, IndexError, AssertionError, TypeError)


class XlsReader(LoadedReader):
    """One sheet of a workbook, which is loaded as a whole."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        with open_binary(path) as stream:
            content = stream.read()
        try:
            book = xlrd.open_workbook(file_contents=content, formatting_info=True, logfile=io.StringIO())
        except _DAMAGED as error:
            raise ValueError(str(error) or "the workbook is damaged") from error
        sheets = [(sheet.name, sheet.visibility == 0) for sheet in book.sheets()]
        name = choose_sheet(
            path, sheets, options.sheet, lambda one: has_rows(_values(book, book.sheet_by_name(one)), options)
        )
        sheet = book.sheet_by_name(name)
        hidden = [
            number + 1 for number, row in sorted(sheet.rowinfo_map.items()) if row.hidden and number < sheet.nrows
        ]
        say_hidden_rows(path, name, hidden)
        super().__init__(path, columns, sheet_frame(_values(book, sheet), options))


def _values(book: Any, sheet: Any) -> list[list[Any]]:
    return [[_value(book, cell, row, place) for place, cell in enumerate(sheet.row(row))] for row in range(sheet.nrows)]


def _value(book: Any, cell: Any, row: int, column: int) -> Any:
    if cell.ctype == xlrd.XL_CELL_ERROR:
        shown = xlrd.error_text_from_code.get(cell.value, f"error {cell.value}")
        return error_cell(shown, xlrd.cellname(row, column))
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return bool(cell.value)
    if cell.ctype == xlrd.XL_CELL_DATE:
        date = _date(book, cell)
        return error_cell("#####", xlrd.cellname(row, column)) if date is None else date
    return whole_number(cell.value) if cell.value != "" else None


def _date(book: Any, cell: Any) -> Any:
    """Return a date, a time or an elapsed time, such as that of `[h]:mm`; None for one that no sheet can show."""
    # Formats that depend on the country have a number alone.
    code = book.format_map[book.xf_list[cell.xf_index].format_key].format_str or "General"
    try:
        if cell.value < 0:
            return None
        if is_timedelta_format(code):
            return from_excel(cell.value, timedelta=True)
        date = xlrd.xldate_as_datetime(cell.value, book.datemode)
    except (OverflowError, ValueError):
        return None
    return shown_date(date.time() if cell.value < 1 else date, code)
