"""Tell from a file's content what it really is, where its name says something else."""

import zipfile
from pathlib import Path

from common.data.notes import say_once
from common.data.table_files import format_of, open_binary

_WORKBOOKS = ("xlsx", "xls", "xlsb", "ods")
_HEAD_BYTES = 4_096


def real_format(path: Path) -> str:
    """Return the format that a file is read as: that of its ending, or the one that it really has, which is printed.

    Raises:
        ValueError: the file is no table.
    """
    name = format_of(path)[0]
    with open_binary(path) as stream:
        head = stream.read(_HEAD_BYTES)
        found = _format_of_content(head)
        if found == "xls" and "EncryptedPackage".encode("utf-16-le") in head + stream.read():
            raise ValueError("it is a workbook with a password; save it without one in the spreadsheet program")
        if found == "zip":
            stream.seek(0)
            found = _format_of_zip(zipfile.ZipFile(stream))
    if found is None and (name in _WORKBOOKS or name == "parquet") and _is_text(head):
        found = "txt" if name in _WORKBOOKS and b"\n" in head.strip() else None
    if found is None or found == name or (found == "json" and name not in (*_WORKBOOKS, "parquet")):
        return name
    say_once(f"{path}: it is read as {'text with separators' if found == 'txt' else found}, which it is")
    return found


def _format_of_content(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("it is a pointer of git LFS, not the file itself; run `git lfs pull`")
    if start.startswith((b"<!doctype html", b"<html")):
        raise ValueError("it is an HTML page, as a server sends it instead of a file; download the file itself")
    if start.startswith(b"<?xml") and b"schemas-microsoft-com:office:spreadsheet" in head:
        raise ValueError("it is a workbook in XML of 2003; save it as xlsx in the spreadsheet program")
    for mark, ending in ((b"\x1f\x8b\x08", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz")):
        if head.startswith(mark) and not _is_text(head):
            raise ValueError(f"it is compressed; add {ending} to its name")
    if head.startswith(b"{\\rtf") or head.startswith(b"%PDF-"):
        raise ValueError("it is a document, not a table; save the table as csv or xlsx")
    marks = ((b"PAR1", "parquet"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"), (b"PK\x03\x04", "zip"))
    return next((name for mark, name in marks if head.startswith(mark)), None)


def _format_of_zip(archive: zipfile.ZipFile) -> str | None:
    members = set(archive.namelist())
    for member, name in (("xl/workbook.bin", "xlsb"), ("content.xml", "ods")):
        if member in members:
            return name
    if "[Content_Types].xml" in members:
        if any(member.startswith("word/") for member in members):
            raise ValueError("it is a text document, not a table; save the table as csv or xlsx")
        return "xlsx"
    raise ValueError("it is a zip archive; add .zip to its name")


def _is_text(head: bytes) -> bool:
    return bool(head) and not any(byte < 9 or 13 < byte < 27 for byte in head)
