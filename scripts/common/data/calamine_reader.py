"""Read a sheet of an xlsb or ods workbook."""

import datetime
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openpyxl.utils import get_column_letter
from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from common.config.dataset import ReadOptions
from common.data.cells import whole_number
from common.data.format_reader import LoadedReader
from common.data.sheet_cells import error_cell, formula_cell, shown_date
from common.data.sheets import choose_sheet, has_rows, say_hidden_rows, sheet_frame
from common.data.table_files import open_binary
from common.data.workbook_content import UNSEEN, SheetFacts, with_unseen_as_text


class CalamineReader(LoadedReader):
    """One sheet of a workbook, which is loaded as a whole. How dates are shown is not known: they are read as ISO."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        try:
            with open_binary(path) as stream:
                content, facts = with_unseen_as_text(stream.read())
            book = CalamineWorkbook.from_filelike(io.BytesIO(content))
            sheets = [
                (sheet.name, sheet.visible == SheetVisibleEnum.Visible)
                for sheet in book.sheets_metadata
                if sheet.typ == SheetTypeEnum.WorkSheet
            ]
            name = choose_sheet(path, sheets, options.sheet, lambda one: has_rows(_rows(book, one), options))
            say_hidden_rows(path, name, facts.get(name, SheetFacts()).hidden)
            rows = list(_rows(book, name))
        except (CalamineError, RuntimeError) as error:  # a member with a password is a RuntimeError
            raise ValueError(str(error)) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of the library, which has no other name for it
                raise
            raise ValueError("the workbook is damaged") from error
        super().__init__(path, columns, sheet_frame(rows, options))


def _rows(book: CalamineWorkbook, name: str) -> Iterator[list[Any]]:
    for number, row in enumerate(book.get_sheet_by_name(name).to_python(skip_empty_area=False), start=1):
        yield [_value(cell, number, place) for place, cell in enumerate(row, start=1)]


def _value(cell: Any, row: int, column: int) -> Any:
    if isinstance(cell, str) and cell.startswith(UNSEEN):
        place, shown = f"{get_column_letter(column)}{row}", cell.removeprefix(UNSEEN)
        return error_cell(shown, place) if shown else formula_cell(place)
    if isinstance(cell, datetime.datetime | datetime.time):
        return shown_date(cell, "General")
    return whole_number(cell) if cell != "" else None
