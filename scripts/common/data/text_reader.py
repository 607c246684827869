"""What the readers of text files have in common: encoding, and records that are read one after the other."""

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from common.config.dataset import ReadOptions
from common.data.bounds import check_cells, count_keys
from common.data.format_reader import TableReader
from common.data.table_files import open_binary
from common.data.text_encoding import describe_undecodable, find_encoding, without_mark


class TextReader(TableReader):
    """The records of a text file, which are read one after the other."""

    guesses_encoding = True
    _stream: TextIO
    _records: Iterator[tuple[int, Any]]  # (number in the file, record)

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        super().__init__(path, columns)
        self._encoding = options.encoding or find_encoding(path, self.guesses_encoding)

    def _open(self, newline: str) -> TextIO:
        encoding = without_mark(self._encoding)
        return io.TextIOWrapper(open_binary(self.path), encoding=encoding, newline=newline)

    @staticmethod
    def whole_text(path: Path, options: ReadOptions, guess: bool) -> str:
        """Return the whole text of a file; `guess`: whether encodings other than UTF are tried."""
        encoding = options.encoding or find_encoding(path, guess)
        with open_binary(path) as stream:
            content = stream.read()
        try:
            return content.decode(without_mark(encoding))
        except UnicodeError as error:
            raise ValueError(describe_undecodable(path, encoding)) from error

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        """Name the line that is not of the file's encoding."""
        try:
            yield
        except UnicodeError as error:
            raise ValueError(describe_undecodable(self.path, self._encoding)) from error

    def _skip(self, count: int) -> None:
        with self._decoding():
            self.position += sum(1 for _ in itertools.islice(self._records, count))

    def _take(self, count: int | None) -> list[tuple[int, Any]]:
        with self._decoding():
            taken = list(itertools.islice(self._records, count))
        self.position += len(taken)
        return taken

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def rows_frame(rows: Sequence[tuple[int, Any]], names: list[str] | None = None) -> pd.DataFrame:
    """Return (row in the file, cells) as a table of objects; without `names`, cells are mappings by column."""
    if names is None:
        count_keys([cells for _, cells in rows])
    else:
        check_cells(len(rows), len(names))
    index = pd.Index([number for number, _ in rows], dtype=int)
    return pd.DataFrame([cells for _, cells in rows], columns=names, index=index, dtype=object)
