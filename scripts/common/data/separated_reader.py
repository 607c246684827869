"""Read csv, tsv and txt files record by record."""

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config.dataset import ReadOptions
from common.data.dialect import HINT, ONE_COLUMN, find_dialect, holds_rows
from common.data.format_reader import check_distinct_columns
from common.data.table_files import SEPARATORS
from common.data.text_reader import TextReader, rows_frame

_SAMPLE_CHARACTERS = 2**20  # that decide about the dialect
_STATED = re.compile(r'"?sep=([^\w"\r\n])"?\s*')  # the line by which a spreadsheet program learns the separator


class SeparatedReader(TextReader):
    """csv, tsv or txt: pandas would pad short rows, and its row numbers are wrong after blank lines."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions, name: str) -> None:
        super().__init__(path, columns, options)
        csv.field_size_limit(sys.maxsize)  # the module's own limit, 131,072 characters, is shorter than some reviews
        skipped = options.skip_rows
        with self._decoding(), self._open("") as stream:
            self._skip_lines(stream, skipped)
            sample = stream.readline()
            if stated := _STATED.fullmatch(sample):
                skipped, sample = skipped + 1, ""
                options = options.model_copy(update={"separator": options.separator or stated[1]})
            sample += stream.read(_SAMPLE_CHARACTERS)
            is_whole = len(sample) < _SAMPLE_CHARACTERS
        if not is_whole:
            sample = sample[: max(sample.rfind("\n"), sample.rfind("\r"))] + "\n"
        self._dialect = find_dialect(path, sample, is_whole, SEPARATORS.get(name), options)
        self._stream = self._open("")
        self._skip_lines(self._stream, skipped)
        records = self._dialect.records(self._stream)
        self._first = 1 + skipped
        header: list[str] | None = options.header
        if header is None:
            header = next(records, None)
            self._first += 1
        if not header:
            raise ValueError(
                "there is no header row; set `skip_rows:` below `source:` in the dataset YAML where it is further down"
            )
        # A spreadsheet's index column may have no name; two such columns get different names.
        self._names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
        check_distinct_columns(self._names)
        self._records = self._numbered(records)
        self.columns = self.columns or self._names

    @staticmethod
    def _skip_lines(stream: io.TextIOBase | Any, count: int) -> None:
        for _ in range(count):
            stream.readline()

    def _numbered(self, records: Any) -> Iterator[tuple[int, list[str]]]:
        """Iterate over (row in the file, cells); a blank line is no row, but counts."""
        number, width, dialect = self._first - 1, len(self._names), self._dialect
        checks, before = dialect.proof != "stated", records.line_num
        try:
            for number, record in enumerate(records, start=self._first):
                if len(record) != width:
                    if record:
                        raise ValueError(
                            f"row {number} has {len(record)} cells, the header has {width} names; if the cells are "
                            f"separated or quoted in another way, {HINT}{ONE_COLUMN if width == 1 else ''}"
                        )
                elif checks and records.line_num != before + 1 and holds_rows(record, dialect):
                    raise ValueError(
                        f"row {number}: a quote seems to join several rows, to line {records.line_num}; set "
                        "`quoting: false` below `source:` in the dataset YAML where a quote is a part of the text, "
                        "or `quoting: true` where this is one row"
                    )
                else:
                    yield number, record
                before = records.line_num
        except csv.Error as error:
            raise ValueError(
                f"row {number + 1}: {error}; set `quoting: false` below `source:` in the dataset YAML where a quote is "
                "a part of the text"
            ) from error

    def _read(self, count: int | None) -> pd.DataFrame:
        return rows_frame(self._take(count), self._names)[self.columns]
