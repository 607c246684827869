"""Read jsonl and json files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config.dataset import SPLIT_NAMES, ReadOptions
from common.core.errors import choices
from common.data.format_reader import LoadedReader
from common.data.notes import say_once
from common.data.text_reader import TextReader, rows_frame

_REMEDY = 'with pandas, `df.to_json(path, orient="records", lines=True)` writes jsonl'


class JsonLinesReader(TextReader):
    """jsonl, line by line."""

    guesses_encoding = False  # JSON is UTF-8

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        super().__init__(path, columns, options)
        self.finds_columns = columns is None
        # Only "\n" ends a record: JSON allows U+2028 and similar characters inside strings.
        self._stream = self._open("\n")
        self._records = ((number, line) for number, line in enumerate(self._stream, start=1) if line.strip())

    def _read(self, count: int | None) -> pd.DataFrame:
        frame = rows_frame([(number, _json_object(number, line)) for number, line in self._take(count)])
        if self.finds_columns:
            self.columns = list(dict.fromkeys([*self.columns, *frame.columns]))
        # These records may lack a key that others have.
        return frame.reindex(columns=self.columns).astype(object)


class JsonReader(LoadedReader):
    """json that holds one table; see `read_json`."""

    def __init__(self, path: Path, columns: Sequence[str] | None, options: ReadOptions) -> None:
        tables = read_json(path, options)
        if "" not in tables:
            raise ValueError(
                f"it holds the splits {choices(tables)}; name this file alone, `files: {path.name}`, and they are used"
            )
        super().__init__(path, columns, tables[""])


def read_json(path: Path, options: ReadOptions) -> dict[str, pd.DataFrame]:
    """Return {split: table} of a json file that holds an object with one table for each split, else {"": table}.

    A table is a list of objects, an object with a list for each column, or what pandas writes: an object of objects, by
    column or by row. Row 1 is the first.
    """
    content = TextReader.whole_text(path, options, guess=False)
    try:
        found = json.loads(content, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from error
    if not isinstance(found, dict):
        return {"": _frame(found, path)}
    parts = {key: value for key, value in found.items() if key.lower() in SPLIT_NAMES and _is_table(value)}
    if not parts:
        return {"": _frame(found, path)}
    if others := [key for key in found if key not in parts]:
        say_once(f"{path}: what it holds as {choices(others)} is not used")
    tables: dict[str, pd.DataFrame] = {}
    for key, value in parts.items():
        split = SPLIT_NAMES[key.lower()]
        if split in tables:
            raise ValueError(f"it holds two tables for the split {split}: {choices(parts)}")
        tables[split] = _frame(value, path)
    return tables


def _is_table(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(cells, list) for cells in value.values())
    return isinstance(value, list) and all(isinstance(record, dict) for record in value)


def _frame(found: Any, path: Path) -> pd.DataFrame:
    if isinstance(found, list):
        for number, record in enumerate(found, start=1):
            if not isinstance(record, dict):
                raise ValueError(f"row {number}: expected an object, found {type(record).__name__}")
        return rows_frame(list(enumerate(found, start=1))).astype(object)
    if isinstance(found, dict) and found:
        values = list(found.values())
        if {"columns", "data"} <= set(found) <= {"columns", "index", "data"}:  # orient="split" of pandas
            return _of_split(found["columns"], found["data"])
        if all(isinstance(cells, list) for cells in values):
            return _of_lists(found, path)
        if all(isinstance(cells, dict) and not any(map(_is_nested, cells.values())) for cells in values):
            return _of_objects(found)
    raise ValueError(f"expected a list of objects, or one object with a list for each column; {_REMEDY}")


def _is_nested(cell: Any) -> bool:
    return isinstance(cell, dict | list)


def _of_lists(found: Mapping[str, list[Any]], path: Path) -> pd.DataFrame:
    if any(isinstance(cell, dict) for cells in found.values() for cell in cells):
        if len(found) == 1 and _is_table(rows := next(iter(found.values()))):
            say_once(f"{path}: its rows are the list '{next(iter(found))}'")
            return _frame(rows, path)
        raise ValueError(f"it holds several tables ({choices(found)}); save each as a file and name these in `files`")
    lengths = {name: len(cells) for name, cells in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its columns differ in length: {lengths}")
    index = pd.RangeIndex(1, 1 + next(iter(lengths.values())))
    return pd.DataFrame({name: pd.Series(cells, index, dtype=object) for name, cells in found.items()})


def _of_split(names: Any, rows: Any) -> pd.DataFrame:
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        raise ValueError(f"its `data` are not rows of {len(names)} cells, as its `columns` say")
    return rows_frame(list(enumerate(rows, start=1)), [str(name) for name in names])


def _of_objects(found: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table of an object of objects; pandas numbers the rows, which tells columns from rows."""
    inner = list(next(iter(found.values())))
    same = all(list(cells) == inner for cells in found.values())
    by_column, by_row = same and all(map(str.isdigit, inner)), all(map(str.isdigit, found))
    if by_column == by_row:
        raise ValueError(f"it is not clear whether its objects are rows or columns; {_REMEDY}")
    records = list(found.values()) if by_row else [{name: found[name][row] for name in found} for row in inner]
    return rows_frame(list(enumerate(records, start=1))).astype(object)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of a key that occurs twice, Python would take the last value silently."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key '{next(key for key in keys if keys.count(key) > 1)}' twice")
    return found


def _json_object(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_distinct)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number}: expected an object, found {type(record).__name__}")
    return record
