"""Read the label column of tables: every cell that is no label is named, in all tables, before anything else is read.

A cell is compared with the labels of the YAML as text, in Unicode's form NFC: case and spaces count, 3.0 is "3".
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from common.config.dataset import ALL, Dataset
from common.config.label_values import Label, label_text
from common.core.errors import ConfigError, DataError, choices, nearest
from common.data.cells import is_missing, whole_number
from common.data.sheet_cells import BrokenCell
from common.data.visible_text import suggestion, visible

_BROKEN = "cell of a spreadsheet without a value"
DROPPED = -1  # in place of the index of a label: the row is left out
_PLACES, _PROBLEMS = 3, 20  # rows of one value, and different values, that a message names
_INTEGER = re.compile(r"0|-?[1-9]\d*")
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


def _read(cell: Any, dataset: Dataset) -> tuple[str | None, str]:
    """Return a cell as text after `label_map`, None where it is missing; and its type where it cannot be a label."""
    if isinstance(cell, BrokenCell):
        return cell.problem, _BROKEN
    if is_missing(cell):
        return None, ""
    if isinstance(cell, list | dict | tuple | bytes) or not pd.api.types.is_scalar(cell):
        return str(cell), type(cell).__name__
    text = label_text(str(whole_number(cell)))
    return label_text(dataset.label_map.get(text, text)), ""


def read_labels(frame: pd.DataFrame, dataset: Dataset, origin: str) -> list[int]:
    """Return the index of every row's label in the dataset's `labels`, `DROPPED` for a value of `drop_labels`.

    Args:
        frame: a table with the label column; its index is the row's number in the file.
        dataset: its labels, `label_map` and `drop_labels`.
        origin: the file, for the message.

    Raises:
        DataError: cells are missing or are no labels; all are listed.
    """
    positions, found = _positions(dataset), []
    for cell in frame[dataset.label].tolist():
        text, kind = _read(cell, dataset)
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
    positions = _positions(dataset)
    wrong: dict[_Wrong, list[int]] = {}
    for frame, origin in frames.values():
        if dataset.label not in frame.columns:
            continue
        for place, cell in zip(frame.index.tolist(), frame[dataset.label].tolist(), strict=True):
            text, kind = _read(cell, dataset)
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
    found, renamed = ({_read(cell, one)[0] for cell in cells} for one in (plain, dataset))
    notes = []
    for key, names in (
        ("label_map", [name for name in dataset.label_map if name not in found]),
        ("drop_labels", [str(name) for name in dataset.drop_labels if name is not None and str(name) not in renamed]),
    ):
        if names:
            notes.append(f"{key} names values that occur in no row: {choices(repr(visible(name)) for name in names)}")
    return notes


def discover_labels(frames: Frames, dataset: Dataset) -> Dataset:
    """Return the dataset with the labels of the train rows, sorted, for a dataset with `labels: all`.

    If all are whole numbers, the labels are integers, in the order of numbers.

    Raises:
        DataError: there is no train table, it lacks the column, a label is missing, or there are fewer than two labels
            or nearly as many as rows.
    """
    if "train" not in frames:
        raise DataError("`labels: all` takes the labels from the train rows, and there are none. Name a train file.")
    frame, origin = frames["train"]
    if dataset.label not in frame.columns:
        existing = [str(name) for name in frame.columns]
        raise DataError(
            f"{origin}: there is no column '{dataset.label}', which the dataset YAML names as `label`."
            f"{nearest(dataset.label, existing)} Columns found: {choices(existing)}."
        )
    found = Counter(_read(cell, dataset) for cell in frame[dataset.label].tolist())
    names = sorted({text for text, kind in found if text is not None and not kind} - _dropped(dataset))
    if len(names) > _FEW_LABELS and 2 * len(names) > len(frame):
        raise DataError(
            f"{origin}, column '{dataset.label}': `labels: all` found {len(names)} labels in {len(frame)} rows, for "
            f"example '{visible(names[0])}'. Is this the column of the labels? If it is, write `labels` as a list."
        )
    if len(names) < 2:
        raise DataError(
            f"{origin}, column '{dataset.label}': `labels: all` found {choices(map(visible, names)) or 'no label'}; a "
            "classifier needs at least two labels."
        )
    numbers = all(map(_INTEGER.fullmatch, names))
    labels: list[Label] = sorted(map(int, names)) if numbers else list(names)
    try:
        return dataset.with_labels(labels)
    except ConfigError as error:
        raise DataError(f"{origin}, column '{dataset.label}', `labels: {ALL}`: {error}") from error


def _dropped(dataset: Dataset) -> set[str]:
    return {str(label) for label in dataset.drop_labels if label is not None}
