"""Rows: one labelled text or text pair each, made of the cells of a table; every fault names file, row and column."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from common.config.dataset import Dataset, Label
from common.core.errors import DataError, choices, nearest
from common.core.files import sha256


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One example.

    Attributes:
        id: unique within its split, from the id column or "<split>-<number>".
        texts: one text, or a pair.
        label: index into the dataset's labels, None where rows have none (prediction).
        group: topic or the like, None without a group column.
        weight: of the example in the loss, 1.0 without a weight column.
    """

    id: str
    texts: tuple[str, ...]
    label: int | None
    group: str | None = None
    weight: float = 1.0


Rows = dict[str, list[Row]]


def to_rows(frame: pd.DataFrame, dataset: Dataset, origin: str, split: str, labelled: bool = True) -> list[Row]:
    """Turn a table into rows.

    Args:
        frame: cells as found; its index is the row's number in the file.
        dataset: which columns count.
        origin: file name for messages.
        split: first part of the ids where there is no id column.
        labelled: False reads texts alone, for prediction.
    """
    wanted = {"text": dataset.text}
    if labelled:
        wanted |= {key: [name] for key in ("label", "id", "group", "weight") if (name := getattr(dataset, key))}
    for key, columns in wanted.items():
        for column in columns:
            if column not in frame.columns:
                named = [str(name) for name in frame.columns]
                raise DataError(
                    f"{origin}: there is no column '{column}', which the dataset YAML names as `{key}`."
                    f"{nearest(column, named)} Columns found: {choices(named)}."
                )
    positions = {str(label): index for index, label in enumerate(dataset.labels)}
    found: dict[str, list[Any]] = {name: frame[name].tolist() for names in wanted.values() for name in names}
    rows = []
    for number, place in enumerate(frame.index.tolist()):
        where = f"{origin}, row {place}"
        texts = tuple(read_text(found[name][number], where, name) for name in dataset.text)
        if not labelled:
            rows.append(Row(id=f"{split}-{number}", texts=texts, label=None))
            continue
        rows.append(
            Row(
                id=read_text(found[dataset.id][number], where, dataset.id) if dataset.id else f"{split}-{number}",
                texts=texts,
                label=read_label(found[dataset.label][number], positions, where, dataset.label, dataset.labels),
                group=read_text(found[dataset.group][number], where, dataset.group) if dataset.group else None,
                weight=read_weight(found[dataset.weight][number], where, dataset.weight) if dataset.weight else 1.0,
            )
        )
    if labelled and dataset.id:
        seen: dict[str, int] = {}
        for row, place in zip(rows, frame.index.tolist(), strict=True):
            if row.id in seen:
                raise DataError(
                    f"{origin}, row {place}: id '{row.id}' stands already in row {seen[row.id]}; ids are unique."
                )
            seen[row.id] = place
    return rows


def rows_fingerprint(rows: Rows) -> str:
    """Return the SHA-256 of everything in the rows: the data's identity, whatever the file format or date."""
    lines = (
        json.dumps([split, row.id, row.texts, row.label, row.group, row.weight], ensure_ascii=False)
        for split, members in rows.items()
        for row in members
    )
    return sha256("\n".join(lines).encode())


def _is_empty(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA or str(value).strip() == ""
    )


def read_text(value: Any, where: str, column: str) -> str:
    """Return a cell as text; `where` and `column` are for the message.

    Raises:
        DataError: it is empty, or no text that can be stored.
    """
    if _is_empty(value):
        raise DataError(f"{where}, column '{column}': the cell is empty; every row needs a value here.")
    text = value if isinstance(value, str) else str(_plain(value))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}, column '{column}': the text holds half a character (a lone surrogate).") from None
    return text


def _plain(value: Any) -> Any:
    """Spreadsheets and parquet keep whole numbers as floats: 3.0 means 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_label(value: Any, positions: dict[str, int], where: str, column: str, labels: Sequence[Label]) -> int:
    """Return the index of the label that a cell holds.

    Raises:
        DataError: it holds none.
    """
    index = positions.get(str(_plain(value)))
    if index is None:
        found = "an empty cell" if _is_empty(value) else f"'{_plain(value)}'"
        raise DataError(
            f"{where}, column '{column}': found {found}, which is no label.{nearest(value, labels)} "
            f"Allowed: {choices(labels)}. (A label such as 01 or null must be quoted in the YAML.)"
        )
    return index


def read_weight(value: Any, where: str, column: str) -> float:
    """Return a cell as a weight.

    Raises:
        DataError: it is no number above 0.
    """
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise DataError(f"{where}, column '{column}': found {value!r}; a weight is a number above 0.")
    return weight
