"""Write data frames to table files (xlsx, csv, tsv, jsonl, parquet, also .gz), whole or in chunks, atomically."""

import contextlib
import csv
import gzip
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.core.errors import DataError
from common.core.files import atomic_path
from common.data.sheet_cells import escape_xlsx
from common.data.table_files import SEPARATORS, check_writable, format_of, writing
from common.data.table_reader import open_table

PARQUET_ROW_GROUP_ROWS = 131_072  # smaller row groups slow down every later reader
_CHUNK_ROWS = 8_192  # rows whose types are inferred together
_GZIP_LEVEL = 6  # level 9 takes twice the time and saves one per cent
_EXCEL_CELL_CHARACTERS = 32_767  # the most that a cell of xlsx can hold


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table in the format of the path's ending, atomically.

    Raises:
        DataError: unknown format, or cells that the format cannot hold.
    """
    with TableWriter(path) as writer:
        writer.append(frame)


class TableWriter:
    """Write a table chunk by chunk, atomically: the file appears, complete, when the context ends without an error.

    Append at least one chunk, which may have no rows: it names the columns.

    Args:
        path: its ending says the format.
        schema: the column types of a parquet file, see `common_schema`; None for those of the first chunk.
        place: write to this path instead, in the format of `path`, for a caller that renames the file itself.

    Attributes:
        rows: number of rows appended.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None, place: Path | None = None) -> None:
        self.path, self.rows = path, 0
        self._place = place or path
        self._schema = schema
        check_writable(path)
        self._format, self._gzipped = format_of(path)
        self._stack = contextlib.ExitStack()
        self._stream: BinaryIO = io.BytesIO()
        self._waiting: list[Any] = []
        self._parquet: pq.ParquetWriter | None = None
        self._is_first = True

    def __enter__(self) -> Self:
        partial = self._stack.enter_context(atomic_path(self._place))
        stream: Any = self._stack.enter_context(partial.open("wb"))
        if self._gzipped:  # without name and time: the same table gives the same bytes
            stream = self._stack.enter_context(gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0))
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with contextlib.ExitStack() as stack:
            stack.push(self._stack)
            if kind is None and self._waiting:
                self._write_waiting()
            return stack.pop_all().__exit__(kind, error, trace)

    def append(self, chunk: pd.DataFrame | pa.Table) -> None:
        """Add rows; a `pyarrow.Table` is allowed for parquet only.

        Raises:
            DataError: the format cannot hold the cells.
        """
        self.rows += len(chunk)
        with writing(self.path):
            if self._format in SEPARATORS:
                _write_separated(chunk, self._stream, SEPARATORS[self._format], header=self._is_first)
            elif self._format == "jsonl":
                _write_json_lines(chunk, self._stream)
            else:
                self._waiting.append(chunk if self._format == "xlsx" else self._to_arrow(chunk))
        self._is_first = False
        if self._format == "parquet" and sum(map(len, self._waiting)) >= PARQUET_ROW_GROUP_ROWS:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._format == "xlsx":
            with writing(self.path):
                content = io.BytesIO()  # a workbook is a zip file, which cannot be written chunk by chunk
                _write_excel(pd.concat(self._waiting, ignore_index=True), content)
                self._stream.write(content.getvalue())
        else:
            if self._parquet is None:
                self._parquet = self._stack.enter_context(pq.ParquetWriter(self._stream, self._schema))
            self._parquet.write_table(pa.concat_tables(self._waiting))
        self._waiting = []

    def _to_arrow(self, chunk: pd.DataFrame | pa.Table) -> pa.Table:
        if isinstance(chunk, pa.Table):
            return chunk.replace_schema_metadata(None).cast(self._schema)
        table = pa.Table.from_pandas(chunk, self._schema, preserve_index=False)
        if self._schema is None:
            self._schema = table.schema
        return table.replace_schema_metadata(None)


def common_schema(files: Sequence[tuple[Path, int]], columns: Sequence[str], output: Path) -> pa.Schema:
    """Return the parquet types that hold the cells of all files: the types of parquet files, or types of the cells.

    Args:
        files: (file, its number of rows), all of one format.
        columns: those that all files have.
        output: named in the message.

    Raises:
        DataError: no type holds all cells of a column.
    """
    if format_of(files[0][0])[0] in SEPARATORS:
        return pa.schema([(column, pa.string()) for column in columns])
    found = pa.schema([(column, pa.null()) for column in columns])
    for path, rows in files:
        with open_table(path, columns) as reader:
            if reader.schema is not None:
                found = _unify(found, reader.schema.empty_table().select(columns).schema, path, output)
                continue
            for _ in range(0, rows, _CHUNK_ROWS):
                frame = reader.read(_CHUNK_ROWS)
                with writing(output):
                    part = pa.Schema.from_pandas(frame, preserve_index=False)
                found = _unify(found, part, path, output)
    return found


def _unify(one: pa.Schema, other: pa.Schema, path: Path, output: Path) -> pa.Schema:
    try:
        return pa.unify_schemas(
            [one.remove_metadata(), other.remove_metadata()], promote_options="permissive"
        ).remove_metadata()
    except pa.ArrowException as error:
        raise DataError(f"{output}: cannot be written as parquet: {path} differs: {error}") from error


def _write_separated(frame: pd.DataFrame, stream: BinaryIO, separator: str, header: bool) -> None:
    # Python before 3.13 leaves a cell with a single carriage return unquoted; readers take that for the end of a row.
    has_return = any("\r" in cell for name in frame.columns for cell in frame[name] if isinstance(cell, str))
    if header:  # in quotes, which tells a reader that quotes enclose cells, and what separates them
        text = io.StringIO()
        csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(frame.columns)
        stream.write(text.getvalue().encode())
    frame.to_csv(
        stream,
        index=False,
        sep=separator,
        header=False,
        quoting=csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL,
    )


def _write_json_lines(frame: pd.DataFrame, stream: BinaryIO) -> None:
    for values in frame.itertuples(index=False, name=None):
        cells = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
        record = dict(zip(frame.columns, cells, strict=True))
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=_as_json)
        stream.write(line.encode() + b"\n")


def _as_json(value: Any) -> Any:
    """Return numpy's numbers (from parquet) as Python's, and dates (from parquet and xlsx) as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _write_excel(frame: pd.DataFrame, stream: io.BytesIO) -> None:
    """Write a table as the only sheet of a workbook."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    for number, values in enumerate([tuple(frame.columns), *frame.itertuples(index=False, name=None)], start=1):
        for column, value in enumerate(values, start=1):
            if isinstance(value, str) and len(value) > _EXCEL_CELL_CHARACTERS:
                raise ValueError(
                    f"row {number} has a text of {len(value)} characters; a cell holds {_EXCEL_CELL_CHARACTERS}"
                )
            cell = sheet.cell(number, column)
            cell.value = escape_xlsx(value) if isinstance(value, str) else value
            if isinstance(value, str):
                cell.data_type = "s"  # a text that begins with "=" is not a formula
    book.save(stream)
