"""Turn the cells of a table into rows (texts, label, id, group, weight); errors name file, row and column."""

import dataclasses
import json
from typing import Any

import pandas as pd

from common.config.dataset import Dataset, Folds
from common.core.errors import DataError
from common.core.files import sha256
from common.data.cells import read_text, read_weight
from common.data.labels import DROPPED, no_column, read_labels


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One example.

    Attributes:
        id: unique within its split, from the id column or "<split>-<number>".
        texts: one text, or a pair.
        label: index of the label in the dataset's `labels`, None for rows to predict.
        group: value of the group column, such as the topic, None without one.
        weight: weight of the example in the loss, 1.0 without a weight column.
    """

    id: str
    texts: tuple[str, ...]
    label: int | None
    group: str | None = None
    weight: float = 1.0


Rows = dict[str, list[Row]]


class LoadedRows(Rows):
    """The rows by split, and what was found out about them while they were read.

    Attributes:
        dataset: with the labels of the rows, also where its YAML says `labels: all`.
        dropped_rows_count: {split: rows that `drop_labels` left out}; empty without `drop_labels`.
        folds: how the rows are divided into folds, None where they are not.
        notes: sentences for the user about what was done with the rows.
        file_notes: sentences about how the files were read, such as their separator; printed while they were read.
    """

    def __init__(self, rows: Rows, dataset: Dataset) -> None:
        super().__init__(rows)
        self.dataset = dataset
        self.dropped_rows_count: dict[str, int] = {}
        self.folds: Folds | None = None
        self.notes: list[str] = []
        self.file_notes: list[str] = []


def to_rows(frame: pd.DataFrame, dataset: Dataset, origin: str, split: str, labelled: bool = True) -> list[Row]:
    """Turn a table into rows, without those whose label is among the dataset's `drop_labels`.

    Args:
        frame: cells as `read_table` returns them; the index is the row's number in the file.
        dataset: names the columns to read.
        origin: the file that messages name.
        split: first part of the ids, for a dataset without an id column.
        labelled: False: read the texts only, for prediction.

    Raises:
        DataError: a column is missing, a cell is empty or not allowed, or an id occurs twice.
    """
    columns_of = {"text": dataset.text}
    if labelled:
        columns_of |= {key: [name] for key in ("label", "id", "group", "weight") if (name := getattr(dataset, key))}
    for key, columns in columns_of.items():
        for column in columns:
            if column not in frame.columns:
                raise no_column(frame, origin, column, key, dataset)
    labels = read_labels(frame, dataset, origin) if labelled else []
    cells: dict[str, list[Any]] = {name: frame[name].tolist() for names in columns_of.values() for name in names}
    join_lists = dataset.source.join_lists
    rows, kept = [], []  # and their places
    for number, place in enumerate(frame.index.tolist()):
        if labelled and labels[number] == DROPPED:
            continue
        where = f"{origin}, row {place}"
        texts = tuple(read_text(cells[name][number], where, name, join_lists) for name in dataset.text)
        if not labelled:
            rows.append(Row(id=f"{split}-{number}", texts=texts, label=None))
            continue
        kept.append(place)
        rows.append(
            Row(
                id=read_text(cells[dataset.id][number], where, dataset.id) if dataset.id else f"{split}-{number}",
                texts=texts,
                label=labels[number],
                group=read_text(cells[dataset.group][number], where, dataset.group) if dataset.group else None,
                weight=read_weight(cells[dataset.weight][number], where, dataset.weight) if dataset.weight else 1.0,
            )
        )
    if labelled and dataset.id:
        seen: dict[str, int] = {}
        for row, place in zip(rows, kept, strict=True):
            if row.id in seen:
                raise DataError(
                    f"{origin}, row {place}: id '{row.id}' occurs already in row {seen[row.id]}; ids must be unique."
                )
            seen[row.id] = place
    return rows


def rows_fingerprint(rows: Rows) -> str:
    """Return the SHA-256 of all rows; it does not depend on the file format or date."""
    lines = (
        json.dumps([split, row.id, row.texts, row.label, row.group, row.weight], ensure_ascii=False)
        for split, members in rows.items()
        for row in members
    )
    return sha256("\n".join(lines).encode())
