"""Bounds on what a table file may unfold to: a few kilobytes can hold more cells than a machine has memory for."""

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

MAX_COLUMNS = 16_384  # as many as a sheet of xlsx
MAX_CELLS = 100_000_000  # rows times columns of a table in memory: 0.8 GB of pointers alone
MAX_SHEET_CELLS = 50_000_000  # openpyxl fills every row up to its last cell
MAX_UNFOLDED_BYTES = 4 * 2**30  # of a workbook's XML, all sheets together
MAX_RATIO = 2_000  # decompressed to compressed size; gzip cannot have more than 1,032
FREE_BYTES = 2**30  # whatever the ratio


def check_cells(rows: int, columns: int, most: int | None = None) -> None:
    """Raise a `ValueError` where a table has more columns or cells than fit into memory."""
    most = MAX_CELLS if most is None else most
    if columns > MAX_COLUMNS:
        raise ValueError(f"it has {columns:,} columns; at most {MAX_COLUMNS:,} are read")
    if rows * columns > most:
        raise ValueError(
            f"it has {rows:,} rows of {columns:,} columns; at most {most:,} cells are read. Save the columns that "
            "are needed, and empty cells far to the right or below removed, as a file of their own"
        )


def bounded(rows: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Iterate over the rows of a sheet; raises as `check_cells` as soon as they are too many."""
    count = widest = 0  # of rows with cells: that a value stands far below the others is said when all are read
    for row in rows:
        count, widest = count + bool(row), max(widest, len(row))
        check_cells(count, widest, MAX_SHEET_CELLS)
        yield row


def count_keys(records: Sequence[Any]) -> None:
    """Raise as `check_cells` for records (mappings by column) whose table would be too large."""
    names: set[Any] = set()
    for record in records:
        names.update(record)
        if len(names) > MAX_COLUMNS:
            break
    check_cells(len(records), len(names))


def check_workbook(content: bytes) -> None:
    """Raise a `ValueError` where the members of a workbook, which is a zip file, unfold to too much."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(member.file_size for member in archive.infolist())  # no more is ever read of a member
    if size > MAX_UNFOLDED_BYTES:
        raise ValueError(f"it unfolds to {size / 1e9:,.1f} GB; at most {MAX_UNFOLDED_BYTES / 1e9:,.1f} GB are read")


class Unfolding(io.RawIOBase):
    """A stream that decompresses, and refuses a file that unfolds to very much more than it has.

    Args:
        stream: the decompressed content.
        size: bytes of the compressed file.
    """

    def __init__(self, stream: Any, size: int) -> None:
        self._stream, self._limit, self._place = stream, max(FREE_BYTES, MAX_RATIO * size), 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the decompressed content can be read again."""
        return bool(self._stream.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the decompressed content, and return it."""
        self._place = int(self._stream.seek(offset, whence))
        return self._place

    def tell(self) -> int:
        """Return the place in the decompressed content."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer and return the number of bytes.

        Raises:
            ValueError: the limit is reached.
        """
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        if self._place > self._limit:
            raise ValueError(
                f"it unfolds to more than {self._limit / 1e9:,.1f} GB, {MAX_RATIO:,} times its size; unpack it first "
                "if it is meant"
            )
        return len(content)

    def close(self) -> None:
        """Close both streams."""
        self._stream.close()
        super().close()
