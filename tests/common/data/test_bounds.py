"""Files of a few kilobytes that unfold to gigabytes: one line within bounded memory, never a MemoryError."""

import bz2
import gzip
import io
import json
import lzma
import resource
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from marks import slow_except

from common.core import yaml_io
from common.core.errors import ConfigError, DataError
from common.data import bounds
from common.data.table_reader import read_table
from common.data.table_writer import write_table


def refused(path, words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=words) as caught:
        read_table(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1_500_000, f"{grown} kB"


SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


def workbook(path, rows: str) -> None:
    """A workbook whose only sheet has these rows, as XML."""
    write_table(path, pd.DataFrame({"a": ["x"]}))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, SHEET.format(rows) if name.endswith("sheet1.xml") else content)


def test_a_small_workbook_of_very_many_cells(tmp_path, monkeypatch):
    """Every row has one cell, far to the right; openpyxl fills the row up to it."""
    monkeypatch.setattr(bounds, "MAX_SHEET_CELLS", 2_000_000)
    path = tmp_path / "wide.xlsx"
    workbook(path, "".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 400)))
    assert path.stat().st_size < 10_000
    refused(path, r"it has 123 rows of 16,384 columns; at most 2,000,000 cells are read")


def test_a_workbook_that_unfolds_to_very_much(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_UNFOLDED_BYTES", 10_000_000)
    path = tmp_path / "long.xlsx"
    workbook(path, " " * 11_000_000)
    assert path.stat().st_size < 20_000
    refused(path, "it unfolds to 0.0 GB; at most 0.0 GB are read")


@pytest.mark.parametrize("ending", slow_except(["gz"], ["gz", "bz2", "xz", "zip"]))
def test_a_compressed_file_that_unfolds_to_very_much(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(bounds, "FREE_BYTES", 2_000_000)
    monkeypatch.setattr(bounds, "MAX_RATIO", 100)
    path, content = tmp_path / f"a.csv.{ending}", b"text,label\n" + b"aaaaaaaa,b\n" * 400_000
    if ending == "gz":
        path.write_bytes(gzip.compress(content))
    elif ending == "xz":
        path.write_bytes(lzma.compress(content))
    elif ending == "bz2":
        path.write_bytes(bz2.compress(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", content)
    refused(path, "it unfolds to more than 0.0 GB, 100 times its size; unpack it first")


@pytest.mark.parametrize("ending", ["csv.gz", "csv.bz2", "csv.xz", "csv.zip"])
def test_what_compresses_well_is_read(tmp_path, ending):
    content = "text,label\n" + "aaaaaaaa,b\n" * 10_000
    pd.read_csv(io.StringIO(content)).to_csv(tmp_path / f"a.{ending}", index=False)
    assert len(read_table(tmp_path / f"a.{ending}")) == 10_000


def test_records_with_a_key_of_their_own_each(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({f"key{n}": 1}) for n in range(20_000)))
    refused(path, "columns; at most 16,384 are read")


def test_a_header_of_very_many_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{n}" for n in range(20_000)) + "\n" + ",".join("x" * 20_000) + "\n")
    refused(path, "it has 20,000 columns")


def test_a_small_parquet_file_of_very_many_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_CELLS", 1_000_000)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.nulls(2_000_000, pa.string())}), path)
    assert path.stat().st_size < 10_000
    refused(path, "it has 2,000,000 rows of 1 columns")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_that_is_nested_very_deeply(tmp_path, name):
    (tmp_path / name).write_text('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}")
    refused(tmp_path / name, "cannot be read")


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zip"])
def test_a_compressed_workbook_is_read(tmp_path, compression):
    """A workbook is read from its end, so that its stream must go back."""
    write_table(tmp_path / "a.xlsx", pd.DataFrame({"a": ["x", "y"]}))
    content, path = (tmp_path / "a.xlsx").read_bytes(), tmp_path / f"b.xlsx.{compression}"
    if compression == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("b.xlsx", content)
    else:
        path.write_bytes({"gz": gzip, "bz2": bz2, "xz": lzma}[compression].compress(content))
    assert read_table(path)["a"].tolist() == ["x", "y"]


# --- YAML -----------------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "with its aliases .* it has more than 1,000,000 values"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply; at most 50 levels"),
        pytest.param("a: " + "[" * 3_000 + "]" * 3_000, "nested too deeply", marks=pytest.mark.slow),
        ("a: " + "{b: " * 3_000 + "1" + "}" * 3_000, "nested too deeply"),
        ("a: " + "x" * 10_000_001, "10,000,004 characters"),
    ],
)
def test_yaml(text, words):
    with pytest.raises(ConfigError, match=f"a.yaml: .*{words}"):
        yaml_io.parse(text, "a.yaml")


def test_yaml_with_aliases_and_levels_as_people_write_them():
    assert yaml_io.parse("a: &a {b: [1, 2]}\nc: *a\n", "a.yaml") == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
