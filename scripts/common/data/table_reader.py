"""Read table files (xlsx, csv, tsv, jsonl, parquet, also .gz) into data frames, whole or some rows at a time.

Cells are read as they are written: csv and tsv cells stay strings, so that labels "01", "NA" or "null" do not change.
The index of a data frame is the row's number in the file, as a spreadsheet or an editor shows it.

Each format has one reader, which reads forwards: parquet by row groups; csv, tsv and jsonl as streams, also gzipped.
xlsx and gzipped parquet are loaded into memory as a whole.
"""

import contextlib
import csv
import gzip
import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from common.core.errors import DataError
from common.data.format_reader import TableReader, check_distinct_columns
from common.data.parquet_reader import ParquetReader
from common.data.table_files import SEPARATORS, format_of, reading


def read_table(path: Path) -> pd.DataFrame:
    """Read a whole table file.

    Raises:
        DataError: no such file, unknown format, or content that is not of that format.
    """
    with open_table(path) as reader:
        return reader.read()


@contextlib.contextmanager
def open_table(path: Path, columns: Sequence[str] | None = None) -> Iterator[TableReader]:
    """Open a table file for reading forwards; yields its reader.

    Args:
        path: the file.
        columns: those to read, in this order; None for all.

    Raises:
        DataError: no such file, unknown format, or content that is not of that format; `read` and `skip` raise it, too.
    """
    readers: dict[str, type[TableReader]] = {
        "csv": _SeparatedReader,
        "tsv": _SeparatedReader,
        "jsonl": _JsonLinesReader,
        "parquet": ParquetReader,
        "xlsx": _ExcelReader,
    }
    name, _ = format_of(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    with reading(path):
        reader = readers[name](path, columns)
    try:
        yield reader
    finally:
        reader.close()


class _TextReader(TableReader):
    """The records of a text file, which are read one after the other."""

    _stream: TextIO
    _records: Iterator[tuple[int, Any]]  # (number in the file, record)

    def _skip(self, count: int) -> None:
        self.position += sum(1 for _ in itertools.islice(self._records, count))

    def _take(self, count: int | None) -> list[tuple[int, Any]]:
        taken = list(itertools.islice(self._records, count))
        self.position += len(taken)
        return taken

    def close(self) -> None:
        self._stream.close()


class _SeparatedReader(_TextReader):
    """csv or tsv, record by record: pandas would pad short rows, and its row numbers are wrong after blank lines."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        csv.field_size_limit(sys.maxsize)  # the module's own limit, 131,072 characters, is shorter than some reviews
        self._stream = _open_text(path, newline="")
        records = csv.reader(self._stream, delimiter=SEPARATORS[format_of(path)[0]], strict=True)
        header = next(records, None)
        if not header:
            raise ValueError("there is no header row")
        # A spreadsheet's index column may have no name; two such columns get different names.
        self._names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
        check_distinct_columns(self._names)
        self._records = self._numbered(records)
        self.columns = self.columns or self._names

    def _numbered(self, records: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
        """Iterate over (row in the file, cells); a blank line is no row, but counts."""
        for number, record in enumerate(records, start=2):
            if record and len(record) != len(self._names):
                raise ValueError(f"row {number} has {len(record)} cells, the header has {len(self._names)} names")
            if record:
                yield number, record

    def _read(self, count: int | None) -> pd.DataFrame:
        return _frame(self._take(count), self._names)[self.columns]


class _JsonLinesReader(_TextReader):
    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        self._collects_columns = columns is None
        # Only "\n" ends a record: JSON allows U+2028 and similar characters inside strings.
        self._stream = _open_text(path, newline="\n")
        self._records = ((number, line) for number, line in enumerate(self._stream, start=1) if line.strip())

    def _read(self, count: int | None) -> pd.DataFrame:
        frame = _frame([(number, _json_object(number, line)) for number, line in self._take(count)])
        if self._collects_columns:
            self.columns = list(dict.fromkeys([*self.columns, *frame.columns]))
        # These records may lack a key that others have.
        return frame.reindex(columns=self.columns).astype(object)


class _ExcelReader(TableReader):
    """The first sheet of a workbook, which is loaded as a whole."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        content = gzip.decompress(path.read_bytes()) if format_of(path)[1] else path.read_bytes()
        with pd.ExcelFile(io.BytesIO(content), engine="openpyxl") as book:
            # The header is checked first: pandas renames a second "name" to "name.1".
            header = pd.read_excel(book, header=None, nrows=1, dtype=object, keep_default_na=False, na_values=[])
            names = header.iloc[0].tolist() if len(header) else []
            check_distinct_columns([name for name in names if isinstance(name, str) and name])
            self._frame = pd.read_excel(book, dtype=object, keep_default_na=False, na_values=[])
        check_distinct_columns(self._frame.columns.tolist())
        self._frame.index = pd.RangeIndex(2, 2 + len(self._frame))
        self.columns = self.columns or self._frame.columns.tolist()

    def _skip(self, count: int) -> None:
        self.position = min(self.position + count, len(self._frame))

    def _read(self, count: int | None) -> pd.DataFrame:
        stop = None if count is None else self.position + count
        frame = self._frame[self.columns].iloc[self.position : stop]
        self.position += len(frame)
        return frame

    def close(self) -> None:
        del self._frame


def _open_text(path: Path, newline: str) -> TextIO:
    """Open a text file, also gzipped; utf-8-sig takes away the byte order mark that Excel writes."""
    stream: Any = gzip.GzipFile(path) if format_of(path)[1] else path.open("rb")
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)


def _frame(rows: Sequence[tuple[int, Any]], names: list[str] | None = None) -> pd.DataFrame:
    """Return (row in the file, cells) as a table of objects; without `names`, cells are mappings by column."""
    index = pd.Index([number for number, _ in rows], dtype=int)
    return pd.DataFrame([cells for _, cells in rows], columns=names, index=index, dtype=object)


def _json_object(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number}: expected an object, found {type(record).__name__}")
    return record
