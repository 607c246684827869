"""Table files in and out: xlsx, csv, tsv, jsonl, parquet, each also as .gz.

Cells come as found: csv and tsv cells are strings, so that a label "01", "NA" or "null" stays what it is.
The index of a table is the row's number as a person sees it in the file.
"""

import collections
import contextlib
import csv
import gzip
import io
import json
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO
from xml.etree.ElementTree import ParseError

import numpy as np
import pandas as pd

from common.config.dataset import SPLITS
from common.core.errors import DataError, choices
from common.core.files import atomic_path

FORMATS = ("xlsx", "csv", "tsv", "jsonl", "parquet")
SEPARATORS = {"csv": ",", "tsv": "\t"}
_SPLIT_FILES = {split: (split,) for split in SPLITS} | {"validation": ("validation", "val", "dev")}
_EXCEL_CELL = 32_767  # characters that a cell of xlsx can hold


def format_of(path: Path) -> tuple[str, bool]:
    """Return a file's format and whether it is gzipped, from its name."""
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    gzipped = bool(suffixes) and suffixes[-1] == "gz"
    name = (suffixes[:-1] if gzipped else suffixes)[-1:]
    if not name or name[0] not in FORMATS:
        raise DataError(f"{path}: unknown file format; allowed endings: {choices(FORMATS)}, each also with .gz.")
    return name[0], gzipped


def find_split_files(folder: Path) -> dict[str, Path]:
    """Return {split: file} for the {train,validation,test}.<format> files of a folder; val and dev mean validation."""
    if not folder.is_dir():
        raise DataError(f"DATA_DIR={folder}: there is no such folder.")
    found: dict[str, Path] = {}
    for split in SPLITS:
        candidates = [
            folder / f"{word}.{name}{end}" for word in _SPLIT_FILES[split] for name in FORMATS for end in ("", ".gz")
        ]
        present = [path for path in candidates if path.is_file()]
        if len(present) > 1:
            raise DataError(
                f"DATA_DIR={folder}: both {present[0].name} and {present[1].name} are there, for one split; keep one."
            )
        if present:
            found[split] = present[0]
    if not found:
        raise DataError(
            f"DATA_DIR={folder}: no split found; allowed are {{train,validation,test}}.<format> (val or dev "
            f"for validation, too) with format {choices(FORMATS)}."
        )
    return found


def read_table(path: Path) -> pd.DataFrame:
    """Read a table with its cells as found.

    Raises:
        DataError: no such file, unknown format, or content that is not of that format.
    """
    name, gzipped = format_of(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    content = path.read_bytes()
    with reading(path):
        frame = _READERS[name](gzip.decompress(content) if gzipped else content)
    check_distinct_columns(path, frame.columns.tolist())
    return frame


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what is raised where a file's content is not of its format into a `DataError`."""
    try:
        yield
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error, ParseError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as {format_of(path)[0]}: {_reason(error)}") from error


def check_distinct_columns(path: Path, names: Sequence[object]) -> None:
    """Raise a `DataError` when a column's name stands there twice."""
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: the column '{repeated[0]}' stands there twice.")


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table in the format of the path's ending, atomically.

    Raises:
        DataError: unknown format, or cells that the format cannot hold.
    """
    name, gzipped = format_of(path)
    stream = io.BytesIO()
    with writing(path):
        _WRITERS[name](frame, stream)
    content = stream.getvalue()
    with atomic_path(path) as partial:
        # mtime=0: the same table gives the same bytes.
        partial.write_bytes(gzip.compress(content, mtime=0) if gzipped else content)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what is raised where cells do not fit a file's format into a `DataError`."""
    try:
        yield
    except (ValueError, TypeError) as error:  # parquet takes one type a column, xlsx neither lists nor 2 million rows
        raise DataError(f"{path}: cannot be written as {format_of(path)[0]}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    # Some libraries quote the broken bytes at length.
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _refuse_repeats(first: pd.DataFrame) -> None:
    """Refuse a header (the one row of `first`) with a name given twice, which pandas would quietly call "name.1"."""
    names = [name for name in first.iloc[0].tolist() if isinstance(name, str) and name] if len(first) else []
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"the column '{repeated}' stands there twice")


def _numbered(frame: pd.DataFrame, first: int) -> pd.DataFrame:
    frame.index = pd.RangeIndex(first, first + len(frame))
    return frame


def separated(stream: TextIO, separator: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the columns of csv or tsv and an iterator over (row in the file, cells).

    Record by record: pandas would pad short rows and lose count at blank lines.

    Args:
        stream: opened with newline="" and as utf-8-sig: Excel writes a byte order mark, which would become part of the
            first column's name.
        separator: of the cells.
    """
    csv.field_size_limit(sys.maxsize)  # the module's own limit, 131,072 characters, is shorter than some reviews
    records = csv.reader(stream, delimiter=separator, strict=True)
    header = next(records, None)
    if not header:
        raise ValueError("there is no header row")
    # As in a spreadsheet's index column, a name may be missing; two missing ones are still two columns.
    return [name or f"Unnamed: {number}" for number, name in enumerate(header)], _filled(records, len(header))


def _filled(records: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    for place, record in enumerate(records, start=2):
        if not record:
            continue  # a blank line holds no row, but counts
        if len(record) != width:
            raise ValueError(f"row {place} has {len(record)} cells, the header has {width} names")
        yield place, record


def _read_separated(content: bytes, separator: str) -> pd.DataFrame:
    names, records = separated(io.StringIO(content.decode("utf-8-sig"), newline=""), separator)
    return placed(list(records), names)


def placed(rows: Sequence[tuple[int, Any]], names: list[str] | None = None) -> pd.DataFrame:
    """Return (row in the file, cells) as a table of objects; without `names`, cells are records by column."""
    index = pd.Index([place for place, _ in rows], dtype=int)
    return pd.DataFrame([cells for _, cells in rows], columns=names, index=index, dtype=object)


def _read_excel(content: bytes) -> pd.DataFrame:
    with pd.ExcelFile(io.BytesIO(content), engine="openpyxl") as book:
        _refuse_repeats(pd.read_excel(book, header=None, nrows=1, dtype=object, keep_default_na=False, na_values=[]))
        return _numbered(pd.read_excel(book, dtype=object, keep_default_na=False, na_values=[]), 2)


def json_lines(stream: TextIO) -> Iterator[tuple[int, str]]:
    """Iterate over (line in the file, its text), blank lines left out.

    Args:
        stream: opened with newline="\\n": only that ends a record, JSON leaves U+2028 and its like bare inside strings.
    """
    return ((place, line) for place, line in enumerate(stream, start=1) if line.strip())


def json_record(place: int, line: str) -> tuple[int, dict[str, Any]]:
    """Return (line in the file, the object that stands there)."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {place}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {place}: expected an object, found {type(record).__name__}")
    return place, record


def _read_jsonl(content: bytes) -> pd.DataFrame:
    lines = json_lines(io.StringIO(content.decode("utf-8-sig"), newline="\n"))
    return placed([json_record(place, line) for place, line in lines])


def write_excel(frame: pd.DataFrame, stream: io.BytesIO) -> None:
    """Write a table as the one sheet of a workbook."""
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book = Workbook()
    sheet = book.active
    for number, values in enumerate([tuple(frame.columns), *frame.itertuples(index=False, name=None)], start=1):
        for column, value in enumerate(values, start=1):
            if isinstance(value, str) and len(value) > _EXCEL_CELL:
                raise ValueError(f"row {number} has a text of {len(value)} characters; a cell holds {_EXCEL_CELL}")
            cell = sheet.cell(number, column)
            # A text that begins with "=" is a text, not a formula; control characters do not exist in xlsx.
            cell.value = ILLEGAL_CHARACTERS_RE.sub("\ufffd", value) if isinstance(value, str) else value
            if isinstance(value, str):
                cell.data_type = "s"
    book.save(stream)


def write_lines(frame: pd.DataFrame, stream: Any) -> None:
    """Write a table's rows as JSON lines."""
    for values in frame.itertuples(index=False, name=None):
        cells = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
        record = dict(zip(frame.columns, cells, strict=True))
        # Dates come from spreadsheets and parquet, numpy's numbers from parquet; both as their own text.
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=_as_json)
        stream.write(line.encode() + b"\n")


def _as_json(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def write_separated(frame: pd.DataFrame, stream: Any, separator: str, header: bool = True) -> None:
    """Write a table as csv or tsv, with or without its header."""
    # Python before 3.13 leaves a cell with a bare carriage return unquoted; readers take that for the end of a row.
    bare = any("\r" in cell for name in frame.columns for cell in frame[name] if isinstance(cell, str))
    frame.to_csv(
        stream,
        index=False,
        sep=separator,
        header=header,
        quoting=csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL,
    )


_READERS = {
    "xlsx": _read_excel,
    "csv": lambda content: _read_separated(content, SEPARATORS["csv"]),
    "tsv": lambda content: _read_separated(content, SEPARATORS["tsv"]),
    "jsonl": _read_jsonl,
    "parquet": lambda content: _numbered(pd.read_parquet(io.BytesIO(content)).astype(object), 1),
}
_WRITERS = {
    "xlsx": write_excel,
    "csv": lambda frame, stream: write_separated(frame, stream, SEPARATORS["csv"]),
    "tsv": lambda frame, stream: write_separated(frame, stream, SEPARATORS["tsv"]),
    "jsonl": write_lines,
    "parquet": lambda frame, stream: frame.to_parquet(stream, index=False),
}
