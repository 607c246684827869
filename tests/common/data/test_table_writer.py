import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hard_table import FORMATS, TABLE
from openpyxl import Workbook, load_workbook

from common.core.errors import DataError
from common.data.table_chain import ChainedReader
from common.data.table_reader import read_table
from common.data.table_writer import TableWriter, common_schema, write_table

WORDS = ["01", "NA", "null", "None", "nan", "", "#N/A", "1e5", "TRUE", "007", "n/a"]
TEXTS = [
    "=1+1",
    "+1",
    "comma, tab\tand 'quotes' \"doubled\"",
    " spaces ",
    "two\nlines",
    "naïve – 中文 😀",
    "one\u2028two\x85three",
    "_x000D_",
    "#hash",
]


@pytest.mark.parametrize("ending", FORMATS)
def test_texts_come_back_as_they_were(tmp_path, ending):
    frame = pd.DataFrame({"text": WORDS + TEXTS})
    write_table(tmp_path / f"rows.{ending}", frame)
    assert read_table(tmp_path / f"rows.{ending}")["text"].tolist() == WORDS + TEXTS


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if "xlsx" not in ending])
def test_control_characters_and_carriage_returns_survive(tmp_path, ending):
    texts = ["bell\x07", "bare\rreturn", "both\r\nends", "plain"]
    write_table(tmp_path / f"rows.{ending}", pd.DataFrame({"text": texts, "n": range(4)}))
    found = read_table(tmp_path / f"rows.{ending}")
    assert found["text"].tolist() == texts
    assert [int(number) for number in found["n"]] == [0, 1, 2, 3]


def test_control_characters_are_escapes_in_xlsx(tmp_path):
    """As spreadsheet programs write and read them: ST_Xstring."""
    texts = ["a\x07b", "a\x00b", "a\r\nb", "_x000D_", "_x005F_x000D_", "_x00GG_", "\uffff"]
    write_table(tmp_path / "a.xlsx", pd.DataFrame({"text": texts}))
    stored = [row[0].value for row in load_workbook(tmp_path / "a.xlsx").active.iter_rows(min_row=2)]
    assert stored[0] == "a_x0007_b" and stored[3] == "_x005F_x000D_"
    assert read_table(tmp_path / "a.xlsx")["text"].tolist() == texts


def test_escapes_of_other_programs_are_read(tmp_path):
    book = Workbook()
    for text in ("text", "one_x000D_\ntwo", "_x005F_x000d_", "_xD83D_"):
        book.active.append([text])
    book.save(tmp_path / "a.xlsx")
    assert read_table(tmp_path / "a.xlsx")["text"].tolist() == ["one\r\ntwo", "_x000d_", "_xD83D_"]


def test_a_text_with_an_equals_sign_is_no_formula(tmp_path):
    write_table(tmp_path / "a.xlsx", pd.DataFrame({"=h": ["=1+1"]}))
    cells = [row[0] for row in load_workbook(tmp_path / "a.xlsx").active.iter_rows()]
    assert [(cell.value, cell.data_type) for cell in cells] == [("=h", "s"), ("=1+1", "s")]


@pytest.mark.parametrize("name", ["a.xlsx", "a.jsonl", "a.parquet"])
def test_numbers_stay_numbers(tmp_path, name):
    frame = pd.DataFrame({"whole": [1, 2], "part": [0.125, 1 / 3]})
    write_table(tmp_path / name, frame)
    found = read_table(tmp_path / name)
    assert found["whole"].tolist() == [1, 2]
    assert found["part"].tolist() == pytest.approx([0.125, 1 / 3], abs=1e-14)


@pytest.mark.parametrize("ending", FORMATS)
def test_the_same_table_gives_the_same_texts_and_columns_without_rows(tmp_path, ending):
    write_table(tmp_path / f"rows.{ending}", pd.DataFrame({"b": ["x"], "a": ["y"]}))
    assert list(read_table(tmp_path / f"rows.{ending}").columns) == ["b", "a"]


def test_gzip_is_deterministic(tmp_path):
    frame = pd.DataFrame({"a": ["x"] * 99})
    for name in ("1.csv.gz", "2.csv.gz"):
        write_table(tmp_path / name, frame)
    assert (tmp_path / "1.csv.gz").read_bytes() == (tmp_path / "2.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "1.csv.gz").read_bytes()).startswith(b'"a"\nx\n')


@pytest.mark.parametrize(
    ("name", "frame", "problem"),
    [
        ("a.xlsx", pd.DataFrame({"a": ["ok", "x" * 32_768]}), "row 3 has a text of 32768 characters"),
        ("a.xlsx", pd.DataFrame({"a": [["a list"]]}), "Cannot convert"),
        ("a.parquet", pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}), "column a"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, frame, problem):
    with pytest.raises(DataError, match=problem):
        write_table(tmp_path / name, frame)
    assert list(tmp_path.iterdir()) == []


def append(path, *parts, schema=None):
    with TableWriter(path, schema) as output:
        for part in parts:
            output.append(part)
        assert not path.exists()
    return output.rows


@pytest.mark.parametrize("ending", FORMATS)
def test_appended_chunks_are_the_whole(tmp_path, ending, monkeypatch):
    monkeypatch.setattr("common.data.table_writer.PARQUET_ROW_GROUP_ROWS", 5)
    frame = TABLE.assign(number=np.arange(8) / 7)
    write_table(tmp_path / f"whole.{ending}", frame)
    schema = pa.schema([*((name, pa.string()) for name in TABLE.columns), ("number", pa.float64())])
    path = tmp_path / f"parts.{ending}"
    assert append(path, frame.iloc[:0], frame.iloc[:3], frame.iloc[3:7], frame.iloc[7:], schema=schema) == 8
    pd.testing.assert_frame_equal(read_table(path), read_table(tmp_path / f"whole.{ending}"))
    if ending in ("csv", "tsv", "jsonl"):
        assert path.read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"whole.{ending}"]


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_is_left_of_a_failure(tmp_path, ending):
    schema = pa.schema([(name, pa.string()) for name in TABLE.columns])
    with (
        pytest.raises(RuntimeError),
        TableWriter(tmp_path / f"a.{ending}", schema) as output,
    ):
        output.append(TABLE)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_carriage_return_in_one_chunk(tmp_path):
    parts = [pd.DataFrame({"a": ["x"], "n": [1]}), pd.DataFrame({"a": ["bare\rreturn"], "n": [2]})]
    append(tmp_path / "a.csv", *parts)
    assert read_table(tmp_path / "a.csv")["a"].tolist() == ["x", "bare\rreturn"]


def test_the_types_of_a_parquet_output(tmp_path):
    one, other = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    one.write_text('{"a": 1, "b": null}\n{"a": 2.5, "c": [1]}\n')
    other.write_text('{"a": 3, "b": "x"}\n')
    found = common_schema([(one, 2), (other, 1)], ["a", "b", "c"], tmp_path / "o.parquet")
    assert found == pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.list_(pa.int64()))])
    other.write_text('{"a": "word"}\n')
    with pytest.raises(DataError, match=r"o\.parquet: cannot be written as parquet: .*2\.jsonl differs"):
        common_schema([(one, 2), (other, 1)], ["a", "b", "c"], tmp_path / "o.parquet")
    one.write_text('{"a": "word"}\n{"a": 1}\n')
    with pytest.raises(DataError, match=r"o\.parquet: cannot be written as parquet"):
        common_schema([(one, 2)], ["a"], tmp_path / "o.parquet")


def test_parquet_keeps_its_own_types(tmp_path):
    table = pa.table(
        {
            "n": pa.array([1, None], pa.int16()),
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "t": pa.array([1, 2], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    files = [(tmp_path / "a.parquet", 2)]
    schema = common_schema(files, table.column_names, tmp_path / "o.parquet")
    with ChainedReader(files, table.column_names) as chain:
        append(tmp_path / "o.parquet", *chain.arrow_tables(0, 1), *chain.arrow_tables(1, 2), schema=schema)
    assert pq.read_table(tmp_path / "o.parquet").equals(table)
