"""Tell from a file's content what it really is, where its name says something else."""

import io
import json
import zipfile
from pathlib import Path

from common.data.notes import say_once
from common.data.table_files import compression_of, format_of, open_binary

_WORKBOOKS = ("xlsx", "xls", "xlsb", "ods")
_TEXTS = ("csv", "tsv", "txt", "json", "jsonl")
FASTTEXT_MARK = b"__label__"
_SHOWN = {"txt": "text with separators", "fasttext": "text with fastText's labels"}
_COMPRESSED = (
    (b"\x1f\x8b\x08", ".gz"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\x00", ".xz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
)
# A zstd file may begin with frames that are skipped, as pzstd writes them: RFC 8878, 3.1.2.
_SKIPPED = [bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)]
_TEXT_MARKS = (b"{\\rtf", b"%PDF-")
_NO_TABLES = (
    (_TEXT_MARKS[0], "a text document"),
    (_TEXT_MARKS[1], "a PDF document"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"ARROW1", "an Arrow file (Feather)"),
    (b"PARE", "a parquet file with a password"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
)
_HEAD_BYTES = 2**16
_PROTECTED = "it is a workbook with a password; save it without one in the spreadsheet program"


def real_format(path: Path) -> str:
    """Return the format that a file is read as: that of its ending, or the one that it really has, which is printed.

    Raises:
        ValueError: the file is no table.
    """
    name = format_of(path)[0]
    _check_compressed(path)
    with open_binary(path) as stream:
        head = stream.read(_HEAD_BYTES)
        if not head and name not in ("csv", "tsv", "txt", "jsonl"):
            raise ValueError("the file is empty")
        found = _format_of_content(head)
        if found == "xls" and "EncryptedPackage".encode("utf-16-le") in head + stream.read():
            raise ValueError(_PROTECTED)
        if found == "zip":
            found = _format_of_zip(zipfile.ZipFile(io.BytesIO(head + stream.read())))
    if found is None and name in _TEXTS:
        found = _format_of_text(name, head)
    if found is None and name in _WORKBOOKS and b"\n" in head.strip() and _is_text(head):
        found = "txt"
    if found is None and name == "parquet" and _is_text(head):
        raise ValueError("it is a text file; give it the ending of its format, such as .csv or .jsonl")
    if found is None or found == name:
        return name
    say_once(f"{path}: it is read as {_SHOWN.get(found, found)}, which it is")
    return found


def _check_compressed(path: Path) -> None:
    """Raise a `ValueError` for a file that is not compressed as its name says."""
    ending = f".{compression_of(path)}"
    with path.open("rb") as stream:
        start = stream.read(6)
    marks = [mark for mark, known in _COMPRESSED if known == ending]
    if ending == ".zst":
        marks += _SKIPPED
    if start and marks and not any(start.startswith(mark[: len(start)]) for mark in marks):
        raise ValueError(f"it is not compressed as its name says; take {ending} off its name")


def _format_of_content(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("it is a pointer of git LFS, not the file itself; run `git lfs pull`")
    if start.startswith((b"<!doctype html", b"<html")):
        raise ValueError("it is an HTML page, as a server sends it instead of a file; download the file itself")
    if start.startswith(b"<?xml") and b"schemas-microsoft-com:office:spreadsheet" in head:
        raise ValueError("it is a workbook in XML of 2003; save it as xlsx in the spreadsheet program")
    for mark, ending in _COMPRESSED:
        if head.startswith(mark) and not _is_text(head):
            raise ValueError(f"it is compressed; add {ending} to its name")
    for mark, found in _NO_TABLES:
        if head.startswith(mark) and (mark in _TEXT_MARKS or not _is_text(head)):
            raise ValueError(f"it is {found}, not a table; save the table as csv, jsonl or parquet")
    if head[257:262] == b"ustar" and not _is_text(head):
        raise ValueError("it is a tar archive; unpack it and name one of its files")
    marks = ((b"PAR1", "parquet"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xls"), (b"PK\x03\x04", "zip"))
    return next((name for mark, name in marks if head.startswith(mark) and not _is_text(head)), None)


def _format_of_text(name: str, head: bytes) -> str | None:
    """Return the format of a text file: json and jsonl change places, and a txt may be written for fastText."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if name == "txt" and text.startswith(FASTTEXT_MARK):
        return "fasttext"
    lines = text.split(b"\n", 2)
    if name == "jsonl" and (text.startswith(b"[") or lines[0].strip() == b"{"):
        return "json"
    # A long record reaches beyond what was read: then the first line has no end.
    if name in ("json", "csv", "tsv", "txt") and len(lines) > 1 and lines[1].lstrip().startswith(b"{"):
        return "jsonl" if _is_object(lines[0]) else None
    return None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _format_of_zip(archive: zipfile.ZipFile) -> str | None:
    members = set(archive.namelist())
    manifest = "META-INF/manifest.xml"
    if manifest in members and b"encryption-data" in archive.read(manifest):
        raise ValueError(_PROTECTED)
    for member, name in (("xl/workbook.bin", "xlsb"), ("content.xml", "ods")):
        if member in members:
            return name
    if "[Content_Types].xml" in members:
        if any(member.startswith("word/") for member in members):
            raise ValueError("it is a text document, not a table; save the table as csv or xlsx")
        return "xlsx"
    if not members:
        raise ValueError("it is an empty zip archive")
    raise ValueError("it is a zip archive; add .zip to its name")


def _is_text(head: bytes) -> bool:
    return bool(head) and not any(byte < 9 or 13 < byte < 27 for byte in head)
