"""Write small workbooks of the formats that no library here writes: xls (BIFF8 without its container), xlsb and ods.

A cell is a text, a number, None, or an `Error`; a row is a list of cells, or (cells, True) where it is hidden.
"""

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ERRORS = {"#DIV/0!": 0x07, "#N/A": 0x2A}


class Error(str):
    """A cell with an error, such as "#DIV/0!"."""


def _rows(rows: Sequence[Any]) -> list[tuple[list[Any], bool]]:
    return [row if isinstance(row, tuple) else (row, False) for row in rows]


def write_xls(path: Path, rows: Sequence[Any], date: float | None = None, shown_as: str | int = "dd.mm.yyyy") -> Path:
    """Write one sheet, A; `date` is put below the others in column 1, shown in a format, or in a built-in one."""

    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<HH", kind, len(body)) + body

    def text(value: str) -> bytes:
        encoded = value.encode("utf-16-le")
        return struct.pack("<HB", len(encoded) // 2, 1) + encoded

    def bof(kind: int) -> bytes:
        return record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 0, 0, 6))

    shown = record(0x041E, struct.pack("<H", 164) + text(shown_as)) if isinstance(shown_as, str) else b""
    codes = (0, 164 if shown else shown_as)
    styles = b"".join(record(0x00E0, struct.pack("<HH", 0, code) + bytes(16)) for code in codes)
    font = record(0x0031, struct.pack("<HHHHHBBBBBB", 200, 0, 0, 400, 0, 0, 0, 0, 0, 1, 0) + b"A")
    book = bof(5) + font + shown + styles
    place = len(book) + len(record(0x85, bytes(9))) + 4
    book += record(0x85, struct.pack("<IBB", place, 0, 0) + b"\x01\x00A") + record(0x0A, b"")
    sheet = bof(0x10)
    for number, (cells, hidden) in enumerate(_rows(rows)):
        flags = 0x20 if hidden else 0
        sheet += record(0x0208, struct.pack("<HHHHHHI", number, 0, len(cells), 255, 0, 0, 0x100 | flags))
        for column, cell in enumerate(cells):
            at = struct.pack("<HHH", number, column, 0)
            if isinstance(cell, Error):
                sheet += record(0x0205, at + bytes([ERRORS[cell], 1]))
            elif isinstance(cell, str):
                sheet += record(0x0204, at + text(cell))
            elif cell is not None:
                sheet += record(0x0203, at + struct.pack("<d", cell))
    if date is not None:
        sheet += record(0x0203, struct.pack("<HHHd", len(rows), 0, 1, date))
    path.write_bytes(book + sheet + record(0x0A, b""))
    return path


def write_xlsb(path: Path, rows: Sequence[Any], far: tuple[int, int] | None = None) -> Path:
    """Write one sheet, A; `far` is (row, column), from 0, of one more number."""

    def record(kind: int, body: bytes = b"") -> bytes:
        code = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
        size = len(body)
        return code + (bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])) + body

    def text(value: str) -> bytes:
        encoded = value.encode("utf-16-le")
        return struct.pack("<I", len(encoded) // 2) + encoded

    def header(number: int, hidden: bool) -> bytes:
        return record(0, struct.pack("<IIHBBBI", number, 0, 300, 0, 0x10 if hidden else 0, 0, 0))

    end = far or (len(rows) - 1, 9)
    sheet = record(129) + record(148, struct.pack("<IIII", 0, end[0], 0, end[1])) + record(145)
    for number, (cells, hidden) in enumerate(_rows(rows)):
        sheet += header(number, hidden)
        for column, cell in enumerate(cells):
            at = struct.pack("<II", column, 0)
            if isinstance(cell, Error):
                sheet += record(3, at + bytes([ERRORS[cell]]))
            elif isinstance(cell, str):
                sheet += record(6, at + text(cell))
            elif cell is not None:
                sheet += record(5, at + struct.pack("<d", cell))
    if far:
        sheet += header(far[0], False) + record(5, struct.pack("<IId", far[1], 0, 1.0))
    sheet += record(146) + record(130)
    book = record(131) + record(143) + record(156, struct.pack("<II", 0, 1) + text("rId1") + text("A")) + record(144)
    links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.bin", book + record(132))
        archive.writestr(
            "xl/_rels/workbook.bin.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="rId1" Type="{links}/worksheet" '
            'Target="worksheets/sheet1.bin"/></Relationships>',
        )
        archive.writestr("xl/worksheets/sheet1.bin", sheet)
    return path


def write_ods(path: Path, rows: Sequence[Any], far: tuple[int, int] | None = None) -> Path:
    """Write one sheet, A; `far` is (row, column), from 0, of one more number."""

    def cell(value: Any) -> str:
        if isinstance(value, Error):  # as LibreOffice writes it
            kind = (
                'table:formula="of:=1/0" office:value-type="string" office:string-value="" calcext:value-type="error"'
            )
            return f"<table:table-cell {kind}><text:p>{value}</text:p></table:table-cell>"
        if value is None:
            return "<table:table-cell/>"
        if isinstance(value, str):
            return f'<table:table-cell office:value-type="string"><text:p>{escape(value)}</text:p></table:table-cell>'
        kind = f'office:value-type="float" office:value="{value}"'
        return f"<table:table-cell {kind}><text:p>{value}</text:p></table:table-cell>"

    visible = {True: ' table:visibility="collapse"', False: ""}
    table = "".join(
        f"<table:table-row{visible[hidden]}>{''.join(map(cell, cells))}</table:table-row>"
        for cells, hidden in _rows(rows)
    )
    if far:
        table += (
            f'<table:table-row table:number-rows-repeated="{far[0] - len(rows)}"><table:table-cell/></table:table-row>'
        )
        gap = f'<table:table-cell table:number-columns-repeated="{far[1]}"/>'
        table += f"<table:table-row>{gap}{cell(1.0)}</table:table-row>"
    return write_ods_xml(path, table)


def write_ods_xml(path: Path, table: str, name: str = "A") -> Path:
    """Write a sheet of an ods workbook, whose rows and name are given as XML."""
    names = {part: f"urn:oasis:names:tc:opendocument:xmlns:{part}:1.0" for part in ("office", "table", "text")}
    names["calcext"] = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"
    spaces = " ".join(f'xmlns:{part}="{address}"' for part, address in names.items())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f'<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name="{name}">'
            f"{table}</table:table></office:spreadsheet></office:body></office:document-content>",
        )
    return path
