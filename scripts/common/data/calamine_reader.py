"""Read a sheet of an xls, xlsb or ods workbook."""

import datetime
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from common.config.dataset import ReadOptions
from common.data.format_reader import LoadedReader
from common.data.sheet_cells import shown_date
from common.data.sheets import choose_sheet, sheet_frame
from common.data.table_files import open_binary


class CalamineReader(LoadedReader):
    """One sheet of a workbook, which is loaded as a whole. How dates are shown is not known: they are read as ISO."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        with open_binary(path) as stream:
            content = _with_white_space(stream.read())
        try:
            book = CalamineWorkbook.from_filelike(io.BytesIO(content))
            sheets = [
                (sheet.name, sheet.visible == SheetVisibleEnum.Visible)
                for sheet in book.sheets_metadata
                if sheet.typ == SheetTypeEnum.WorkSheet
            ]
            name = choose_sheet(
                path, sheets, options.sheet, lambda one: _has_rows(book.get_sheet_by_name(one), options)
            )
            rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        except CalamineError as error:
            raise ValueError(str(error)) from error
        super().__init__(path, columns, sheet_frame(([_value(cell) for cell in row] for row in rows), options))


def _with_white_space(content: bytes) -> bytes:
    """Return an ods file with the tabs and line breaks inside its cells as characters: the library skips their tags."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if name == "content.xml"]
        text = archive.read(names[0]) if names else b""
        if b"<text:tab" not in text and b"<text:line-break" not in text:
            return content
        for tag, character in ((b"tab", b"\t"), (b"line-break", b"\n")):
            text = re.sub(b"<text:%s\\b[^>]*?(?:/>|>\\s*</text:%s>)" % (tag, tag), character, text)
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as copy:
            for name in archive.namelist():
                copy.writestr(name, text if name == "content.xml" else archive.read(name))
    return changed.getvalue()


def _has_rows(sheet: Any, options: ReadOptions) -> bool:
    rows = sheet.to_python(skip_empty_area=False)[options.skip_rows :]
    return sum(any(cell != "" for cell in row) for row in rows) >= (1 if options.header else 2)


def _value(cell: Any) -> Any:
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, datetime.datetime | datetime.time):
        return shown_date(cell, "General")
    return cell if cell != "" else None
