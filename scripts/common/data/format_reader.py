"""What the readers of all table formats have in common: rows are read or skipped forwards."""

import abc
import collections
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from common.core import signals
from common.data.table_files import reading


class TableReader(abc.ABC):
    """The rows of one file, read forwards.

    Attributes:
        columns: of the table; for jsonl opened without `columns`, the keys seen so far.
        position: number of rows read or skipped.
        finds_columns: whether `columns` grow while rows are read (jsonl).
        schema: the types of a parquet file's columns; None for other formats, which have no column types.
    """

    schema: pa.Schema | None = None
    finds_columns = False

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self.path, self.position = path, 0
        self.columns = list(columns or [])

    def skip(self, count: int) -> None:
        """Pass over `count` rows."""
        signals.check()
        with reading(self.path):
            self._skip(count)

    def read(self, count: int | None = None) -> pd.DataFrame:
        """Return the next `count` rows, fewer at the end of the file; None for all that are left."""
        signals.check()
        with reading(self.path):
            return self._read(count)

    @abc.abstractmethod
    def _skip(self, count: int) -> None: ...

    @abc.abstractmethod
    def _read(self, count: int | None) -> pd.DataFrame: ...

    @abc.abstractmethod
    def close(self) -> None:
        """Close the file."""


class LoadedReader(TableReader):
    """The rows of a table that is in memory as a whole."""

    def __init__(self, path: Path, columns: Sequence[str] | None, frame: pd.DataFrame) -> None:
        super().__init__(path, columns)
        check_distinct_columns(frame.columns.tolist())
        self._frame = frame
        self.columns = self.columns or frame.columns.tolist()

    def _skip(self, count: int) -> None:
        self.position = min(self.position + count, len(self._frame))

    def _read(self, count: int | None) -> pd.DataFrame:
        stop = None if count is None else self.position + count
        frame = self._frame[self.columns].iloc[self.position : stop]
        self.position += len(frame)
        return frame

    def close(self) -> None:
        """Free the memory."""
        del self._frame


def check_distinct_columns(names: Sequence[object]) -> None:
    """Raise a `ValueError` where a column name occurs twice."""
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"the column '{repeated[0]}' occurs twice")
