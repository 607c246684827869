"""Read table files (xlsx, csv, tsv, jsonl, parquet, also .gz) into data frames, whole or some rows at a time.

Cells are read as they are written: csv and tsv cells stay strings, so that labels "01", "NA" or "null" do not change.
The index of a data frame is the row's number in the file, as a spreadsheet or an editor shows it.

Each format has one reader, which reads forwards: parquet by row groups; csv, tsv and jsonl as streams, also gzipped.
xlsx and gzipped parquet are loaded into memory as a whole.
"""

import abc
import bisect
import collections
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

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.core.errors import DataError
from common.data.table_files import SEPARATORS, format_of, reading

PARQUET_BATCH_ROWS = 8_192  # rows that are decoded at once


def read_table(path: Path) -> pd.DataFrame:
    """Read a whole table file.

    Raises:
        DataError: no such file, unknown format, or content that is not of that format.
    """
    with open_table(path) as reader:
        return reader.read()


@contextlib.contextmanager
def open_table(path: Path, columns: Sequence[str] | None = None) -> Iterator["TableReader"]:
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


class TableReader(abc.ABC):
    """The rows of one file, read forwards.

    Attributes:
        columns: of the table; for jsonl opened without `columns`, the keys seen so far.
        position: number of rows read or skipped.
        schema: the types of a parquet file's columns; None for other formats, which have no column types.
    """

    schema: pa.Schema | None = None

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self.path, self.position = path, 0
        self.columns = list(columns or [])

    def skip(self, count: int) -> None:
        """Pass over `count` rows."""
        with reading(self.path):
            self._skip(count)

    def read(self, count: int | None = None) -> pd.DataFrame:
        """Return the next `count` rows, fewer at the end of the file; None for all that are left."""
        with reading(self.path):
            return self._read(count)

    @abc.abstractmethod
    def _skip(self, count: int) -> None: ...

    @abc.abstractmethod
    def _read(self, count: int | None) -> pd.DataFrame: ...

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file."""


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
        _check_distinct_columns(self._names)
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


class ParquetReader(TableReader):
    """Parquet, some row groups at a time; the only format whose file states the types of its columns."""

    schema: pa.Schema

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        gzipped = format_of(path)[1]
        self._file = pq.ParquetFile(pa.BufferReader(gzip.decompress(path.read_bytes())) if gzipped else path)
        self.schema = self._file.schema_arrow
        _check_distinct_columns(self.schema.names)
        # An index that pandas stored is not a column of the table.
        index = (self.schema.pandas_metadata or {}).get("index_columns", [])
        self.columns = self.columns or [name for name in self.schema.names if name not in index]
        sizes = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next = self._starts[-1]  # the row that the next batch begins with
        self._batch = pa.table({})  # the batch before `_next`
        self._integers_with_gaps = self._find_integers_with_gaps()

    def _skip(self, count: int) -> None:
        self.position = min(self.position + count, self._starts[-1])

    def _read(self, count: int | None) -> pd.DataFrame:
        first = self.position + 1
        table = self._read_arrow(count)
        for name in self._integers_with_gaps:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table.column(place).cast(pa.float64(), safe=False))
        frame = table.to_pandas().astype(object)
        frame.index = pd.RangeIndex(first, first + len(frame))
        return frame

    def read_arrow(self, count: int) -> pa.Table:
        """Return the next rows with the types of the file."""
        with reading(self.path):
            return self._read_arrow(count)

    def _read_arrow(self, count: int | None) -> pa.Table:
        stop = self._starts[-1] if count is None else min(self.position + count, self._starts[-1])
        tables = [self.schema.empty_table().select(self.columns)]
        while self.position < stop:
            if not self._next - self._batch.num_rows <= self.position < self._next:
                self._load_batch()
                continue
            offset = self.position - (self._next - self._batch.num_rows)
            tables.append(self._batch.slice(offset, stop - self.position))
            self.position += tables[-1].num_rows
        return pa.concat_tables(tables)

    def _load_batch(self) -> None:
        """Load the next batch; where `position` is in another row group, load the first batch of that row group."""
        group = bisect.bisect_right(self._starts, self.position) - 1
        if not self._starts[group] <= self._next <= self.position:
            self._next = self._starts[group]
            groups = list(range(group, self._file.num_row_groups))
            self._batches = self._file.iter_batches(PARQUET_BATCH_ROWS, row_groups=groups, columns=self.columns)
        self._batch = pa.Table.from_batches([next(self._batches)]).select(self.columns)
        self._next += self._batch.num_rows

    def _find_integers_with_gaps(self) -> list[str]:
        """Return the integer columns with missing values: pandas reads those as floats, in every chunk alike."""
        types = self.schema.empty_table().to_pandas().dtypes
        found = [name for name in self.columns if isinstance(types.get(name), np.dtype) and types[name].kind in "iu"]
        return [name for name in found if self._count_nulls(name)]

    def _count_nulls(self, name: str) -> int:
        counts = []
        for number in range(self._file.num_row_groups):
            group = self._file.metadata.row_group(number)
            columns = (group.column(place) for place in range(group.num_columns))
            statistics = next(column.statistics for column in columns if column.path_in_schema == name)
            if statistics is None or not statistics.has_null_count:
                return int(self._file.read(columns=[name]).column(0).null_count)
            counts.append(statistics.null_count)
        return sum(counts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _ExcelReader(TableReader):
    """The first sheet of a workbook, which is loaded as a whole."""

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        content = gzip.decompress(path.read_bytes()) if format_of(path)[1] else path.read_bytes()
        with pd.ExcelFile(io.BytesIO(content), engine="openpyxl") as book:
            # The header is checked first: pandas renames a second "name" to "name.1".
            header = pd.read_excel(book, header=None, nrows=1, dtype=object, keep_default_na=False, na_values=[])
            names = header.iloc[0].tolist() if len(header) else []
            _check_distinct_columns([name for name in names if isinstance(name, str) and name])
            self._frame = pd.read_excel(book, dtype=object, keep_default_na=False, na_values=[])
        _check_distinct_columns(self._frame.columns.tolist())
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


def _check_distinct_columns(names: Sequence[object]) -> None:
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"the column '{repeated[0]}' occurs twice")


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
