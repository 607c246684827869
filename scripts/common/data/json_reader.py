"""Read jsonl and json files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config.dataset import ReadOptions
from common.data.format_reader import LoadedReader
from common.data.text_reader import TextReader, rows_frame


class JsonLinesReader(TextReader):
    """jsonl, line by line."""

    guesses_encoding = False  # JSON is UTF-8

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        super().__init__(path, columns, options)
        self._collects_columns = columns is None
        # Only "\n" ends a record: JSON allows U+2028 and similar characters inside strings.
        self._stream = self._open("\n")
        self._records = ((number, line) for number, line in enumerate(self._stream, start=1) if line.strip())

    def _read(self, count: int | None) -> pd.DataFrame:
        frame = rows_frame([(number, _json_object(number, line)) for number, line in self._take(count)])
        if self._collects_columns:
            self.columns = list(dict.fromkeys([*self.columns, *frame.columns]))
        # These records may lack a key that others have.
        return frame.reindex(columns=self.columns).astype(object)


class JsonReader(LoadedReader):
    """json: a list of objects, or one object with a list for each column; row 1 is the first of them."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        content = TextReader.whole_text(path, options, guess=False)
        try:
            found = json.loads(content)
        except json.JSONDecodeError as error:
            raise ValueError(str(error)) from error
        super().__init__(path, columns, _json_frame(found))


def _json_frame(found: Any) -> pd.DataFrame:
    if isinstance(found, list):
        for number, record in enumerate(found, start=1):
            if not isinstance(record, dict):
                raise ValueError(f"row {number}: expected an object, found {type(record).__name__}")
        return rows_frame(list(enumerate(found, start=1))).astype(object)
    if isinstance(found, dict) and found and all(isinstance(cells, list) for cells in found.values()):
        lengths = {name: len(cells) for name, cells in found.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"its columns differ in length: {lengths}")
        if any(isinstance(cell, dict) for cells in found.values() for cell in cells):
            raise ValueError(
                f"it holds several tables ({', '.join(found)}); save each as a file and name these in `files`"
            )
        index = pd.RangeIndex(1, 1 + next(iter(lengths.values())))
        return pd.DataFrame({name: pd.Series(cells, index, dtype=object) for name, cells in found.items()})
    raise ValueError("expected a list of objects, or one object with a list for each column")


def _json_object(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number}: expected an object, found {type(record).__name__}")
    return record
