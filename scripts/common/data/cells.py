"""Read one cell of a table as a text or a weight; an error names file, row and column."""

import math
from typing import Any

import pandas as pd

from common.core.errors import DataError


def is_missing(value: Any) -> bool:
    """Return whether a cell has no value: None, NaN, or a text of spaces; the words "None" and "nan" are values."""
    return (pd.api.types.is_scalar(value) and bool(pd.isna(value))) or str(value).strip() == ""


def read_text(value: Any, where: str, column: str) -> str:
    """Return a cell as text.

    Args:
        value: the cell.
        where: file and row, for the message.
        column: its name, for the message.

    Raises:
        DataError: the cell is empty, or its text cannot be stored as UTF-8.
    """
    if is_missing(value):
        raise DataError(f"{where}, column '{column}': the cell is empty; every row needs a value here.")
    text = value if isinstance(value, str) else str(whole_number(value))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}, column '{column}': the text contains half a character (a lone surrogate).") from None
    return text


def whole_number(value: Any) -> Any:
    """Return 3 for 3.0: spreadsheets and parquet store whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_weight(value: Any, where: str, column: str) -> float:
    """Return a cell as a weight; `where` and `column` are for the message.

    Raises:
        DataError: the cell is not a number above 0.
    """
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise DataError(f"{where}, column '{column}': found {value!r}; a weight is a number above 0.")
    return weight
