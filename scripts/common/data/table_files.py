"""Tell the format of table files from their names, and open those that are compressed."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.etree.ElementTree import ParseError

from common.core.errors import DataError, choices
from common.data.bounds import Unfolding

FORMATS = ("xlsx", "csv", "tsv", "jsonl", "parquet")  # read and written, also as .gz
READ_FORMATS = (*FORMATS, "txt", "json", "xls", "xlsb", "ods")
_BUFFER_BYTES = 2**16
COMPRESSIONS = ("gz", "bz2", "xz", "zst", "zip")
SEPARATORS = {"csv": ",", "tsv": "\t"}
_BROKEN = (
    *(ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, ParseError),
    *(RecursionError, MemoryError, OverflowError, struct.error),
    NotImplementedError,  # of a zip archive that is compressed in a way that Python lacks
)


def format_of(path: Path) -> tuple[str, bool]:
    """Return a file's format and whether it is gzipped, from its name.

    Raises:
        DataError: the ending is none of `READ_FORMATS`, each also followed by one of a compression.
    """
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    compression = compression_of(path)
    name = (suffixes[:-1] if compression else suffixes)[-1:]
    if compression == "zip" and not (name and name[0] in READ_FORMATS) and path.is_file():
        with reading(path, "zip"), zipfile.ZipFile(path) as archive:
            name = [Path(_only_member(archive)).suffix.lower().lstrip(".")]
    if not name or name[0] not in READ_FORMATS:
        raise DataError(
            f"{path}: unknown file format; allowed endings: {choices(READ_FORMATS)}, each also with "
            f"{choices(f'.{end}' for end in COMPRESSIONS)}."
        )
    return name[0], compression == "gz"


def compression_of(path: Path) -> str:
    """Return the ending of a compressed file, one of `COMPRESSIONS`; "" where the file is not compressed."""
    ending = path.suffix.lower().lstrip(".")
    return ending if ending in COMPRESSIONS else ""


def check_writable(path: Path) -> None:
    """Raise a `DataError` when no table can be written in the format of a path's ending."""
    if format_of(path)[0] not in FORMATS or compression_of(path) not in ("", "gz"):
        raise DataError(
            f"{path}: tables are not written in this format; allowed endings: {choices(FORMATS)}, each also with .gz."
        )


def written_ending(path: Path) -> tuple[str, str]:
    """Return the ending of a table written beside an input, and the input's name without its own ending.

    A format that is not written becomes the one most like it: xlsx for workbooks, jsonl for json, tsv for txt.
    """
    name, gzipped = format_of(path)
    stem = path.name[: -len(f".{compression_of(path)}")] if compression_of(path) else path.name
    stem = stem[: -len(f".{name}")] if stem.lower().endswith(f".{name}") else stem
    likest = {"json": "jsonl", "txt": "tsv"}.get(name, name if name in FORMATS else "xlsx")
    return (f".{likest}.gz" if gzipped else f".{likest}"), stem


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading; what is compressed is decompressed as it is read."""
    openers: dict[str, Any] = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}
    compression = compression_of(path)
    if compression == "":
        return cast(BinaryIO, path.open("rb"))
    if compression == "zst":
        import pyarrow as pa  # not for those who want the names of files alone

        stream: Any = pa.input_stream(path, compression="zstd")
    elif compression == "zip":
        archive = zipfile.ZipFile(path)
        member = _only_member(archive)
        if archive.getinfo(member).flag_bits & 1:
            raise ValueError("the archive has a password; unpack it and name the file")
        stream = archive.open(member)
    else:
        stream = openers[compression](path, "rb")
    return cast(BinaryIO, io.BufferedReader(Unfolding(stream, path.stat().st_size), _BUFFER_BYTES))


def _only_member(archive: zipfile.ZipFile) -> str:
    # Programs of one system put folders and files of their own beside the table.
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise ValueError(f"the archive holds {len(names)} files ({choices(names, 5)}); unpack it and name one of them")
    return names[0]


@contextlib.contextmanager
def reading(path: Path, name: str | None = None) -> Iterator[None]:
    """Turn the errors of a file whose content does not have its format into a `DataError` that names the file.

    Args:
        path: the file.
        name: the format; None for that of the file's ending.
    """
    try:
        yield
    except (*_BROKEN, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as {name or format_of(path)[0]}: {_reason(error)}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of cells that a file's format cannot hold into a `DataError` that names the file."""
    try:
        yield
    except (ValueError, TypeError) as error:  # parquet: one type per column; xlsx: no lists, at most 1,048,576 rows
        raise DataError(f"{path}: cannot be written as {format_of(path)[0]}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    # Some libraries quote the broken bytes at length.
    return str(error).splitlines()[0][:600] if str(error) else type(error).__name__
