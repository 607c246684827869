"""Read parquet files by row groups, with the types of their columns."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.data.bounds import check_cells
from common.data.format_reader import TableReader, check_distinct_columns
from common.data.table_files import compression_of, open_binary, reading

BATCH_ROWS = 8_192  # rows that are decoded at once


class ParquetReader(TableReader):
    """Parquet, some row groups at a time; the only format whose file states the types of its columns."""

    schema: pa.Schema

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        super().__init__(path, columns)
        compressed = compression_of(path)
        self._file = pq.ParquetFile(pa.BufferReader(open_binary(path).read()) if compressed else path)
        self.schema = self._file.schema_arrow
        check_distinct_columns(self.schema.names)
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
        rows = self._starts[-1] - self.position
        check_cells(rows if count is None else min(count, rows), len(self.columns))
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
            self._batches = self._file.iter_batches(BATCH_ROWS, row_groups=groups, columns=self.columns)
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
