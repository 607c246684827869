"""Read the label column of tables: every cell that is no label is named, in all tables, before anything else is read.

A cell is compared with the labels of the YAML as text, in Unicode's form NFC: case and spaces count, 3.0 is "3".
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from common.config.dataset import ALL, Dataset
from common.config.label_values import Label, label_text
from common.core.errors import ConfigError, DataError, choices
from common.data.cells import is_missing, whole_number
from common.data.sheet_cells import BrokenCell
from common.data.visible_text import skeleton, suggestion, visible

_BROKEN = "cell of a spreadsheet without a value"
DROPPED = -1  # in place of the index of a label: the row is left out
_PLACES, _PROBLEMS = 3, 20  # rows of one value, and different values, that a message names
_INTEGER = re.compile(r"0|-?[1-9]\d*")
_WHOLE = re.compile(r"(0|-?[1-9]\d*)\.0+")
_WITH_HEADER = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".xlsb", ".ods")
_FEW_LABELS = 20  # no column of texts or numbers, whatever the number of rows

Frames = Mapping[str, tuple[pd.DataFrame, str]]  # {split: (table, file for messages)}


@dataclasses.dataclass(frozen=True)
class _Wrong:
    """A value that is no label, in one file.

    Attributes:
        text: the value as text, None where the label is missing.
        kind: the type of a value that is neither text nor number, "" for others.
    """

    origin: str
    text: str | None
    kind: str = ""


class _Cells:
    """Read label cells of a dataset.

    A cell that is none of the known names is tried in the other ways in which files write it: "1.0" as 1, as pandas
    writes whole numbers beside empty cells, and a boolean as true and TRUE, as JSON and spreadsheets write it.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._map = {name: label_text(label) for name, label in dataset.label_map.items()}
        self._known = set(self._map) | _dropped(dataset)
        self._known |= set() if dataset.takes_all_labels else {str(label) for label in dataset.labels}

    def __call__(self, cell: Any) -> tuple[str | None, str]:
        """Return a cell as text after `label_map`, None for a missing one; and its type where it cannot be a label."""
        if isinstance(cell, BrokenCell):
            return cell.problem, _BROKEN
        if is_missing(cell):
            return None, ""
        if isinstance(cell, list | dict | tuple | bytes) or not pd.api.types.is_scalar(cell):
            return str(cell), type(cell).__name__
        text = label_text(str(whole_number(cell)))
        if text not in self._known:
            text = next((name for name in _other_names(cell, text) if name in self._known), text)
        return self._map.get(text, text), ""


def _other_names(cell: Any, text: str) -> tuple[str, ...]:
    if isinstance(cell, bool | np.bool_):
        return text.lower(), text.upper()
    found = _WHOLE.fullmatch(text)
    return (found[1],) if found else ()


def read_labels(frame: pd.DataFrame, dataset: Dataset, origin: str) -> list[int]:
    """Return the index of every row's label in the dataset's `labels`, `DROPPED` for a value of `drop_labels`.

    Args:
        frame: a table with the label column; its index is the row's number in the file.
        dataset: its labels, `label_map` and `drop_labels`.
        origin: the file, for the message.

    Raises:
        DataError: cells are missing or are no labels; all are listed.
    """
    positions, found, read = _positions(dataset), [], _Cells(dataset)
    for cell in frame[dataset.label].tolist():
        text, kind = read(cell)
        if kind or text not in positions:
            check_labels({"": (frame, origin)}, dataset)
        found.append(positions[text])
    return found


def _positions(dataset: Dataset) -> dict[str | None, int]:
    """Return {label as text: index}, with `DROPPED` for what `drop_labels` names."""
    positions: dict[str | None, int] = {str(label): index for index, label in enumerate(dataset.labels)}
    return positions | {None if label is None else str(label): DROPPED for label in dataset.drop_labels}


def check_labels(frames: Frames, dataset: Dataset) -> None:
    """Check the label cells of all tables; a table without the column is left out.

    Raises:
        DataError: cells are missing or are no labels; the message lists each value with its rows and the nearest label.
    """
    positions, read = _positions(dataset), _Cells(dataset)
    wrong: dict[_Wrong, list[int]] = {}
    for frame, origin in frames.values():
        if dataset.label not in frame.columns:
            continue
        for place, cell in zip(frame.index.tolist(), frame[dataset.label].tolist(), strict=True):
            text, kind = read(cell)
            if kind or text not in positions:
                wrong.setdefault(_Wrong(origin, text, kind), []).append(place)
    if not wrong:
        return
    lines = [_line(value, places, dataset) for value, places in wrong.items()]
    if len(lines) > _PROBLEMS:
        rows = sum(map(len, list(wrong.values())[_PROBLEMS:]))
        lines = [*lines[:_PROBLEMS], f"… and {len(wrong) - _PROBLEMS} more values, in {rows} rows"]
    raise DataError("\n  ".join([*lines, _remedy(wrong, dataset)]))


def _line(value: _Wrong, places: Sequence[int], dataset: Dataset) -> str:
    where = f"{value.origin}, row {places[0]}, column '{dataset.label}'"
    more = [str(place) for place in places[1:_PLACES]] + (["…"] if len(places) > _PLACES else [])
    count = f" ({len(places)} rows: also row{'' if len(places) == 2 else 's'} {', '.join(more)})" if more else ""
    if value.text is None:
        return f"{where}: found an empty cell{count}; the label is missing."
    if value.kind == _BROKEN:
        return f"{where}: {value.text}{count}."
    if value.kind:
        return f"{where}: found a {value.kind}, '{visible(value.text)}'{count}; a label is a text or a whole number."
    near = suggestion(value.text, dataset.labels)
    return f"{where}: found '{visible(value.text)}', which is not a label{count}.{near}"


def _remedy(wrong: Iterable[_Wrong], dataset: Dataset) -> str:
    allowed = choices(visible(label) for label in dataset.labels)
    missing = [value for value in wrong if value.text is None]
    example = next((value.text for value in wrong if value.text is not None), None)
    advice = ["Fill the label in, or leave rows without one out with drop_labels: [null]."] if missing else []
    if example is not None:
        advice.append(
            "A value can be added to `labels`, renamed with label_map: {value: label} or left out with drop_labels: "
            "[value], all in the dataset's YAML. (A label such as 01 or null must be quoted there.)"
        )
    return f"Allowed: {allowed}. {' '.join(advice)}"


def find_unused_values(frames: Frames, dataset: Dataset) -> list[str]:
    """Return a sentence for each of `label_map` and `drop_labels` that names values which occur in no row."""
    if not (dataset.label_map or dataset.drop_labels):
        return []
    plain = dataset.model_copy(update={"label_map": {}})
    cells = [cell for frame, _ in frames.values() for cell in frame[dataset.label].tolist()]
    found, renamed = ({read(cell)[0] for cell in cells} for read in (_Cells(plain), _Cells(dataset)))
    notes = []
    for key, names in (
        ("label_map", [name for name in dataset.label_map if name not in found]),
        ("drop_labels", [str(name) for name in dataset.drop_labels if name is not None and str(name) not in renamed]),
    ):
        if names:
            notes.append(f"{key} names values that occur in no row: {choices(repr(visible(name)) for name in names)}")
    return notes


def find_other_names(frames: Frames, dataset: Dataset) -> list[str]:
    """Return a sentence about labels that the rows write in another way than the YAML: "1.0" for 1."""
    read = _Cells(dataset)
    found = {}
    for frame, _ in frames.values():
        for cell in frame[dataset.label].tolist():
            if isinstance(cell, str | bool | np.bool_):
                text = label_text(str(cell))
                if text not in dataset.label_map and (name := read(cell)[0]) not in (None, text):
                    found[text] = name
    pairs = [f"{visible(text)} as {visible(name)}" for text, name in sorted(found.items())]
    return [f"labels of the rows that are read as those of the YAML: {choices(pairs)}"] if pairs else []


def discover_labels(frames: Frames, dataset: Dataset) -> Dataset:
    """Return the dataset with the labels of the train rows, sorted, for a dataset with `labels: all`.

    If all are whole numbers, also as 1.0, the labels are integers, in the order of numbers.

    Raises:
        DataError: there is no train table, it lacks the column, a label is missing, two labels look alike, or there are
            fewer than two labels or nearly as many as rows.
    """
    if "train" not in frames:
        raise DataError("`labels: all` takes the labels from the train rows, and there are none. Name a train file.")
    frame, origin = frames["train"]
    if dataset.label not in frame.columns:
        raise no_column(frame, origin, dataset.label, "label", dataset)
    _check_header_once(frame, origin, dataset)
    found = Counter(map(_Cells(dataset), frame[dataset.label].tolist()))
    names = sorted({text for text, kind in found if text is not None and not kind} - _dropped(dataset))
    if len(names) > _FEW_LABELS and 2 * len(names) > len(frame):
        raise DataError(
            f"{origin}, column '{dataset.label}': `labels: all` found {len(names)} labels in {len(frame)} rows, for "
            f"example '{visible(names[0])}'. Is this the column of the labels? If it is, write `labels` as a list."
        )
    if odd := next((kind for _, kind in found if kind and kind != _BROKEN), None):
        raise DataError(f"{origin}, column '{dataset.label}': found a {odd}; a label is a text or a whole number.")
    if len(names) < 2:
        raise DataError(
            f"{origin}, column '{dataset.label}': `labels: all` found {choices(map(visible, names)) or 'no label'}; a "
            "classifier needs at least two labels."
        )
    _check_look_alikes(names, origin, dataset)
    whole = {match[1] if (match := _WHOLE.fullmatch(name)) else name for name in names}
    labels: list[Label] = sorted(map(int, whole)) if all(map(_INTEGER.fullmatch, whole)) else list(names)
    try:
        return dataset.with_labels(labels)
    except ConfigError as error:
        raise DataError(f"{origin}, column '{dataset.label}', `labels: {ALL}`: {error}") from error


def _check_look_alikes(names: Sequence[str], origin: str, dataset: Dataset) -> None:
    """Raise a `DataError` for labels that look alike, such as "good " beside "good": they would be two classes."""
    seen: dict[str, list[str]] = {}
    for name in names:
        if name not in dataset.label_map:  # there, a name stands for itself where that is meant
            seen.setdefault(skeleton(name), []).append(name)
    alike = [" and ".join(f"'{visible(name)}'" for name in found) for found in seen.values() if len(found) > 1]
    if alike:
        raise DataError(
            f"{origin}, column '{dataset.label}': `labels: all` found labels that differ in case, spaces or look-alike "
            f"characters only: {choices(alike, _PROBLEMS)}. Merge them with label_map: {{value: label}}. If they are "
            "different labels, say so with label_map: {label: label}, or write `labels` as a list."
        )


def no_column(frame: pd.DataFrame, origin: str, column: str, key: str, dataset: Dataset) -> DataError:
    """Return the error of a table that lacks the column which the dataset's YAML names as `key`."""
    existing = [str(name) for name in frame.columns]
    if not existing:
        return DataError(f"{origin}: there are no rows, so there is no column '{visible(column)}'.")
    near = suggestion(column, existing)
    has_header = near or dataset.source.header or not origin.lower().endswith(_WITH_HEADER)
    below = "If its header is further down, set `skip_rows:` below `source:`"
    hint = "" if has_header else f" {below}; if it has none, name the columns with `header:`."
    return DataError(
        f"{origin}: there is no column '{visible(column)}', which the dataset YAML names as `{key}`.{near} Columns "
        f"found: {choices(map(visible, existing))}.{hint}"
    )


def _check_header_once(frame: pd.DataFrame, origin: str, dataset: Dataset) -> None:
    """Raise a `DataError` for a row that repeats the header, as where files were joined: it would become a label."""
    names = frame.columns.tolist()
    for number, cell in enumerate(frame[dataset.label].tolist()):
        if isinstance(cell, str) and cell == dataset.label and len(names) > 1 and frame.iloc[number].tolist() == names:
            raise DataError(f"{origin}, row {frame.index[number]}: it repeats the header; delete it.")


def _dropped(dataset: Dataset) -> set[str]:
    return {str(label) for label in dataset.drop_labels if label is not None}
