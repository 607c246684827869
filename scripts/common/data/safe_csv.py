"""Cells of csv and tsv files that a spreadsheet program would run as formulas.

Excel and LibreOffice take a cell that begins with = + - @ (or a tab or a carriage return) for a formula when they open
a csv file, in quotes, too (OWASP, "CSV Injection"). An apostrophe before it makes them show the text. A number, and a
sign alone, is no formula.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def is_formula(cell: Any) -> bool:
    """Return whether a spreadsheet program would run a cell as a formula."""
    if not isinstance(cell, str) or not cell.startswith(_BEGINNINGS) or len(cell) == 1:
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def without_formulas(cells: Iterable[Any]) -> list[Any]:
    """Return cells with an apostrophe before each that is a formula."""
    return [f"'{cell}" if is_formula(cell) else cell for cell in cells]


class Formulas:
    """Counts the formulas among the cells of a user's own columns, which are written as they are."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, frame: pd.DataFrame, columns: Sequence[str]) -> None:
        """Count those of some columns."""
        for column in columns:
            found = [cell for cell in frame[column] if is_formula(cell)]
            if found and not self.count:
                self.first = f"column '{column}': {found[0][:40]!r}"
            self.count += len(found)

    def note(self, output: object) -> str:
        """Return what a person who opens the output should know, "" where there is nothing."""
        if not self.count:
            return ""
        return (
            f"{output}: {self.count:,} cells of the input's own columns begin with = + - or @ and are written as they "
            f"are ({self.first}). A spreadsheet program may run them as formulas: import these columns as text, or "
            "write xlsx."
        )
