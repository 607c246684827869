"""Choose the sheet of a workbook, and turn its rows into a table."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config.dataset import ReadOptions
from common.core.errors import choices, nearest
from common.data.format_reader import check_distinct_columns
from common.data.notes import say_once

_EMPTY_ROWS = 10_000  # the most in the middle of a table


def choose_sheet(
    path: Path, sheets: Sequence[tuple[str, bool]], asked: str | None, has_rows: Callable[[str], bool]
) -> str:
    """Return the name of the sheet to read: that of the YAML, or the only visible one with rows.

    Args:
        path: the workbook, for the note.
        sheets: (name, whether it is visible), in order.
        asked: `source.sheet`.
        has_rows: whether a sheet has rows below its first.

    Raises:
        ValueError: there is no such sheet, or several have rows.
    """
    names = [name for name, _ in sheets]
    if asked is not None:
        if asked not in names:
            raise ValueError(f"there is no sheet '{asked}'.{nearest(asked, names)} Its sheets: {choices(names)}")
        return asked
    if not sheets:
        raise ValueError("it has no sheet with cells")
    if len(sheets) == 1:
        return names[0]
    filled = [(name, visible) for name, visible in sheets if has_rows(name)]
    shown = [name for name, visible in filled if visible]
    if len(shown) > 1:
        raise ValueError(
            f"it has {len(shown)} sheets with rows: {choices(shown)}; name one as `sheet:` below `source:` in the "
            "dataset YAML, or save each as a file of its own"
        )
    chosen = (shown or [name for name, _ in filled] or names)[0]
    if hidden := [name for name, visible in filled if not visible and name != chosen]:
        say_once(f"{path}: sheet '{chosen}' is read; hidden sheets with rows are not: {choices(hidden)}")
    return chosen


def has_rows(rows: Iterable[Sequence[Any]], options: ReadOptions) -> bool:
    """Return whether a sheet has rows below its header; None is an empty cell."""
    below = itertools.islice(rows, options.skip_rows, None)
    filled = (row for row in below if any(cell is not None for cell in row))
    needed = 1 if options.header else 2  # a header row has no values of its own
    return len(list(itertools.islice(filled, needed))) == needed


def say_hidden_rows(path: Path, sheet: str, hidden: Sequence[int]) -> None:
    """Say which rows of a sheet are hidden, if any; `hidden` are their numbers."""
    if hidden:
        numbers = choices(hidden, 5)
        rows, are = ("row", "is") if len(hidden) == 1 else ("rows", "are")
        say_once(f"{path}: {len(hidden)} hidden {rows} of sheet '{sheet}' {are} read like the others: {numbers}")


def sheet_frame(rows: Iterable[Sequence[Any]], options: ReadOptions, first: int = 1) -> pd.DataFrame:
    """Return the rows of a sheet as a table; its index is the row's number in the sheet.

    An empty cell is "". Rows without a value are kept where others follow. Columns without a name are kept where they
    have a value.

    Args:
        rows: the cells of every row of the sheet, of any length; None is an empty cell.
        options: what the dataset YAML says.
        first: the number of the first row.

    Raises:
        ValueError: there is no header row, a name occurs twice, or a value stands far below the others.
    """
    names: list[str] | None = options.header
    index: list[int] = []
    kept: list[tuple[Any, ...]] = []
    empty = 0  # rows since the last with a value
    further: dict[int, dict[int, Any]] = {}  # {column: {place in `kept`: value}}, right of the header
    for number, cells in enumerate(rows, start=first):
        if number < first + options.skip_rows:
            continue
        if names is None:
            names = [_name(cell) for cell in cells]
            while names and not names[-1]:
                names.pop()
            if not names:
                raise ValueError(
                    f"row {number} is empty, so there is no header row; set `skip_rows:` below `source:` in the "
                    "dataset YAML where the header is further down"
                )
            check_distinct_columns([name for name in names if name])
            continue
        filled = [place for place, cell in enumerate(cells) if cell is not None]
        if not filled:
            empty += 1
            continue
        if empty > _EMPTY_ROWS:
            raise ValueError(
                f"row {number} has a value, after {empty:,} empty rows; delete the rows below the table in the "
                "spreadsheet program"
            )
        kept += [("",) * len(names)] * empty
        index += range(number - empty, number)
        empty = 0
        for place in filled:
            if place >= len(names):
                further.setdefault(place, {})[len(kept)] = cells[place]
        row = ["" if cell is None else cell for cell in cells[: len(names)]]
        kept.append((*row, *[""] * (len(names) - len(row))))
        index.append(number)
    if names is None:
        raise ValueError("there is no header row")
    frame = pd.DataFrame(
        kept, columns=[name or f"Unnamed: {place}" for place, name in enumerate(names)], index=index, dtype=object
    )
    for place, values in sorted(further.items()):
        frame[f"Unnamed: {place}"] = pd.Series(
            [values.get(number, "") for number in range(len(kept))], index=frame.index, dtype=object
        )
    return frame


def _name(cell: Any) -> str:
    """Return a cell of the header as a name: 2023, also where it is stored as 2023.0, is "2023"."""
    if cell is None:
        return ""
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)
