"""Read one cell of a table as a text or a weight; an error names file, row and column."""

import math
from typing import Any

import numpy as np
import pandas as pd

from common.core.errors import DataError
from common.core.formatting import shortened
from common.data.sheet_cells import BrokenCell
from common.data.visible_text import is_blank, visible

_SHOWN_CHARACTERS = 120  # of a cell in a message


def is_missing(value: Any) -> bool:
    """Return whether a cell has no value: None, NaN, or a text of spaces; the words "None" and "nan" are values."""
    return (pd.api.types.is_scalar(value) and bool(pd.isna(value))) or str(value).strip() == ""


def read_text(value: Any, where: str, column: str, join_lists: bool = False) -> str:
    """Return a cell as text.

    Args:
        value: the cell.
        where: file and row, for the message.
        column: its name, for the message.
        join_lists: whether a list of words is read as the words with spaces between them.

    Raises:
        DataError: the cell is empty, has nothing that can be seen, is no text (bytes, a list, an object), or cannot
            be stored as UTF-8.
    """
    if type(value) is not str:
        value = _as_text(value, where, column, join_lists)
    if is_missing(value):
        raise DataError(f"{where}, column '{column}': the cell is empty; every row needs a value here.")
    if is_blank(value):
        found = shortened(visible(value), _SHOWN_CHARACTERS)
        raise DataError(f"{where}, column '{column}': the cell has invisible characters only, {found}.")
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
    return "" if is_missing(value) else str(whole_number(value))


def whole_number(value: Any) -> Any:
    """Return 3 for 3.0: spreadsheets and parquet store whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_weight(value: Any, where: str, column: str) -> float:
    """Return a cell as a weight; `where` and `column` are for the message.

    Raises:
        DataError: the cell is not a number above 0.
    """
    if isinstance(value, BrokenCell):
        raise DataError(f"{where}, column '{column}': {value.problem}.")
    try:
        weight = math.nan if isinstance(value, bool | np.bool_) else float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        found = shortened(repr(value), _SHOWN_CHARACTERS)
        raise DataError(f"{where}, column '{column}': found {found}; a weight is a number above 0.")
    return weight
