"""Read the rows of several table files as one table, forwards, some rows at a time."""

import bisect
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
import pyarrow as pa

from common.core.errors import DataError
from common.data.format_reader import TableReader
from common.data.parquet_reader import ParquetReader
from common.data.table_reader import open_table


class ChainedReader:
    """The rows of several files as one table, read forwards.

    Args:
        files: (file, its number of rows), in order.
        columns: those to read.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], columns: Sequence[str]) -> None:
        self._files, self._columns = files, columns
        self._starts = [0, *itertools.accumulate(rows for _, rows in files)]
        self._number = -1
        self._stack = contextlib.ExitStack()
        self._reader: TableReader | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def frames(self, start: int, stop: int) -> list[tuple[Path, pd.DataFrame]]:
        """Return the rows from `start` to before `stop` as (file, rows); `start` must not be before rows already read.

        Raises:
            DataError: a file has fewer rows than `files` says, or cannot be read.
        """
        return [(reader.path, reader.read(count)) for reader, count in self._chunks(start, stop)]

    def arrow_tables(self, start: int, stop: int) -> list[pa.Table]:
        """Return the rows as `frames` does, of parquet files only, with the types of the files."""
        return [reader.read_arrow(n) for reader, n in self._chunks(start, stop) if isinstance(reader, ParquetReader)]

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[TableReader, int]]:
        """Iterate over (reader, number of rows to read from it now); check afterwards that it had so many."""
        while start < stop:
            number = bisect.bisect_right(self._starts, start) - 1  # skips files without rows, which begin here, too
            path, rows = self._files[number]
            if self._reader is None or number != self._number:
                self._stack.close()
                self._number, self._reader = number, self._stack.enter_context(open_table(path, self._columns))
            reader = self._reader
            reader.skip(start - self._starts[number] - reader.position)
            end = min(stop, self._starts[number + 1])
            yield reader, end - start
            if reader.position != end - self._starts[number]:
                raise DataError(f"{path}: has {reader.position} rows now; there were {rows}.")
            start = end
