"""Content of ods and xlsb workbooks that python-calamine leaves out: errors, formulas without a value, hidden rows.

The library reads an error as an empty cell, and skips the tags of tabs and line breaks inside the cells of ods. Here
the file is rewritten in memory, so that it sees them as texts: `UNSEEN` begins the text of a cell without a value. It
also needs memory for all cells up to the last, so a value far from the others is found before.
Sources: OpenDocument 1.3 part 3, 9 and 19; MS-XLSB 2.1.4 (records) and 2.4 (BrtRowHdr, BrtCellError, BrtFmlaError).
"""

import dataclasses
import html
import io
import re
import struct
import zipfile
from collections.abc import Iterator

import xlrd

from common.data.bounds import MAX_SHEET_CELLS, check_cells, check_workbook

UNSEEN = "\ue0ffunseen:"  # begins with a character of the private use area
_ODS, _BOOK, _LINKS = "content.xml", "xl/workbook.bin", "xl/_rels/workbook.bin.rels"
_ERROR_TEXT = rb"#(?:DIV/0!|N/A|NAME\?|NULL!|NUM!|REF!|VALUE!)|Err:\d+"
_CELL = re.compile(rb"(<table:table-cell\b[^>]*?)(/?)>(?:\s*<text:p[^>]*>([^<]*)</text:p>)?")
_VALUE = re.compile(rb' (?:office:(?:[a-z]+-)?value(?:-type)?|calcext:value-type)="[^"]*"')
_ROW_HEADER, _CELL_ERROR, _CELL_TEXT, _FORMULA_ERROR, _SHEET = 0, 3, 6, 11, 156  # records of xlsb


@dataclasses.dataclass
class SheetFacts:
    """What a sheet holds.

    Attributes:
        rows, columns: up to the last value.
        hidden_ranges: the hidden rows, from 1; a file can say of very many rows that they are alike.
    """

    rows: int = 0
    columns: int = 0
    hidden_ranges: list[range] = dataclasses.field(default_factory=list)

    @property
    def hidden(self) -> list[int]:
        """The numbers of the hidden rows, from 1; their number is bounded when `rows` is."""
        return sorted({row for rows in self.hidden_ranges for row in rows})

    def add(self, rows: range, columns: int, hidden: bool) -> None:
        """Add rows with values."""
        self.rows, self.columns = max(self.rows, rows.stop - 1), max(self.columns, columns)
        self.hidden_ranges += [rows] if hidden else []


def with_unseen_as_text(content: bytes) -> tuple[bytes, dict[str, SheetFacts]]:
    """Return a workbook in which errors and formulas without a value are texts, and {sheet: what it holds}.

    Raises:
        ValueError: it unfolds to too much, or a value stands too far from the others.
    """
    check_workbook(content)
    changed: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.namelist()
        if _ODS in members:
            changed[_ODS] = _with_unseen(archive.read(_ODS))
            sheets = dict(_ods_sheets(changed[_ODS]))
        else:
            sheets = {}
            for name, part in _xlsb_parts(archive):
                changed[part], sheets[name] = _xlsb_sheet(archive.read(part))
        for name, facts in sheets.items():
            try:
                check_cells(facts.rows, facts.columns, MAX_SHEET_CELLS)
            except ValueError as error:
                raise ValueError(f"sheet '{name}': {error}") from error
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as copy:
            for member in members:
                copy.writestr(member, changed[member] if member in changed else archive.read(member))
    return written.getvalue(), sheets


def _with_unseen(text: bytes) -> bytes:
    """Return the XML of an ods workbook with errors, formulas without a value, tabs and line breaks as texts."""
    for tag, character in ((b"tab", b"\t"), (b"line-break", b"\n")):
        text = re.sub(rb"<text:%s\b[^>]*?(?:/>|>\s*</text:%s>)" % (tag, tag), character, text)
    return _CELL.sub(_seen, text) if b"table:formula=" in text else text


def _seen(found: re.Match[bytes]) -> bytes:
    tag, closed, shown = found[1], found[2], found[3] or b""
    if b"table:formula=" not in tag:
        return found[0]
    is_error = b'calcext:value-type="error"' in tag or re.fullmatch(_ERROR_TEXT, shown)
    if not is_error and (shown or b"office:value-type=" in tag):
        return found[0]
    text = b"<text:p>" + UNSEEN.encode() + shown + b"</text:p>"
    return _VALUE.sub(b"", tag) + b' office:value-type="string">' + text + (b"</table:table-cell>" if closed else b"")


def _ods_sheets(text: bytes) -> Iterator[tuple[str, SheetFacts]]:
    for table in re.split(rb"<table:table(?=\s)", text)[1:]:
        named = re.search(rb'^[^>]*?\btable:name="([^"]*)"', table)
        facts, number = SheetFacts(), 0
        for row in re.split(rb"<table:table-row(?=[\s/>])", table)[1:]:
            tag = row[: row.find(b">") + 1]
            number += (repeated := _repeated(tag, b"rows"))
            filled = row[: row.rfind(b"<text:p")] if b"<text:p" in row else b""
            if filled:
                cells = re.findall(rb"<table:(?:covered-)?table-cell\b[^>]*>", filled)
                is_hidden = re.search(rb'table:visibility="(?:collapse|filter)"', tag) is not None
                columns = sum(_repeated(cell, b"columns") for cell in cells)
                facts.add(range(number - repeated + 1, number + 1), columns, is_hidden)
        yield html.unescape(named[1].decode()) if named else "", facts


def _repeated(tag: bytes, what: bytes) -> int:
    found = re.search(rb'table:number-%s-repeated="(\d+)"' % what, tag)
    return int(found[1]) if found else 1


def _xlsb_parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Iterate over (name of a sheet, member of the archive)."""
    links = {}
    for tag in re.findall(rb"<Relationship\b[^>]*>", archive.read(_LINKS)):
        found = {key.decode(): value.decode() for key, value in re.findall(rb'\b(Id|Target)="([^"]*)"', tag)}
        target = found.get("Target", "")
        links[found.get("Id", "")] = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    for kind, body in _records(archive.read(_BOOK)):
        if kind == _SHEET:
            link, end = _text(body, 8)
            part = links.get(link, "")
            if part in archive.namelist() and "worksheets/" in part:
                yield _text(body, end)[0], part


def _xlsb_sheet(content: bytes) -> tuple[bytes, SheetFacts]:
    """Return a sheet of xlsb with its errors as texts, and what it holds."""
    written, facts, row, hidden = bytearray(), SheetFacts(), 0, False
    for kind, body in _records(content):
        if kind == _ROW_HEADER and len(body) > 11:
            row, hidden = struct.unpack_from("<I", body)[0] + 1, bool(body[11] & 0x10)
        elif kind in range(2, 12) and len(body) > 8:
            facts.add(range(row, row + 1), struct.unpack_from("<I", body)[0] + 1, hidden)
            hidden = False  # said once a row
        if kind in (_CELL_ERROR, _FORMULA_ERROR) and len(body) > 8:
            shown = UNSEEN + xlrd.error_text_from_code.get(body[8], f"error {body[8]}")
            kind, body = _CELL_TEXT, body[:8] + struct.pack("<I", len(shown)) + shown.encode("utf-16-le")
        written += _packed(kind) + _packed(len(body)) + body
    return bytes(written), facts


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(content):
        kind, place = _unpacked(content, place)
        size, place = _unpacked(content, place)
        if place + size > len(content):
            raise ValueError("its sheet ends within a record")
        yield kind, content[place : place + size]
        place += size


def _unpacked(content: bytes, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, 7 bits in a byte, the lowest first, and the place behind it."""
    number = shift = 0
    while place < len(content):
        byte = content[place]
        number, shift, place = number | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            break
    return number, place


def _packed(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _text(body: bytes, place: int) -> tuple[str, int]:
    """Return a text of a record, and the place behind it."""
    (size,) = struct.unpack_from("<I", body, place)
    end = place + 4 + 2 * size
    return body[place + 4 : end].decode("utf-16-le"), end
