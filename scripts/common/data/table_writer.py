"""A table too large for memory, written piece by piece: whole when it is done, else not there at all."""

import contextlib
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.core.errors import DataError
from common.core.files import atomic_path
from common.data import table_files
from common.data.table_reader import opened

_PIECE = 8_192  # rows whose types are looked at together
_ROW_GROUP = 131_072  # rows of a row group that is written: smaller ones cost every later reader
_GZIP_LEVEL = 6  # 9 takes twice the time for one per cent


class Appender:
    """Write a table piece by piece, atomically: the file is there whole when the context ends well.

    Args:
        path: its ending is the format.
        schema: of parquet, which must be known from the start; see `schema`.
        place: where to write, for a caller that gives the file its name `path` itself; else there.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None, place: Path | None = None) -> None:
        self.path, self.rows = path, 0
        self._place = place or path
        self._schema = schema
        self._name, self._gzipped = table_files.format_of(path)
        self._stack = contextlib.ExitStack()
        self._stream: BinaryIO = io.BytesIO()
        self._waiting: list[Any] = []
        self._header = True

    def __enter__(self) -> Self:
        partial = self._stack.enter_context(atomic_path(self._place))
        stream: Any = self._stack.enter_context(partial.open("wb"))
        if self._gzipped:  # without name and time: the same table gives the same bytes
            stream = gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0)
            self._stack.enter_context(stream)
        self._stream = stream
        if self._name == "parquet":
            self._parquet = self._stack.enter_context(pq.ParquetWriter(self._stream, self._schema))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with contextlib.ExitStack() as stack:
            stack.push(self._stack)
            if kind is None and self._waiting:
                self._flush()
            return stack.pop_all().__exit__(kind, error, trace)

    def append(self, piece: pd.DataFrame | pa.Table) -> None:
        """Add rows; a `pyarrow.Table` to parquet alone."""
        self.rows += len(piece)
        if self._name in table_files.SEPARATORS:
            with table_files.writing(self.path):
                table_files.write_separated(piece, self._stream, table_files.SEPARATORS[self._name], self._header)
            self._header = False
        elif self._name == "jsonl":
            with table_files.writing(self.path):
                table_files.write_lines(piece, self._stream)
        else:
            self._waiting.append(piece if self._name == "xlsx" else self._as_table(piece))
            if self._name == "parquet" and sum(map(len, self._waiting)) >= _ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        if self._name == "xlsx":
            with table_files.writing(self.path):
                content = io.BytesIO()  # a spreadsheet is an archive, whose beginning is written last
                table_files.write_excel(pd.concat(self._waiting, ignore_index=True), content)
                self._stream.write(content.getvalue())
        else:
            self._parquet.write_table(pa.concat_tables(self._waiting))
        self._waiting = []

    def _as_table(self, piece: pd.DataFrame | pa.Table) -> pa.Table:
        with table_files.writing(self.path):
            if isinstance(piece, pa.Table):
                return piece.replace_schema_metadata(None).cast(self._schema)
            table = pa.Table.from_pandas(piece, self._schema, preserve_index=False)
            return table.replace_schema_metadata(None)


def schema(files: Sequence[tuple[Path, int]], columns: Sequence[str], output: Path) -> pa.Schema:
    """Return the types of columns as parquet will hold them: the file's own, or what all their cells have in common.

    Args:
        files: (file, its rows) of one format.
        columns: of all of them.
        output: for the message.

    Raises:
        DataError: the cells of a column have nothing in common.
    """
    name = table_files.format_of(files[0][0])[0]
    if name in table_files.SEPARATORS:
        return pa.schema([(column, pa.string()) for column in columns])
    found = pa.schema([(column, pa.null()) for column in columns])
    for path, rows in files:
        with opened(path, columns) as source:
            if source.schema is not None:
                found = _common(found, source.schema.empty_table().select(columns).schema, path, output)
                continue
            for _ in range(0, rows, _PIECE):
                frame = source.take(_PIECE)
                with table_files.writing(output):
                    part = pa.Schema.from_pandas(frame, preserve_index=False)
                found = _common(found, part, path, output)
    return found


def _common(one: pa.Schema, other: pa.Schema, path: Path, output: Path) -> pa.Schema:
    try:
        return pa.unify_schemas(
            [one.remove_metadata(), other.remove_metadata()], promote_options="permissive"
        ).remove_metadata()
    except pa.ArrowException as error:
        raise DataError(f"{output}: cannot be written as parquet: {path} differs: {error}") from error
