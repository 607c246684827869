"""Find table files (xlsx, csv, tsv, jsonl, parquet, each also as .gz) and tell their format from their names."""

import contextlib
import csv
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import ParseError

from common.config.dataset import SPLITS
from common.core.errors import DataError, choices

FORMATS = ("xlsx", "csv", "tsv", "jsonl", "parquet")
SEPARATORS = {"csv": ",", "tsv": "\t"}
_SPLIT_FILES = {split: (split,) for split in SPLITS} | {"validation": ("validation", "val", "dev")}


def format_of(path: Path) -> tuple[str, bool]:
    """Return a file's format and whether it is gzipped, from its name.

    Raises:
        DataError: the ending is none of `FORMATS`.
    """
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    gzipped = bool(suffixes) and suffixes[-1] == "gz"
    name = (suffixes[:-1] if gzipped else suffixes)[-1:]
    if not name or name[0] not in FORMATS:
        raise DataError(f"{path}: unknown file format; allowed endings: {choices(FORMATS)}, each also with .gz.")
    return name[0], gzipped


def find_split_files(folder: Path) -> dict[str, Path]:
    """Return {split: file} for the {train,validation,test}.<format> files of a folder; val and dev mean validation.

    Raises:
        DataError: no such folder, no such file in it, or two files for one split.
    """
    if not folder.is_dir():
        raise DataError(f"DATA_DIR={folder}: there is no such folder.")
    found: dict[str, Path] = {}
    for split in SPLITS:
        candidates = [
            folder / f"{word}.{name}{end}" for word in _SPLIT_FILES[split] for name in FORMATS for end in ("", ".gz")
        ]
        present = [path for path in candidates if path.is_file()]
        if len(present) > 1:
            raise DataError(
                f"DATA_DIR={folder}: found both {present[0].name} and {present[1].name} for one split; keep one."
            )
        if present:
            found[split] = present[0]
    if not found:
        raise DataError(
            f"DATA_DIR={folder}: no split found; allowed are {{train,validation,test}}.<format> (validation may also "
            f"be called val or dev) with format {choices(FORMATS)}."
        )
    return found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the errors of a file whose content does not have its format into a `DataError` that names the file."""
    try:
        yield
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error, ParseError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as {format_of(path)[0]}: {_reason(error)}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of cells that a file's format cannot hold into a `DataError` that names the file."""
    try:
        yield
    except (ValueError, TypeError) as error:  # parquet: one type per column; xlsx: no lists, at most 1,048,576 rows
        raise DataError(f"{path}: cannot be written as {format_of(path)[0]}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    # Some libraries quote the broken bytes at length.
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
