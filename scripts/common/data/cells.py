"""One cell of a table as a text, a label or a weight; a fault names file, row, column, what is there and allowed."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from common.config.job import Label
from common.core.errors import DataError, choices, nearest


def _is_empty(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA or str(value).strip() == ""
    )


def text(value: Any, where: str, column: str) -> str:
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


def label(value: Any, positions: dict[str, int], where: str, column: str, labels: Sequence[Label]) -> int:
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


def weight(value: Any, where: str, column: str) -> float:
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
