"""Read one cell of a table as a text, a label or a weight; an error names file, row and column."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from common.config.dataset import Label
from common.core.errors import DataError, choices, nearest
from common.core.formatting import shortened
from common.data.sheet_cells import BrokenCell

_SHOWN_CHARACTERS = 120  # of a cell in a message


def _is_empty(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA or str(value).strip() == ""
    )


def read_text(value: Any, where: str, column: str, join_lists: bool = False) -> str:
    """Return a cell as text.

    Args:
        value: the cell.
        where: file and row, for the message.
        column: its name, for the message.
        join_lists: whether a list of words is read as the words with spaces between them.

    Raises:
        DataError: the cell is empty, is no text (bytes, a list, an object), or cannot be stored as UTF-8.
    """
    if type(value) is not str:
        value = _as_text(value, where, column, join_lists)
    if _is_empty(value):
        raise DataError(f"{where}, column '{column}': the cell is empty; every row needs a value here.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}, column '{column}': the text contains half a character (a lone surrogate).") from None
    return str(value)


def _as_text(value: Any, where: str, column: str, join_lists: bool) -> str:
    """Return a cell that is no string as one; "" for an empty cell."""
    if isinstance(value, BrokenCell):
        raise DataError(f"{where}, column '{column}': {value.problem}.")
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):  # parquet's lists
        value = value.tolist()
    if isinstance(value, list | tuple) and join_lists and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if isinstance(value, bytes | bytearray | list | tuple | dict):
        found = {bytes: "bytes", bytearray: "bytes", dict: "an object"}.get(type(value), "a list")
        remedy = " (`join_lists: true` below `source:` in the dataset YAML joins lists of words)"
        raise DataError(
            f"{where}, column '{column}': found {found}, not a text: {shortened(repr(value), _SHOWN_CHARACTERS)}; save "
            f"the column as texts{remedy if found == 'a list' and not join_lists else ''}."
        )
    return "" if _is_empty(value) else str(_plain(value))


def _plain(value: Any) -> Any:
    """Return 3 for 3.0: spreadsheets and parquet store whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_label(value: Any, positions: dict[str, int], where: str, column: str, labels: Sequence[Label]) -> int:
    """Read a label cell: return the index of its label in the dataset's `labels`.

    The cell must be exactly a label of the YAML file, compared as text: case and spaces count. 3.0 is read as "3".

    Args:
        value: the cell.
        positions: {label as text: index}.
        where: file and row, for the message.
        column: its name, for the message.
        labels: the allowed labels, for the message.

    Raises:
        DataError: the cell is empty or is not one of the labels.
    """
    if isinstance(value, BrokenCell):
        raise DataError(f"{where}, column '{column}': {value.problem}.")
    index = positions.get(str(_plain(value)))
    if index is None:
        found = "an empty cell" if _is_empty(value) else f"'{shortened(str(_plain(value)), _SHOWN_CHARACTERS)}'"
        raise DataError(
            f"{where}, column '{column}': found {found}, which is not a label.{nearest(value, labels)} "
            f"Allowed: {choices(labels)}. (A label such as 01 or null must be quoted in the YAML.)"
        )
    return index


def read_weight(value: Any, where: str, column: str) -> float:
    """Return a cell as a weight; `where` and `column` are for the message.

    Raises:
        DataError: the cell is not a number above 0.
    """
    if isinstance(value, BrokenCell):
        raise DataError(f"{where}, column '{column}': {value.problem}.")
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        found = shortened(repr(value), _SHOWN_CHARACTERS)
        raise DataError(f"{where}, column '{column}': found {found}; a weight is a number above 0.")
    return weight
