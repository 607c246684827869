"""Tables too large for memory: rows taken from files in order, some at a time.

Cells, columns and row numbers are those of `tablefiles.read_table`. Parquet is read by row groups; csv, tsv and jsonl
are read as streams, also gzipped; xlsx and gzipped parquet are read whole.
"""

import abc
import bisect
import contextlib
import gzip
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.core.errors import DataError
from common.data import table_files

_BATCH = 8_192  # rows that are decoded at once


class Source(abc.ABC):
    """The rows of one file, read forwards.

    Args:
        path: the file.
        columns: those that are needed, in order; None for all that the file has.

    Attributes:
        columns: of the table; for jsonl without `columns`, those seen so far.
        position: how many rows were taken or skipped.
        schema: the types of a parquet file's columns, None of the other formats, whose cells alone have types.
    """

    schema: pa.Schema | None = None

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self.path, self.position = path, 0
        self.columns = list(columns or [])

    def skip(self, count: int) -> None:
        """Pass over `count` rows."""
        with table_files.reading(self.path):
            self._skip(count)

    def take(self, count: int) -> pd.DataFrame:
        """Return the next rows, fewer than `count` at the end."""
        with table_files.reading(self.path):
            return self._take(count)

    @abc.abstractmethod
    def _skip(self, count: int) -> None: ...

    @abc.abstractmethod
    def _take(self, count: int) -> pd.DataFrame: ...

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file."""


class _Separated(Source):
    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        self._stream = _text(path, newline="")
        names, self._records = table_files.separated(
            self._stream, table_files.SEPARATORS[table_files.format_of(path)[0]]
        )
        table_files.check_distinct_columns(path, names)
        self._names = names
        self.columns = self.columns or names

    def _skip(self, count: int) -> None:
        self.position += sum(1 for _ in itertools.islice(self._records, count))

    def _take(self, count: int) -> pd.DataFrame:
        rows = list(itertools.islice(self._records, count))
        self.position += len(rows)
        return table_files.placed(rows, self._names)[self.columns]

    def close(self) -> None:
        self._stream.close()


class _Lines(Source):
    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        self._grows = columns is None
        self._stream = _text(path, newline="\n")
        self._lines = table_files.json_lines(self._stream)

    def _skip(self, count: int) -> None:
        self.position += sum(1 for _ in itertools.islice(self._lines, count))

    def _take(self, count: int) -> pd.DataFrame:
        rows = [table_files.json_record(*line) for line in itertools.islice(self._lines, count)]
        self.position += len(rows)
        frame = table_files.placed(rows)
        if self._grows:
            self.columns = list(dict.fromkeys([*self.columns, *frame.columns]))
        # A key that these records leave out may stand in others.
        return frame.reindex(columns=self.columns).astype(object)

    def close(self) -> None:
        self._stream.close()


class _Parquet(Source):
    schema: pa.Schema

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        gzipped = table_files.format_of(path)[1]
        self._file = pq.ParquetFile(pa.BufferReader(gzip.decompress(path.read_bytes())) if gzipped else path)
        self.schema = self._file.schema_arrow
        table_files.check_distinct_columns(path, self.schema.names)
        # An index that pandas stored is none of the table's columns, as in `read_table`.
        index = (self.schema.pandas_metadata or {}).get("index_columns", [])
        self.columns = self.columns or [name for name in self.schema.names if name not in index]
        sizes = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next = self._starts[-1]  # the row that the next batch begins with
        self._rest = pa.table({})  # read, not yet taken: the rows before `_next`
        self._gaps = self._integers_with_gaps()

    def _skip(self, count: int) -> None:
        self.position = min(self.position + count, self._starts[-1])

    def _take(self, count: int) -> pd.DataFrame:
        first = self.position + 1
        table = self._table(count)
        for name in self._gaps:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table.column(place).cast(pa.float64(), safe=False))
        frame = table.to_pandas().astype(object)
        frame.index = pd.RangeIndex(first, first + len(frame))
        return frame

    def table(self, count: int) -> pa.Table:
        """Return the next rows as they are in the file."""
        with table_files.reading(self.path):
            return self._table(count)

    def _table(self, count: int) -> pa.Table:
        stop = min(self.position + count, self._starts[-1])
        tables = [self.schema.empty_table().select(self.columns)]
        while self.position < stop:
            if not self._next - self._rest.num_rows <= self.position < self._next:
                self._advance()
                continue
            offset = self.position - (self._next - self._rest.num_rows)
            tables.append(self._rest.slice(offset, stop - self.position))
            self.position += tables[-1].num_rows
        return pa.concat_tables(tables)

    def _advance(self) -> None:
        """Read one batch; begin anew at the row group of the position where it lies elsewhere."""
        group = bisect.bisect_right(self._starts, self.position) - 1
        if not self._starts[group] <= self._next <= self.position:
            self._next = self._starts[group]
            groups = list(range(group, self._file.num_row_groups))
            self._batches = self._file.iter_batches(_BATCH, row_groups=groups, columns=self.columns)
        self._rest = pa.Table.from_batches([next(self._batches)]).select(self.columns)
        self._next += self._rest.num_rows

    def _integers_with_gaps(self) -> list[str]:
        """Return the integer columns that miss values: pandas reads those as floats, and so must every piece be."""
        types = self.schema.empty_table().to_pandas().dtypes
        found = [name for name in self.columns if isinstance(types.get(name), np.dtype) and types[name].kind in "iu"]
        return [name for name in found if self._nulls(name)]

    def _nulls(self, name: str) -> int:
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
        self._file.close()


class _Whole(Source):
    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        self._frame = table_files.read_table(path)
        self.columns = self.columns or self._frame.columns.tolist()

    def _skip(self, count: int) -> None:
        self.position = min(self.position + count, len(self._frame))

    def _take(self, count: int) -> pd.DataFrame:
        frame = self._frame[self.columns].iloc[self.position : self.position + count]
        self.position += len(frame)
        return frame

    def close(self) -> None:
        del self._frame


_SOURCES: dict[str, Callable[[Path, Sequence[str] | None], Source]] = {
    "csv": _Separated,
    "tsv": _Separated,
    "jsonl": _Lines,
    "parquet": _Parquet,
    "xlsx": _Whole,
}


def _text(path: Path, newline: str) -> TextIO:
    stream: Any = gzip.GzipFile(path) if table_files.format_of(path)[1] else path.open("rb")
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)


@contextlib.contextmanager
def opened(path: Path, columns: Sequence[str] | None = None) -> Iterator[Source]:
    """Open a table for reading forwards.

    Raises:
        DataError: there is no such file, or its content is not of its format; also while rows are taken.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    with table_files.reading(path):
        source = _SOURCES[table_files.format_of(path)[0]](path, columns)
    try:
        yield source
    finally:
        source.close()


class Chain:
    """The rows of several files as one table, read forwards.

    Args:
        files: (file, its rows), in order.
        columns: those that are needed.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], columns: Sequence[str]) -> None:
        self._files, self._columns = files, columns
        self._starts = [0, *itertools.accumulate(rows for _, rows in files)]
        self._number = -1
        self._stack = contextlib.ExitStack()
        self._source: Source | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def frames(self, start: int, stop: int) -> list[tuple[Path, pd.DataFrame]]:
        """Return the rows from `start` to before `stop` as (file, rows); never before those that were taken."""
        return [(source.path, source.take(count)) for source, count in self._pieces(start, stop)]

    def tables(self, start: int, stop: int) -> list[pa.Table]:
        """Return the rows as `frames` does, from parquet alone and with the file's own types."""
        return [source.table(count) for source, count in self._pieces(start, stop) if isinstance(source, _Parquet)]

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Source, int]]:
        while start < stop:
            number = bisect.bisect_right(self._starts, start) - 1  # of files that begin here, the one with rows
            path, rows = self._files[number]
            if self._source is None or number != self._number:
                self._stack.close()
                self._number, self._source = number, self._stack.enter_context(opened(path, self._columns))
            source = self._source
            source.skip(start - self._starts[number] - source.position)
            end = min(stop, self._starts[number + 1])
            yield source, end - start
            if source.position != end - self._starts[number]:
                raise DataError(f"{path}: has {source.position} rows now; there were {rows}.")
            start = end
