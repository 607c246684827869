"""Read table files into data frames, whole or some rows at a time.

Cells are read as they are written: csv and tsv cells stay strings, so that labels "01", "NA" or "null" do not change.
The index of a data frame is the row's number in the file, as a spreadsheet or an editor shows it.

Each format has one reader, which reads forwards: parquet by row groups; csv, tsv, txt and jsonl as streams, also
compressed. Workbooks, json and compressed parquet are loaded into memory as a whole.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.config.dataset import ReadOptions
from common.core.errors import DataError
from common.data.content import real_format
from common.data.excel_reader import ExcelReader
from common.data.fasttext_reader import FastTextReader
from common.data.format_reader import TableReader
from common.data.json_reader import JsonLinesReader, JsonReader, read_json
from common.data.parquet_reader import ParquetReader
from common.data.separated_reader import SeparatedReader
from common.data.table_files import format_of, reading

_PLAIN = ReadOptions.model_validate({})


def read_table(path: Path, options: ReadOptions = _PLAIN) -> pd.DataFrame:
    """Read a whole table file.

    Args:
        path: the file.
        options: what the dataset YAML says about the file.

    Raises:
        DataError: no such file, unknown format, or content that is not of that format.
    """
    with open_table(path, options=options) as reader:
        return reader.read()


def read_tables(path: Path, options: ReadOptions = _PLAIN) -> dict[str, pd.DataFrame]:
    """Read a file that may hold several tables: {split: table} of such a json file, else {"train": table}.

    Args and errors: as of `read_table`.
    """
    _check_file(path)
    with reading(path):
        if real_format(path) == "json":
            tables = read_json(path, options)
            return {name or "train": table for name, table in tables.items()}
    return {"train": read_table(path, options)}


def _check_file(path: Path) -> None:
    format_of(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")


@contextlib.contextmanager
def open_table(
    path: Path, columns: Sequence[str] | None = None, options: ReadOptions = _PLAIN
) -> Iterator[TableReader]:
    """Open a table file for reading forwards; yields its reader.

    Args:
        path: the file.
        columns: those to read, in this order; None for all.
        options: what the dataset YAML says about the file.

    Raises:
        DataError: no such file, unknown format, or content that is not of that format; `read` and `skip` raise it, too.
    """
    _check_file(path)
    with reading(path):
        reader = _open(path, columns, options)
    try:
        yield reader
    finally:
        reader.close()


def _open(path: Path, columns: Sequence[str] | None, options: ReadOptions) -> TableReader:
    name = real_format(path)
    readers: dict[str, Any] = {
        **{"jsonl": JsonLinesReader, "json": JsonReader, "fasttext": FastTextReader, "xlsx": ExcelReader}
    }
    if name == "parquet":
        return ParquetReader(path, columns)
    if name == "xls":
        from common.data.xls_reader import XlsReader

        return XlsReader(path, columns, options)
    if name in ("xlsb", "ods"):
        from common.data.calamine_reader import CalamineReader

        return CalamineReader(path, columns, options)
    return readers[name](path, columns, options) if name in readers else SeparatedReader(path, columns, options, name)
